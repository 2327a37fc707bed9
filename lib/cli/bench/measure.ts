// Timing one engine, whichever it is: bench/ measures inhouse's peers with the same lines.
import { type Case, contextOf, nameOf, shortPrompt } from "./cases.js";

/** An engine with a model loaded. */
export interface Session {
  /** Generates exactly `tokens` tokens, greedily; yields how many have come since the last time. */
  generate(prompt: number[], tokens: number): AsyncIterable<number>;
  close(): Promise<void>;
}

/** Loads the model for `streams` generations at once, each of at most `contextLength` tokens. */
export type Open = (settings: { streams: number; contextLength: number }) => Promise<Session>;

/** What one round gives. */
export interface Samples {
  loadMs: number;
  /** From before the load. */
  firstTokenMs: number;
  /** The most that the process held until then; undefined where it had measured before, since a peak never falls. */
  peakBytes?: number | undefined;
  /** Tokens per second, by the names of those cases that could be timed. */
  rates: Record<string, number>;
}

/**
 * Times every case once. Cases of one stream share a session, which gives the other figures too; each further number
 * of streams has its own. Sessions of one stream hold `contextLength` tokens, those of more as many as they need.
 */
export async function measureRound(
  open: Open,
  cases: readonly Case[],
  prompts: (length: number) => number[],
  contextLength: number,
): Promise<Samples> {
  const rates: Samples["rates"] = {};
  const start = performance.now();
  let session = await open({ streams: 1, contextLength });
  try {
    const loadMs = performance.now() - start;
    await timePrompt(session, prompts(shortPrompt));
    const firstTokenMs = performance.now() - start;
    const peakBytes = process.resourceUsage().maxRSS * 1024;
    for (const streams of new Set([1, ...cases.map((one) => one.streams)])) {
      const some = cases.filter((one) => one.streams === streams);
      if (streams > 1) {
        // The old session keeps the weights until the new one has them.
        const next = await open({ streams, contextLength: Math.max(...some.map(contextOf)) });
        await session.close();
        session = next;
      }
      for (const one of some) {
        const rate = await timeCase(session, one, prompts);
        if (rate !== undefined) rates[nameOf(one)] = rate;
      }
    }
    return { loadMs, firstTokenMs, peakBytes, rates };
  } finally {
    await session.close();
  }
}

async function timeCase(
  session: Session,
  one: Case,
  prompts: (length: number) => number[],
): Promise<number | undefined> {
  if (one.kind === "prompt") return one.tokens / (await timePrompt(session, prompts(one.tokens)));
  const each = Array.from({ length: one.streams }, () => prompts(one.depth));
  return decodeRate(session, each, one.tokens);
}

/** Seconds to the first token. */
async function timePrompt(session: Session, prompt: number[]): Promise<number> {
  const start = performance.now();
  for await (const _ of session.generate(prompt, 1));
  return (performance.now() - start) / 1000;
}

/** Tokens that came to a stream at a time, in milliseconds. */
interface Arrival {
  at: number;
  count: number;
}

/** Tokens per second of all streams together, while all of them write; undefined where they never do at once. */
async function decodeRate(
  session: Session,
  prompts: number[][],
  tokens: number,
): Promise<number | undefined> {
  const arrivals = await Promise.all(
    prompts.map(async (prompt) => {
      const list: Arrival[] = [];
      for await (const count of session.generate(prompt, tokens + 1))
        list.push({ at: performance.now(), count });
      return list;
    }),
  );
  return rateOf(arrivals);
}

/**
 * Each stream is timed between arrivals of its own, from the first to the last while all of them write: streams hear of
 * one step one after the other, and a common end would cut off the last step of some while it counts its time.
 */
function rateOf(streams: readonly Arrival[][]): number | undefined {
  const from = Math.max(...streams.map((list) => list[0]?.at ?? Infinity));
  const to = Math.min(...streams.map((list) => list.at(-1)?.at ?? -Infinity));
  let rate = 0;
  for (const list of streams) {
    const [first, ...rest] = list.filter(({ at }) => at >= from && at <= to);
    if (first === undefined || rest.length === 0) return undefined;
    rate += rest.reduce((sum, { count }) => sum + count, 0) / (rest.at(-1)!.at - first.at);
  }
  return rate * 1000;
}

/**
 * Prompts for a model of `vocabulary` tokens: ids from where vocabularies hold ordinary words, a half of all, in strides
 * of a prime. Within a prompt no id comes twice, and no two prompts begin alike, as long as there are more such ids than
 * tokens of a prompt, and than prompts.
 */
export function promptSource(vocabulary: number): (length: number) => number[] {
  const [first, span] = [vocabulary >> 3, Math.max(1, vocabulary >> 1)];
  let next = 0;
  return (length) => {
    const start = 7907 * next++;
    return Array.from({ length }, (_, i) => first + ((start + i * 7919) % span));
  };
}
