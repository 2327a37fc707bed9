// Prompts that do not fit the context: refused, or shortened at their beginning.
import { InhouseError } from "./errors.js";
import type { Prompt } from "./run.js";
import type { ChatMessage } from "./types.js";

/** Tokens left for the answer where the prompt is shortened: what was asked for, at most half of the context. */
function roomFor(contextLength: number, maxTokens: number | undefined): number {
  if (maxTokens === 0) return 0;
  return Math.max(1, Math.min(maxTokens ?? Math.floor(contextLength / 4), Math.floor(contextLength / 2)));
}

function tooLong(what: string, tokens: number, contextLength: number): InhouseError {
  return new InhouseError(
    "ERR_INHOUSE_CONTEXT_OVERFLOW",
    `${what} ${tokens} tokens, which leaves no room in the context of ${contextLength}; ` +
      "shorten it or load the model with a larger contextLength",
  );
}

/**
 * A text's last tokens, after those that begin every text. Throws ERR_INHOUSE_CONTEXT_OVERFLOW where there is room for
 * none.
 */
export function lastTokens(
  tokens: Int32Array,
  keep: number,
  contextLength: number,
  maxTokens: number | undefined,
): Prompt {
  const most = contextLength - roomFor(contextLength, maxTokens);
  if (tokens.length <= most) return { tokens, keep };
  if (most <= keep) throw tooLong("the prompt has", tokens.length, contextLength);
  const dropped = tokens.length - most;
  const shortened = new Int32Array(most);
  shortened.set(tokens.subarray(0, keep));
  shortened.set(tokens.subarray(keep + dropped), keep);
  return { tokens: shortened, keep, dropped: { messages: 0, tokens: dropped } };
}

/** Where turns begin: user messages that follow the instructions at the start. */
function turnsOf(messages: readonly ChatMessage[]): number[] {
  return messages.flatMap(({ role }, i) => (role === "user" ? [i] : []));
}

/**
 * A conversation's last turns, after the system's messages: as many as fit. `encode` gives the prompt of some messages.
 * Throws ERR_INHOUSE_CONTEXT_OVERFLOW where the last turn alone does not fit.
 */
export async function lastTurns(
  messages: readonly ChatMessage[],
  encode: (messages: readonly ChatMessage[]) => Int32Array | Promise<Int32Array>,
  contextLength: number,
  maxTokens: number | undefined,
): Promise<Prompt> {
  const most = contextLength - roomFor(contextLength, maxTokens);
  const turns = turnsOf(messages);
  const first = turns[0] ?? messages.length;
  const from = (turn: number): readonly ChatMessage[] =>
    turn === 0 ? messages : [...messages.slice(0, first), ...messages.slice(turns[turn])];
  const whole = await encode(messages);
  // What the prompt has in common with one in which the user says something else is the system's part.
  const keepOf = async (tokens: Int32Array, turn: number): Promise<number> => {
    const said = String(messages[turns[turn] ?? first]?.content).trimStart();
    const content = said.startsWith("a") ? "b" : "a";
    const other = await encode([...messages.slice(0, first), { role: "user", content }]);
    const differs = tokens.findIndex((token, i) => token !== other[i]);
    return Math.min(differs < 0 ? tokens.length : differs, Math.floor(contextLength / 2));
  };
  if (whole.length <= most) return { tokens: whole, keep: await keepOf(whole, 0) };
  // The fewer turns, the shorter: the first number of dropped ones that fits.
  let [low, high] = [1, turns.length - 1];
  let best: { tokens: Int32Array; turn: number } | undefined;
  while (low <= high) {
    const middle = (low + high) >> 1;
    const tokens = await encode(from(middle));
    if (tokens.length <= most) {
      best = { tokens, turn: middle };
      high = middle - 1;
    } else low = middle + 1;
  }
  if (best === undefined) {
    const least = turns.length > 1 ? await encode(from(turns.length - 1)) : whole;
    if (least.length < contextLength) best = { tokens: least, turn: Math.max(0, turns.length - 1) };
    else
      throw tooLong("the conversation's last turn, with the system prompt, has", least.length, contextLength);
  }
  return {
    tokens: best.tokens,
    keep: await keepOf(best.tokens, best.turn),
    dropped: { messages: best.turn === 0 ? 0 : turns[best.turn]! - first, tokens: 0 },
  };
}
