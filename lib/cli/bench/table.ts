// A bench's result for people.
import type { BenchResult } from "../commands/bench.js";
import { bytes, plural } from "../terminal.js";
import type { NativeLimits } from "../../native.js";
import type { Environment } from "./environment.js";
import type { Figure } from "./figures.js";

export const number = (value: number) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const shown = (unit: Figure["unit"], value: number) => (unit === "bytes" ? bytes(value) : number(value));

/** Rows in columns, of which those in `left` begin together and the others end together. */
export function columns(rows: readonly string[][], left: readonly number[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((cell, column) =>
          left.includes(column) ? cell.padEnd(widths[column]!) : cell.padStart(widths[column]!),
        )
        .join("   ")
        .trimEnd(),
    )
    .join("\n");
}

/** What all tables begin with. */
export function heading({ model, settings }: Environment): string {
  const cache = [...new Set([settings.kvType.k, settings.kvType.v])].join("/");
  return `${model.path}\n${settings.deviceDescription}, cache ${cache}`;
}

export function limitsLine(limits: NativeLimits): string {
  const giga = (value: number) => number(value / 1e9);
  return `limits: read ${giga(limits.readBytes)} GB/s, multiply-adds of 8 bits ${giga(limits.dotMultiplyAdds)} G/s, of float32 ${giga(limits.floatMultiplyAdds)} G/s, of BF16 weights ${giga(limits.bf16MultiplyAdds)} G/s`;
}

export function table(result: BenchResult): string {
  const { settings, limits, figures } = result;
  const rows = figures.map(({ name, unit, value, low, high, floor, share }) => [
    name,
    unit === "bytes" ? bytes(value) : `${number(value)} ${unit}`,
    `${shown(unit, low)} – ${shown(unit, high)}`,
    shown(unit, floor.value),
    `${Math.round(100 * share)}%`,
    floor.by,
  ]);
  const all = [["", "median", "rounds", "floor", "share", "limited by"], ...rows];
  return `${heading(result)}, medians of ${plural(settings.rounds, "round")}
${limitsLine(limits)}

${columns(all, [0, 5])}
`;
}
