import { bindMethods } from "../bind.js";
import { InhouseError } from "../errors.js";
import { checkTokenList, invalidArgument, readOptions, type Rules, show } from "../options.js";
import { buildVocabulary, type Vocabulary } from "./build.js";
import type { TokenizerData } from "./data.js";
import { decodeBytes, Detokenizer } from "./detokenizer.js";
import { IdBuffer } from "./id-buffer.js";
import { atOnce, inSlices } from "./slices.js";
import type { SpecialMatch } from "./special-tokens.js";
import { placesInUtf8, toNfc, toUtf8 } from "./text.js";

export { type StringTable, type TokenizerData, TokenKind } from "./data.js";
export { Detokenizer, Utf8Stream } from "./detokenizer.js";

/** A part of a text, in UTF-16 units: from `start` on and before `end`. */
export type TextRange = readonly [start: number, end: number];

/** How text becomes token ids. */
export interface EncodeOptions {
  /**
   * Whether the names of control tokens in the text ("<|im_end|>") become these tokens, or where in the text: ranges in
   * UTF-16 units, ascending, of which one holds all of a name. Default false: text that a user wrote must not be able to
   * end a turn. User-defined tokens of the vocabulary are recognized everywhere.
   */
  special?: boolean | readonly TextRange[];
  /**
   * Whether to begin with BOS. It is never doubled: if the text itself begins with BOS (as many chat templates write it,
   * with `special`), none is added. Default: what the model's file says (`tokenizer.addBos`).
   */
  addBos?: boolean;
  /** Whether to end with EOS, not doubled either. Default: what the file says; prompts to be continued want false. */
  addEos?: boolean;
}

/** How token ids become text. */
export interface DecodeOptions {
  /** Whether control tokens appear by name. Default false: they are left out. */
  special?: boolean;
}

/** The output bytes of all tokens, as the native core takes them. */
export interface VocabularyTable {
  /** The bytes of all tokens one after the other; control, unknown and unused tokens of the file have none. */
  bytes: Uint8Array;
  /** `size + 1` entries: token i has `bytes[offsets[i], offsets[i + 1])`. */
  offsets: Uint32Array;
  /** One TokenKind for each token. */
  kinds: Uint8Array;
}

const isPlace = (value: unknown): value is number => Number.isInteger(value) && (value as number) >= 0;

function specialProblem(value: unknown): string | undefined {
  if (typeof value === "boolean") return undefined;
  let last = 0;
  const fits = (range: unknown): boolean => {
    if (!Array.isArray(range) || range.length !== 2 || !range.every(isPlace)) return false;
    const [start, end] = range as [number, number];
    const ascends = start >= last && end >= start;
    last = end;
    return ascends;
  };
  if (Array.isArray(value) && Array.from(value).every(fits)) return undefined;
  return "true, false, or a list of ranges [start, end], ascending";
}

const encodeRules = {
  special: { kind: "other", problem: specialProblem },
  addBos: { kind: "boolean" },
  addEos: { kind: "boolean" },
} as const satisfies Rules & Record<keyof EncodeOptions, unknown>;

const encodeAsyncRules = { ...encodeRules, signal: { kind: "signal" } } as const satisfies Rules;

const decodeRules = { special: { kind: "boolean" } } as const satisfies Rules &
  Record<keyof DecodeOptions, unknown>;

/** Characters of a text that is encoded at once, in about a millisecond. */
const shortText = 4096;

/** Encodes a short text at once, and a long one in slices until the signal is aborted. */
export function encodeText(
  tokenizer: Tokenizer,
  text: string,
  options: EncodeOptions,
  signal: AbortSignal,
): Int32Array | Promise<Int32Array> {
  if (text.length <= shortText) return tokenizer.encode(text, options);
  return tokenizer.encodeAsync(text, { ...options, signal });
}

/**
 * Makes token ids from text and text from token ids. Made by `createTokenizer`. Its methods need not be called on it.
 */
export class Tokenizer {
  /** How many tokens there are; ids go from 0 to `size - 1`. */
  readonly size: number;
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly paddingTokenId: number | undefined;
  /** The tokens that end a generation, in ascending order: EOS, EOT, and those known by their names. */
  readonly stopTokenIds: Int32Array;
  /** Whether `encode` begins with BOS by default. */
  readonly addBos: boolean;
  /** Whether `encode` ends with EOS by default. */
  readonly addEos: boolean;

  /** @internal */
  constructor(private readonly parts: Vocabulary) {
    this.size = parts.kinds.length;
    this.bosTokenId = parts.bosTokenId;
    this.eosTokenId = parts.eosTokenId;
    this.paddingTokenId = parts.paddingTokenId;
    this.stopTokenIds = parts.stopTokenIds;
    this.addBos = parts.addBos;
    this.addEos = parts.addEos;
    bindMethods(this, "encode", "encodeAsync", "decode", "detokenizer", "vocabulary");
    bindMethods(this, "tokenBytes", "tokenText", "tokenKind", "tokenId");
  }

  /**
   * The token ids of a text. Lone surrogates count as U+FFFD. Takes about 0.1 s for a megabyte; use `encodeAsync` for
   * long texts in a server.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT
   */
  encode(text: string, options: EncodeOptions = {}): Int32Array {
    return atOnce(this.steps("encode", text, readOptions("encode", options, encodeRules)));
  }

  /**
   * Like `encode`, in slices of about 1 ms between which the event loop is free. A single word without end holds it
   * longer, while its end is sought and room for its merges is made: about 20 ms for a word of a megabyte. So does a
   * run of nothing but combining marks.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT, or the signal's reason
   */
  async encodeAsync(
    text: string,
    options: EncodeOptions & { signal?: AbortSignal } = {},
  ): Promise<Int32Array> {
    const { signal, ...rest } = readOptions("encodeAsync", options, encodeAsyncRules);
    return inSlices(this.steps("encodeAsync", text, rest), signal);
  }

  /**
   * The text of token ids. Bytes that are not UTF-8 become U+FFFD. The space that a SentencePiece model puts before
   * text is taken off again.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT, ERR_INHOUSE_TOKEN_OUT_OF_RANGE
   */
  decode(ids: ArrayLike<number>, options: DecodeOptions = {}): string {
    checkTokenList("decode", ids);
    const { special = false } = readOptions("decode", options, decodeRules);
    const parts: Uint8Array[] = [];
    let length = 0;
    for (let i = 0; i < ids.length; i++) {
      const bytes = this.outputBytes(ids[i]!, special);
      parts.push(bytes);
      length += bytes.length;
    }
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
      all.set(part, at);
      at += part.length;
    }
    const prefixed = this.parts.addSpacePrefix && all[0] === 0x20;
    return decodeBytes(prefixed ? all.subarray(1) : all);
  }

  /**
   * A decoder for ids that arrive one by one. It never splits a character, and keeps a space at the beginning.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT
   */
  detokenizer(options: DecodeOptions = {}): Detokenizer {
    const { special = false } = readOptions("detokenizer", options, decodeRules);
    return new Detokenizer((id) => this.outputBytes(id, special));
  }

  /**
   * The bytes that a token adds to a text: empty for control tokens, maybe a part of a character.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT, ERR_INHOUSE_TOKEN_OUT_OF_RANGE
   */
  tokenBytes(id: number): Uint8Array {
    return this.outputBytes(id, false).slice();
  }

  /**
   * A token's text as it stands in the vocabulary ("Ġthe", "▁the", "<0x0A>", "<|im_end|>").
   * @throws ERR_INHOUSE_INVALID_ARGUMENT, ERR_INHOUSE_TOKEN_OUT_OF_RANGE
   */
  tokenText(id: number): string {
    this.checkId(id);
    const { data, offsets } = this.parts.tokens;
    return decodeBytes(data.subarray(offsets[id], offsets[id + 1]));
  }

  /**
   * A token's kind, see TokenKind.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT, ERR_INHOUSE_TOKEN_OUT_OF_RANGE
   */
  tokenKind(id: number): number {
    this.checkId(id);
    return this.parts.kinds[id]!;
  }

  /**
   * The id of the token with this text in the vocabulary, if there is one (of several, the last). Not fast.
   * @throws ERR_INHOUSE_INVALID_ARGUMENT
   */
  tokenId(text: string): number | undefined {
    checkText("tokenId", text);
    const wanted = new TextEncoder().encode(text);
    const { data, offsets } = this.parts.tokens;
    for (let id = this.size - 1; id >= 0; id--) {
      const start = offsets[id]!;
      if (offsets[id + 1]! - start !== wanted.length) continue;
      let i = 0;
      while (i < wanted.length && data[start + i] === wanted[i]) i++;
      if (i === wanted.length) return id;
    }
    return undefined;
  }

  /** The output bytes of every token; a copy. */
  vocabulary(): VocabularyTable {
    const { bytes, offsets, kinds } = this.parts;
    return { bytes: bytes.slice(), offsets: offsets.slice(), kinds: kinds.slice() };
  }

  private outputBytes(id: number, special: boolean): Uint8Array {
    this.checkId(id);
    const { bytes, offsets, tokens } = this.parts;
    // A token without output is named by its text in the vocabulary.
    if (special && offsets[id] === offsets[id + 1])
      return tokens.data.subarray(tokens.offsets[id], tokens.offsets[id + 1]);
    return bytes.subarray(offsets[id], offsets[id + 1]);
  }

  private checkId(id: number): void {
    if (Number.isInteger(id) && id >= 0 && id < this.size) return;
    throw new InhouseError(
      typeof id === "number" ? "ERR_INHOUSE_TOKEN_OUT_OF_RANGE" : "ERR_INHOUSE_INVALID_ARGUMENT",
      `token id ${show(id)}: expected an integer from 0 to ${this.size - 1}`,
    );
  }

  private steps(call: string, text: string, options: EncodeOptions): Generator<void, Int32Array> {
    checkText(call, text);
    const { special } = options;
    const end = typeof special === "object" ? (special.at(-1)?.[1] ?? 0) : 0;
    if (end > text.length) {
      throw invalidArgument(
        `${call}: option 'special' has a range that ends at ${end}; expected at most ${text.length}, the text's length`,
      );
    }
    return encodeSteps(this.parts, text, options);
  }
}

function checkText(call: string, text: unknown): void {
  if (typeof text !== "string")
    throw invalidArgument(`${call}: the text is ${show(text)}; expected a string`);
}

function* encodeSteps(parts: Vocabulary, text: string, options: EncodeOptions): Generator<void, Int32Array> {
  const { bosTokenId, eosTokenId } = parts;
  const { special = false } = options;
  const out = new IdBuffer();
  const bos = (options.addBos ?? parts.addBos) && bosTokenId !== undefined;
  if (bos) out.push(bosTokenId);

  const bytes = yield* toUtf8(text, parts.escapesSpaces);
  const ranges = special === true ? [[0, text.length]] : special === false ? [] : special;
  const controls = new ControlMatches(parts, bytes, yield* placesInUtf8(bytes, ranges.flat()));
  // Control tokens come first: what else begins before one ends before it.
  let control = yield* controls.from(0);
  let work = 0;
  for (let at = 0; at < bytes.length;) {
    const match = (yield* parts.userDefined.find(bytes, at, control?.start ?? bytes.length)) ?? control;
    if (work++ > 32) {
      work = 0;
      yield;
    }
    const end = match?.start ?? bytes.length;
    if (end > at) yield* encodeSegment(parts, bytes, at, end, out);
    if (match === undefined) break;
    out.push(match.id);
    at = match.end;
    if (match === control) control = yield* controls.from(at);
  }

  const doubled = bos && out.length > 1 && out.at(1) === bosTokenId;
  if ((options.addEos ?? parts.addEos) && eosTokenId !== undefined) {
    if (out.length === 0 || out.at(out.length - 1) !== eosTokenId) out.push(eosTokenId);
  }
  return doubled ? out.toArray(1) : out.toArray(0);
}

/** The control tokens in stretches of a text, asked for from left to right. */
class ControlMatches {
  private next = 0;

  /** @param borders where each stretch begins and ends, ascending */
  constructor(
    private readonly parts: Vocabulary,
    private readonly bytes: Uint8Array,
    private readonly borders: readonly number[],
  ) {}

  /** The first that begins at or after `at`, which must not fall from call to call. */
  *from(at: number): Generator<void, SpecialMatch | undefined> {
    for (; this.next < this.borders.length; this.next += 2) {
      if ((this.next & 0xff) === 0xfe) yield;
      const [start, end] = this.borders.slice(this.next, this.next + 2) as [number, number];
      const match = yield* this.parts.control.find(this.bytes, Math.max(at, start), end);
      if (match) return match;
    }
    return undefined;
  }
}

/** Encodes text between special tokens. */
function* encodeSegment(
  parts: Vocabulary,
  bytes: Uint8Array,
  start: number,
  end: number,
  out: IdBuffer,
): Generator<void, void> {
  if (parts.addSpacePrefix) {
    const prefixed = new Uint8Array(end - start + 3);
    prefixed.set([0xe2, 0x96, 0x81]);
    prefixed.set(bytes.subarray(start, end), 3);
    yield* parts.encoder.encode(prefixed, 0, prefixed.length, out);
  } else if (parts.nfc) {
    const normalized = yield* toNfc(bytes, start, end);
    if (normalized) yield* parts.encoder.encode(normalized, 0, normalized.length, out);
    else yield* parts.encoder.encode(bytes, start, end, out);
  } else yield* parts.encoder.encode(bytes, start, end, out);
}

/**
 * Checks tokenizer metadata and builds a tokenizer from it, in slices that leave the event loop free. The data must not
 * change afterwards: the token texts are not copied.
 * @throws ERR_INHOUSE_TOKENIZER_INVALID, ERR_INHOUSE_UNSUPPORTED_TOKENIZER, or the signal's reason
 */
export async function createTokenizer(
  data: TokenizerData,
  options: { signal?: AbortSignal } = {},
): Promise<Tokenizer> {
  return new Tokenizer(await inSlices(buildVocabulary(data), options.signal));
}
