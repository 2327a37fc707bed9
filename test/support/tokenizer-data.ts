/* Small made-up vocabularies for tests. */
import type { StringTable, TokenizerData } from "../../lib/tokenizer/tokenizer.js";

export function stringTable(strings: readonly (string | Uint8Array)[]): StringTable {
  const parts = strings.map((string) => Buffer.from(string as string));
  const offsets = new Uint32Array(parts.length + 1);
  for (const [i, part] of parts.entries()) offsets[i + 1] = offsets[i] + part.length;
  return { data: new Uint8Array(Buffer.concat(parts)), offsets };
}

/** GPT-2's text for a byte. */
export function byteText(byte: number): string {
  const itself = (b: number): boolean => (b >= 0x21 && b <= 0x7e) || (b >= 0xa1 && b <= 0xac) || b >= 0xae;
  if (itself(byte)) return String.fromCharCode(byte);
  let other = 0x100;
  for (let b = 0; b < byte; b++) if (!itself(b)) other++;
  return String.fromCharCode(other);
}

/** All bytes (ids 0 to 255), then what the merges give, then special tokens with their kinds. */
export function bytePairData(
  merges: readonly string[] = [],
  special: readonly [text: string, kind: number][] = [],
): TokenizerData {
  const tokens = Array.from({ length: 256 }, (_, byte) => byteText(byte));
  for (const merge of merges) {
    const text = merge.replace(" ", "");
    if (!tokens.includes(text)) tokens.push(text);
  }
  const types = tokens.map(() => 1);
  for (const [text, kind] of special) {
    tokens.push(text);
    types.push(kind);
  }
  return {
    model: "gpt2",
    pre: "gpt-2",
    tokens: stringTable(tokens),
    tokenTypes: Int32Array.from(types),
    merges: stringTable(merges),
  };
}

/** <unk>, <s>, </s>, all bytes (ids 3 to 258), then pieces with scores and kinds. */
export function sentencePieceData(
  pieces: readonly [text: string, score: number, kind?: number][],
): TokenizerData {
  const tokens = ["<unk>", "<s>", "</s>"];
  for (let byte = 0; byte < 256; byte++)
    tokens.push(`<0x${byte.toString(16).toUpperCase().padStart(2, "0")}>`);
  const types = tokens.map((_, i): number => (i === 0 ? 2 : i < 3 ? 3 : 6));
  const scores = tokens.map(() => 0);
  for (const [text, score, kind] of pieces) {
    tokens.push(text);
    scores.push(score);
    types.push(kind ?? 1);
  }
  return {
    model: "llama",
    tokens: stringTable(tokens),
    tokenTypes: Int32Array.from(types),
    scores: Float32Array.from(scores),
  };
}
