// From samples to figures: medians with their spread, beside what the machine's limits allow.
import type { NativeLimits } from "../../native.js";
import { plural } from "../terminal.js";
import { type Case, nameOf, shortPrompt, untimedReason } from "./cases.js";
import { limitNames } from "./limits.js";
import type { Samples } from "./measure.js";
import { floorOf, type Floor, type ModelWork } from "./work.js";

/** Several rounds of one measurement. */
export interface Spread {
  /** The median. */
  value: number;
  low: number;
  high: number;
  /** In the order they were measured. */
  rounds: number[];
}

export interface Figure extends Spread {
  name: string;
  unit: "tokens/s" | "ms" | "bytes";
  /** What the value would be at the machine's limits, and which limit that is. */
  floor: { value: number; by: Floor["by"] | "weights" };
  /** How near the value is to it. Above 1 where caches hold what the floor reads, or a limit was measured too low. */
  share: number;
}

export function spreadOf(rounds: number[]): Spread {
  const sorted = [...rounds].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  const value = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { value, low: sorted[0]!, high: sorted.at(-1)!, rounds };
}

/**
 * The figures of one engine's rounds, in steps of at most `batch` tokens: those cases that any round timed, and the
 * rest, in the order of `cases`.
 */
export function figuresOf(
  rounds: readonly Samples[],
  cases: readonly Case[],
  work: ModelWork,
  limits: NativeLimits,
  batch: number,
): Figure[] {
  const rates = cases.flatMap((one): Figure[] => {
    const name = nameOf(one);
    const values = rounds.flatMap((round) => round.rates[name] ?? []);
    if (values.length === 0) return [];
    const { kind, streams, depth, tokens } = one;
    const steps = kind === "prompt" ? work.prompt(tokens, batch) : work.decode(streams, depth, tokens);
    const { seconds, by } = floorOf(steps, limits);
    const most = (streams * tokens) / seconds;
    const spread = spreadOf(values);
    return [{ name, unit: "tokens/s", ...spread, floor: { value: most, by }, share: spread.value / most }];
  });
  const least = (
    name: string,
    unit: Figure["unit"],
    of: Exclude<keyof Samples, "rates">,
    floor: Figure["floor"],
  ): Figure => {
    const spread = spreadOf(rounds.flatMap((round) => round[of] ?? []));
    return { name, unit, ...spread, floor, share: floor.value / spread.value };
  };
  const load = (work.weightBytes / limits.readBytes) * 1000;
  const first = load + floorOf(work.prompt(shortPrompt, batch), limits).seconds * 1000;
  return [
    ...rates,
    least("load", "ms", "loadMs", { value: load, by: "reading" }),
    least("load to first token", "ms", "firstTokenMs", { value: first, by: "reading" }),
    least("peak memory", "bytes", "peakBytes", { value: work.weightBytes, by: "weights" }),
  ];
}

/** What is to be said of cases that not every round could time, although there was room. */
export function untimedOf(rounds: readonly Samples[], cases: readonly Case[]): string[] {
  return cases.flatMap((one) => {
    const timed = rounds.filter(({ rates }) => rates[nameOf(one)] !== undefined).length;
    if (timed === rounds.length) return [];
    const often =
      timed === 0 ? "not timed," : `timed in ${timed} of ${plural(rounds.length, "round")}, in the others`;
    return [`${nameOf(one)}: ${often} ${untimedReason(one)}`];
  });
}

/** Rounds that differ by more than this share of their median say little. */
const quiet = 0.1;

/** What is to be said about figures whose rounds differ, or that the limits do not allow. */
export function noiseOf(figures: readonly Figure[]): string[] {
  const beyond = figures
    .filter(({ share }) => share > 1 + quiet / 2)
    .map(
      ({ name, share }) =>
        `${name}: ${Math.round(100 * share)}% of the floor; caches hold what it counts as read, or the machine was slower when its limits were measured`,
    );
  return [...noise(figures.map((figure) => [figure.name, figure])), ...beyond];
}

/** The same of the machine's limits, measured with so many threads. */
export function limitNoiseOf(limits: readonly NativeLimits[], threads: number): string[] {
  return noise(
    limitNames.map((name) => [
      `limit ${name} with ${plural(threads, "thread")}`,
      spreadOf(limits.map((round) => round[name])),
    ]),
  );
}

function noise(measured: readonly [string, Spread][]): string[] {
  return measured
    .filter(([, { value, low, high }]) => high - low > quiet * value)
    .map(
      ([name, { value, low, high }]) =>
        `${name}: rounds differ by ${Math.round((100 * (high - low)) / value)}%; the machine is too noisy`,
    );
}
