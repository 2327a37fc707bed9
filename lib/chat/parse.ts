// Parsing a template. The engine's errors do not say where in the source they arose, so that is found afterwards.
import { type Node, parse, type Token, tokenize } from "./jinja.js";

/** What is wrong with a template's source, with the line and column. */
export class TemplateSyntaxError extends Error {}

const cut = (source: string): Token[] => tokenize(source, { lstrip_blocks: true, trim_blocks: true });

/** Throws TemplateSyntaxError, and RangeError for what nests too deep. */
export function parseTemplate(source: string): Node {
  let tokens: Token[] | undefined;
  try {
    tokens = cut(source);
    return parse(tokens);
  } catch (error) {
    if (!(error instanceof Error) || error instanceof RangeError) throw error;
    const place = tokens
      ? placeOf(source, tokens, furthest(tokens))
      : placeOfCharacter(source, error.message);
    const lines = source.slice(0, place).split("\n");
    const reason = place < source.length ? error.message : "the template ends within a tag or block";
    throw new TemplateSyntaxError(`line ${lines.length}, column ${lines.at(-1)!.length + 1}: ${reason}`, {
      cause: error,
    });
  }
}

/** How much of the source it takes until the engine meets the character that it does not know. */
function placeOfCharacter(source: string, message: string): number {
  const fails = (length: number): boolean => {
    try {
      cut(source.slice(0, length));
    } catch (error) {
      return (error as Error).message === message;
    }
    return false;
  };
  if (/\bend of\b/.test(message)) return source.length;
  let [low, high] = [0, source.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (fails(middle)) high = middle;
    else low = middle + 1;
  }
  return low - 1;
}

/** The last token that the parser looks at before it fails; their number if it looks for more. */
function furthest(tokens: Token[]): number {
  let last = 0;
  const get = (list: Token[], key: string | symbol): unknown => {
    if (typeof key === "string" && /^\d+$/.test(key)) last = Math.max(last, Number(key));
    return Reflect.get(list, key);
  };
  try {
    parse(new Proxy(tokens, { get }));
  } catch {
    // As before.
  }
  return last;
}

/** Characters that may stand between two tokens, and that escapes in a string add, for it to be found again. */
const mostBetween = 1000;

/** Where token `index` begins: tokens hold source text, except for strings with escapes, which are passed over. */
function placeOf(source: string, tokens: Token[], index: number): number {
  let at = 0;
  for (const [i, { value }] of tokens.slice(0, index + 1).entries()) {
    const found = source.slice(at, at + value.length + mostBetween).indexOf(value);
    if (found >= 0) at += found + (i < index ? value.length : 0);
  }
  return index < tokens.length ? at : source.length;
}
