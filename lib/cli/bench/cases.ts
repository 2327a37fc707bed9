// What a bench times, and whether a model and its settings have room for it.

/** One thing to be timed. */
export interface Case {
  kind: "prompt" | "decode";
  streams: number;
  /** Tokens before those that are timed. */
  depth: number;
  /** Tokens that are timed, of each stream. */
  tokens: number;
}

/** Of what cases are made. */
export interface Lists {
  prompts: number[];
  depths: number[];
  streams: number[];
  tokens: number;
}

/** Prompts of streams, and the prompt of the time to the first token, are as long as this. */
export const shortPrompt = 64;

/** Each prompt, one stream at each depth, and each number of streams after short prompts; each once. */
export function casesOf(lists: Lists): Case[] {
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

/** What a model and its settings allow. */
export interface Room {
  contextLength: number;
  /** Tokens of one step; undefined: as many as the library takes by itself. */
  maxBatchTokens?: number | undefined;
}

/** Tokens of a step where no option says how many. */
const stepTokens = (streams: number): number => Math.max(512, streams);

/**
 * How many tokens each stream has to write so that all of them write at once for a while. Prompts go in order into
 * what a step of `batch` tokens has left beside the streams that write already; the first prompt may go alone.
 */
export function leastTokens(streams: number, depth: number, batch: number): number {
  let [steps, read] = [0, 0];
  for (let writing = 0; writing < streams; writing = Math.min(streams, Math.floor(read / depth))) {
    read += Math.max(1, batch - writing);
    ++steps;
  }
  return steps - Math.ceil(depth / batch) + 2;
}

/** What a case needs that there is not. */
function obstacle(one: Case, { contextLength, maxBatchTokens }: Room): string | undefined {
  const { kind, streams, depth, tokens } = one;
  const context = contextOf(one);
  if (context > contextLength)
    return `a context of ${context} tokens, more than the ${contextLength} there are`;
  if (kind === "prompt") return undefined;
  const batch = maxBatchTokens ?? stepTokens(streams);
  if (streams > batch) return `steps of ${streams} tokens, more than the ${batch} of --max-batch-tokens`;
  const least = leastTokens(streams, depth, batch);
  if (tokens >= least) return undefined;
  const written = `(--decode-tokens), more than the ${tokens} to be written`;
  return streams === 1
    ? `at least ${least} tokens ${written}: time passes between tokens`
    : `at least ${least} tokens of each stream ${written}: before that not all of them write at once`;
}

/** Why a round could not time what there was room for. */
export const untimedReason = ({ streams }: Case): string =>
  `${streams === 1 ? "its tokens came all together" : "its streams never wrote at once"} (more --decode-tokens help)`;

/** The cases there is room for, and the others with the reason. */
export function fitting(
  cases: readonly Case[],
  room: Room,
): { fit: Case[]; misfits: { name: string; reason: string }[] } {
  const fit: Case[] = [];
  const misfits: { name: string; reason: string }[] = [];
  for (const one of cases) {
    const needs = obstacle(one, room);
    if (needs === undefined) fit.push(one);
    else
      misfits.push({
        name: nameOf(one),
        reason: `${nameOf(one)} ${one.streams > 1 ? "need" : "needs"} ${needs}`,
      });
  }
  return { fit, misfits };
}
