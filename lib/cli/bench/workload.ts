// The requests of a serving bench: when they arrive, how long they are and which are cancelled, all a function of a
// seed.
import { UsageError } from "../usage.js";

/** Tokens of a text that a bench makes, at most. */
export const mostTokens = 1 << 20;

/** How long texts are. */
export interface Lengths {
  /** As it was written. */
  text: string;
  /** A length, from two numbers that are drawn evenly from 0 to below 1. */
  of: (u: number, v: number) => number;
}

/** `64`, `32-256` (each as likely) or `lognormal:128,64` (mean and standard deviation). Throws UsageError. */
export function parseLengths(text: string): Lengths {
  const whole = /^(\d+)(?:-(\d+))?$/.exec(text);
  if (whole) {
    const [least, most] = [Number(whole[1]), Number(whole[2] ?? whole[1])];
    if (least >= 1 && least <= most && most <= mostTokens)
      return { text, of: (u) => least + Math.floor(u * (most - least + 1)) };
  }
  const normal = /^lognormal:(\d+(?:\.\d+)?),(\d+(?:\.\d+)?)$/.exec(text);
  if (normal) {
    const [mean, deviation] = [Number(normal[1]), Number(normal[2])];
    if (mean >= 1 && mean <= mostTokens && deviation <= mostTokens)
      return { text, of: logNormal(mean, deviation) };
  }
  throw new UsageError(
    `expected tokens from 1 to ${mostTokens} as N, N-M or lognormal:MEAN,SD, got ${JSON.stringify(text)}`,
  );
}

/** Lengths whose logarithm is normal, of which these are mean and standard deviation. */
function logNormal(mean: number, deviation: number): Lengths["of"] {
  const variance = Math.log(1 + (deviation / mean) ** 2);
  const center = Math.log(mean) - variance / 2;
  return (u, v) => {
    const normal = Math.sqrt(-2 * Math.log(1 - u)) * Math.cos(2 * Math.PI * v); // Box and Muller
    const length = Math.round(Math.exp(center + Math.sqrt(variance) * normal));
    return Math.min(Math.max(length, 1), mostTokens);
  };
}

/** What requests there are to be. */
export interface Workload {
  /** Per second, at random and independent of each other; "max": all at once. */
  rate: number | "max";
  /** How many; or for so many seconds, as many as come. */
  amount: { requests: number } | { seconds: number };
  promptTokens: Lengths;
  answerTokens: Lengths;
  /** Tokens that all prompts begin with, before their own. */
  sharedTokens: number;
  /** The share of requests that are cancelled. */
  cancelled: number;
  seed: number;
}

/** One request to come. */
export interface PlannedRequest {
  /** Milliseconds after the beginning. */
  at: number;
  /** Of its own. */
  promptTokens: number;
  answerTokens: number;
  /** Cancelled when so many tokens have come; 0: at once. */
  cancelAfter?: number;
}

/** All requests of a workload, in the order in which they come. */
export function plan(workload: Workload): PlannedRequest[] {
  const { rate, amount, promptTokens, answerTokens, cancelled, seed } = workload;
  const next = draws(seed);
  const requests: PlannedRequest[] = [];
  let at = 0;
  for (;;) {
    // As many draws for every request: whether some are cancelled changes nothing else.
    const gap = -Math.log(1 - next());
    const [prompt, answer] = [promptTokens.of(next(), next()), answerTokens.of(next(), next())];
    const [chance, after] = [next(), Math.floor(next() * answer)];
    if (rate !== "max") at += (1000 * gap) / rate;
    const over = "requests" in amount ? requests.length >= amount.requests : at >= 1000 * amount.seconds;
    if (over) return requests;
    requests.push({
      at,
      promptTokens: prompt,
      answerTokens: answer,
      ...(chance < cancelled ? { cancelAfter: after } : {}),
    });
  }
}

/** Numbers from 0 to below 1, evenly: a counter behind the finalizer of MurmurHash3. */
function draws(seed: number): () => number {
  const mixed = (value: number): number => {
    let bits = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
    bits = Math.imul(bits ^ (bits >>> 13), 0xc2b2ae35);
    return bits ^ (bits >>> 16);
  };
  let count = mixed(seed ^ 0x5bd1e995);
  return () => {
    count = (count + 0x9e3779b9) | 0;
    return (mixed(count) >>> 0) / 2 ** 32;
  };
}
