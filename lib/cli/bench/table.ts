// A bench's result for people.
import type { BenchResult } from "../commands/bench.js";
import { bytes, plural } from "../terminal.js";
import type { Figure } from "./figures.js";

const number = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const shown = (unit: Figure["unit"], value: number) => (unit === "bytes" ? bytes(value) : number(value));

export function table({ model, settings, limits, figures }: BenchResult): string {
  const giga = (value: number) => number(value / 1e9);
  const rows = figures.map(({ name, unit, value, low, high, floor, share }) => [
    name,
    unit === "bytes" ? bytes(value) : `${number(value)} ${unit}`,
    `${shown(unit, low)} – ${shown(unit, high)}`,
    shown(unit, floor.value),
    `${Math.round(100 * share)}%`,
    floor.by,
  ]);
  const all = [["", "median", "rounds", "floor", "share", "limited by"], ...rows];
  const widths = all[0]!.map((_, column) => Math.max(...all.map((row) => row[column]!.length)));
  const lines = all.map((row) =>
    row
      .map((cell, column) =>
        column === 0 || column === 5 ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
      )
      .join("   ")
      .trimEnd(),
  );
  const cache = [...new Set([settings.kvType.k, settings.kvType.v])].join("/");
  return `${model.path}
${settings.deviceDescription}, cache ${cache}, medians of ${plural(settings.rounds, "round")}
limits: read ${giga(limits.readBytes)} GB/s, multiply-adds of 8 bits ${giga(limits.dotMultiplyAdds)} G/s, of float32 ${giga(limits.floatMultiplyAdds)} G/s, of BF16 weights ${giga(limits.bf16MultiplyAdds)} G/s

${lines.join("\n")}
`;
}
