import { InhouseError } from "../errors.js";
import { longestToken } from "./byte-table.js";

/** Many strings in one buffer: string i is `data[offsets[i], offsets[i + 1])`, UTF-8. */
export interface StringTable {
  data: Uint8Array;
  /** One more than there are strings; begins with 0, never falls, ends with `data.length`. */
  offsets: Uint32Array;
}

/** A file's tokenizer metadata (`tokenizer.ggml.*`) as plain data. Nothing here is trusted before it is checked. */
export interface TokenizerData {
  /** `tokenizer.ggml.model`: "gpt2" (byte-level BPE) or "llama" (SentencePiece BPE). */
  model: string;
  /** `tokenizer.ggml.pre`; needed for "gpt2". */
  pre?: string | undefined;
  /** `tokenizer.ggml.tokens` */
  tokens: StringTable;
  /** `tokenizer.ggml.token_type`: 1 normal, 2 unknown, 3 control, 4 user-defined, 5 unused, 6 byte; default: normal. */
  tokenTypes?: Int32Array | undefined;
  /** `tokenizer.ggml.scores`; needed for "llama". */
  scores?: Float32Array | undefined;
  /** `tokenizer.ggml.merges`; needed for "gpt2". */
  merges?: StringTable | undefined;
  bosTokenId?: number | undefined;
  eosTokenId?: number | undefined;
  unknownTokenId?: number | undefined;
  paddingTokenId?: number | undefined;
  eotTokenId?: number | undefined;
  eomTokenId?: number | undefined;
  /** `tokenizer.ggml.add_bos_token`; default: what the pre-tokenizer or model stands for. */
  addBos?: boolean | undefined;
  /** `tokenizer.ggml.add_eos_token`; default: false. */
  addEos?: boolean | undefined;
  /** `tokenizer.ggml.add_space_prefix`; default: true for "llama", false for "gpt2", where it has no effect. */
  addSpacePrefix?: boolean | undefined;
}

/** Token kinds as in `tokenizer.ggml.token_type`. */
export const TokenKind = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** The most tokens and merges that are accepted. */
const mostTokens = 1 << 22;

/** The error for bad tokenizer metadata. */
export function invalid(field: string, expected: string): InhouseError {
  return new InhouseError("ERR_INHOUSE_TOKENIZER_INVALID", `tokenizer.ggml.${field}: ${expected}`);
}

function* checkStrings(field: string, table: StringTable, least: number): Generator<void, void> {
  if (!(table?.data instanceof Uint8Array) || !(table.offsets instanceof Uint32Array)) {
    throw invalid(field, "expected { data: Uint8Array, offsets: Uint32Array }");
  }
  const { data, offsets } = table;
  const count = offsets.length - 1;
  if (count < least || count > mostTokens) {
    throw invalid(field, `${Math.max(count, 0)} strings; expected ${least} to ${mostTokens}`);
  }
  if (offsets[0] !== 0 || offsets[count] !== data.length) {
    throw invalid(field, `offsets from ${offsets[0]} to ${offsets[count]}; expected 0 to ${data.length}`);
  }
  for (let i = 0; i < count; i++) {
    const length = offsets[i + 1]! - offsets[i]!;
    if (length < 0) throw invalid(`${field}[${i}]`, `length ${length}; expected offsets that never fall`);
    if (length > 2 * longestToken + 1) {
      throw invalid(`${field}[${i}]`, `${length} bytes; expected at most ${longestToken} for a token`);
    }
    if ((i & 0xfff) === 0) yield;
  }
}

/** Checks types, lengths and ranges of all fields but the contents of tokens and merges; in steps of bounded work. */
export function* checkData(data: TokenizerData): Generator<void, void> {
  if (typeof data !== "object" || data === null)
    throw invalid("*", "expected an object with tokenizer metadata");
  if (data.model !== "gpt2" && data.model !== "llama") {
    const found =
      typeof data.model === "string" ? JSON.stringify(data.model.slice(0, 100)) : typeof data.model;
    throw new InhouseError(
      "ERR_INHOUSE_UNSUPPORTED_TOKENIZER",
      `tokenizer.ggml.model is ${found}; expected "gpt2" or "llama"`,
    );
  }
  yield* checkStrings("tokens", data.tokens, 1);
  const count = data.tokens.offsets.length - 1;
  const { offsets } = data.tokens;
  for (let i = 0; i < count; i++) {
    const length = offsets[i + 1]! - offsets[i]!;
    if (length > longestToken)
      throw invalid(`tokens[${i}]`, `${length} bytes; expected at most ${longestToken}`);
    if ((i & 0xfff) === 0) yield;
  }
  if (data.tokenTypes !== undefined) {
    const types = data.tokenTypes;
    if (!(types instanceof Int32Array)) throw invalid("token_type", "expected an Int32Array");
    if (types.length !== count) throw invalid("token_type", `${types.length} entries; expected ${count}`);
    for (let i = 0; i < count; i++) {
      if (types[i]! < 0 || types[i]! > 6) throw invalid(`token_type[${i}]`, `${types[i]}; expected 1 to 6`);
      if ((i & 0xfff) === 0) yield;
    }
  }
  if (data.scores !== undefined) {
    const scores = data.scores;
    if (!(scores instanceof Float32Array)) throw invalid("scores", "expected a Float32Array");
    if (scores.length !== count) throw invalid("scores", `${scores.length} entries; expected ${count}`);
    for (let i = 0; i < count; i++) {
      if (!Number.isFinite(scores[i]))
        throw invalid(`scores[${i}]`, `${scores[i]}; expected a finite number`);
      if ((i & 0xfff) === 0) yield;
    }
  } else if (data.model === "llama")
    throw invalid("scores", 'missing; model "llama" needs a score for each token');
  if (data.merges !== undefined) yield* checkStrings("merges", data.merges, 0);
  else if (data.model === "gpt2") throw invalid("merges", 'missing; model "gpt2" needs merges');
  checkIdsAndFlags(data, count);
}

function checkIdsAndFlags(data: TokenizerData, count: number): void {
  const ids = {
    bos_token_id: data.bosTokenId,
    eos_token_id: data.eosTokenId,
    unknown_token_id: data.unknownTokenId,
    padding_token_id: data.paddingTokenId,
    eot_token_id: data.eotTokenId,
    eom_token_id: data.eomTokenId,
  };
  for (const [field, id] of Object.entries(ids)) {
    if (id === undefined) continue;
    if (!Number.isInteger(id) || id < 0 || id >= count) {
      throw invalid(field, `${String(id)}; expected an integer from 0 to ${count - 1}`);
    }
  }
  const flags = {
    add_bos_token: data.addBos,
    add_eos_token: data.addEos,
    add_space_prefix: data.addSpacePrefix,
  };
  for (const [field, flag] of Object.entries(flags)) {
    if (flag !== undefined && typeof flag !== "boolean")
      throw invalid(field, `${typeof flag}; expected a boolean`);
  }
  if (data.addBos && data.bosTokenId === undefined && data.model === "gpt2") {
    throw invalid("add_bos_token", "true, but bos_token_id is missing");
  }
  if (data.addEos && data.eosTokenId === undefined) {
    throw invalid("add_eos_token", "true, but eos_token_id is missing");
  }
}
