// Timing one engine, whichever it is: bench/ measures inhouse's peers with the same lines.

/** An engine with a model loaded. */
export interface Session {
  /** Generates exactly `tokens` tokens, greedily; yields how many have come since the last time. */
  generate(prompt: number[], tokens: number): AsyncIterable<number>;
  close(): Promise<void>;
}

/** Loads the model for `streams` generations at once, each of at most `contextLength` tokens. */
export type Open = (settings: { streams: number; contextLength: number }) => Promise<Session>;

/** One thing to be timed. */
export interface Case {
  kind: "prompt" | "decode";
  streams: number;
  /** Tokens before those that are timed. */
  depth: number;
  /** Tokens that are timed, of each stream. */
  tokens: number;
}

/** Prompts of streams, and the prompt of the time to the first token, are as long as this. */
export const shortPrompt = 64;

/** Each prompt, one stream at each depth, and each number of streams after short prompts; each once. */
export function casesOf(lists: {
  prompts: number[];
  depths: number[];
  streams: number[];
  tokens: number;
}): Case[] {
  const decode = [
    ...lists.depths.map((depth) => ({ streams: 1, depth })),
    ...lists.streams.map((streams) => ({ streams, depth: shortPrompt })),
  ].sort((a, b) => a.streams - b.streams || a.depth - b.depth);
  const cases = [
    ...lists.prompts.map((tokens): Case => ({ kind: "prompt", streams: 1, depth: 0, tokens })),
    ...decode.map((one): Case => ({ kind: "decode", ...one, tokens: lists.tokens })),
  ];
  return [...new Map(cases.map((one) => [nameOf(one), one])).values()];
}

/** Tokens of context that a case needs. */
export const contextOf = ({ depth, tokens }: Case): number => Math.max(depth + tokens, shortPrompt) + 1;

export function nameOf({ kind, streams, depth, tokens }: Case): string {
  if (kind === "prompt") return `prompt of ${tokens}`;
  return streams === 1 ? `decode at depth ${depth}` : `${streams} streams at depth ${depth}`;
}

/** What one round gives. */
export interface Samples {
  loadMs: number;
  /** From before the load. */
  firstTokenMs: number;
  /** The most that the process held until then. */
  peakBytes: number;
  /** Tokens per second, by the cases' names. */
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
      for (const one of some) rates[nameOf(one)] = await timeCase(session, one, prompts);
    }
    return { loadMs, firstTokenMs, peakBytes, rates };
  } finally {
    await session.close();
  }
}

async function timeCase(session: Session, one: Case, prompts: (length: number) => number[]): Promise<number> {
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

/** Tokens per second of all streams together, while all of them write. */
async function decodeRate(session: Session, prompts: number[][], tokens: number): Promise<number> {
  const arrivals = await Promise.all(
    prompts.map(async (prompt) => {
      const events: { at: number; count: number }[] = [];
      for await (const count of session.generate(prompt, tokens + 1))
        events.push({ at: performance.now(), count });
      return events;
    }),
  );
  const from = Math.max(...arrivals.map((events) => events[0]!.at));
  const to = Math.min(...arrivals.map((events) => events.at(-1)!.at));
  if (to <= from) throw new Error("a stream ended before all had begun: more tokens have to be generated");
  const within = arrivals.flat().filter(({ at }) => at > from && at <= to);
  return (within.reduce((sum, { count }) => sum + count, 0) * 1000) / (to - from);
}

/**
 * Prompts for a model of `vocabulary` tokens, no two of which begin alike: ids from where vocabularies hold ordinary
 * words, in an order without repetition.
 */
export function promptSource(vocabulary: number): (length: number) => number[] {
  const [first, span] = [vocabulary >> 3, vocabulary >> 1];
  let next = 0;
  return (length) => {
    const start = 7907 * next++;
    return Array.from({ length }, (_, i) => first + ((start + i * 7919) % span));
  };
}
