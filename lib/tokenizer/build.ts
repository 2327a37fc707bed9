import { BytePairEncoder, MergeTable } from "./bpe.js";
import { ByteTable, hashBytes } from "./byte-table.js";
import { checkData, invalid, type StringTable, type TokenizerData, TokenKind } from "./data.js";
import type { IdBuffer } from "./id-buffer.js";
import { preTokenizer } from "./pretokenizers.js";
import { SentencePieceEncoder } from "./sentencepiece.js";
import { SpecialTokens } from "./special-tokens.js";
import { StopTokens } from "./stop-tokens.js";

/** Everything a Tokenizer works with. */
export interface Vocabulary {
  readonly tokens: StringTable;
  /** How each token is found in text, see TokenKind. */
  readonly kinds: Uint8Array;
  /** Each token's output bytes; those that the file calls control, unknown or unused have none. */
  readonly bytes: Uint8Array;
  readonly offsets: Uint32Array;
  /** Tokens that only the text of templates becomes, and those that all text becomes. */
  readonly control: SpecialTokens;
  readonly userDefined: SpecialTokens;
  readonly encoder: {
    encode(bytes: Uint8Array, start: number, end: number, out: IdBuffer): Generator<void, void>;
  };
  readonly bosTokenId: number | undefined;
  readonly eosTokenId: number | undefined;
  readonly paddingTokenId: number | undefined;
  readonly stopTokenIds: Int32Array;
  readonly addBos: boolean;
  readonly addEos: boolean;
  /** Spaces are U+2581 in token texts (SentencePiece). */
  readonly escapesSpaces: boolean;
  /** A space is put before text that begins, or follows a special token. */
  readonly addSpacePrefix: boolean;
  readonly nfc: boolean;
}

/** Nodes of the tree of special tokens that are accepted; the largest published vocabulary needs about 30,000. */
const mostSpecialNodes = 1 << 20;

const stepBytes = 2048;

/** The byte that each code point of a byte-level token text stands for, -1: none (GPT-2's bytes_to_unicode). */
const byteOf: Int16Array = (() => {
  const table = new Int16Array(0x180).fill(-1);
  let other = 0x100;
  for (let byte = 0; byte < 256; byte++) {
    const itself = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;
    table[itself ? byte : other++] = byte;
  }
  return table;
})();

/** Writes the raw bytes of a byte-level token text to `to`; gives their number, or -1 if a character stands for none. */
function unmap(from: Uint8Array, start: number, end: number, to: Uint8Array, at: number): number {
  const first = at;
  for (let i = start; i < end;) {
    const lead = from[i]!;
    let codePoint = lead;
    if (lead < 0x80) i++;
    else {
      if (lead < 0xc2 || lead > 0xc5 || i + 1 >= end) return -1;
      codePoint = ((lead & 31) << 6) | (from[i + 1]! & 63);
      i += 2;
    }
    const byte = byteOf[codePoint]!;
    if (byte < 0) return -1;
    to[at++] = byte;
  }
  return at - first;
}

/** The byte that a token text of the form `<0xXX>` stands for, or -1. */
function byteToken(text: Uint8Array, start: number, end: number): number {
  if (end - start !== 6) return -1;
  const string = String.fromCharCode(...text.subarray(start, end));
  return /^<0x[0-9A-Fa-f]{2}>$/.test(string) ? parseInt(string.slice(3, 5), 16) : -1;
}

const kindOf = (data: TokenizerData, id: number): number => data.tokenTypes?.[id] || TokenKind.normal;

const textBytes = ({ tokens: { data, offsets } }: TokenizerData, id: number): Uint8Array =>
  data.subarray(offsets[id], offsets[id + 1]);

const textOf = (data: TokenizerData, id: number): string => Buffer.from(textBytes(data, id)).toString();

/** How files write the names of tokens that mark turns and the like. */
const controlName = /^<(\|.*\||｜.*｜)>$/su;

/**
 * The kinds by which tokens are found, and the stop tokens. No text that a caller writes may begin or end a turn: what
 * the file declares for that, what is known for it by its name and what is named like it counts as control token,
 * whatever kind the file gives it. A single byte or character stays text, as where a line's end ends the answer.
 */
function* classify(data: TokenizerData): Generator<void, { kinds: Uint8Array; stops: StopTokens }> {
  const count = data.tokens.offsets.length - 1;
  const kinds = new Uint8Array(count);
  const stops = new StopTokens();
  const declared = [data.bosTokenId, data.eosTokenId, data.eotTokenId, data.eomTokenId];
  for (let id = 0; id < count; id++) {
    const kind = kindOf(data, id);
    const control =
      stops.consider(id, kind, textBytes(data, id)) ||
      (kind === TokenKind.userDefined && controlName.test(textOf(data, id))) ||
      (kind !== TokenKind.byte && declared.includes(id) && [...textOf(data, id)].length > 1);
    kinds[id] = control ? TokenKind.control : kind;
    if ((id & 0x3ff) === 0) yield;
  }
  return { kinds, stops };
}

class Special {
  readonly control = new SpecialTokens();
  readonly userDefined = new SpecialTokens();

  /** Adds a token with the text `bytes[start, end)`, if its kind is one of these. */
  add(bytes: Uint8Array, start: number, end: number, id: number, kind: number): void {
    if (kind === TokenKind.userDefined) this.userDefined.add(bytes, start, end, id);
    else if (kind === TokenKind.control || kind === TokenKind.unknown) {
      this.control.add(bytes, start, end, id);
    }
    if (this.control.size + this.userDefined.size > mostSpecialNodes) {
      throw invalid(
        "tokens",
        `control and user-defined tokens are too long; expected ${mostSpecialNodes} bytes in all`,
      );
    }
  }
}

/** With the ids that SentencePiece models have where the file names none, if the tokens are what they should be. */
function withUsualIds(data: TokenizerData): TokenizerData {
  if (data.model !== "llama") return data;
  const named = (id: number, name: string): number | undefined =>
    id < data.tokens.offsets.length - 1 && textOf(data, id) === name ? id : undefined;
  return {
    ...data,
    unknownTokenId: data.unknownTokenId ?? named(0, "<unk>"),
    bosTokenId: data.bosTokenId ?? named(1, "<s>"),
    eosTokenId: data.eosTokenId ?? named(2, "</s>"),
  };
}

/** Checks and builds a vocabulary, in steps of bounded work. */
export function* buildVocabulary(given: TokenizerData): Generator<void, Vocabulary> {
  yield* checkData(given);
  const data = withUsualIds(given);
  const { kinds, stops } = yield* classify(data);
  const model =
    data.model === "gpt2" ? yield* buildBytePair(data, kinds) : yield* buildSentencePiece(data, kinds);
  return {
    tokens: data.tokens,
    kinds,
    ...model,
    bosTokenId: data.bosTokenId,
    eosTokenId: data.eosTokenId,
    paddingTokenId: data.paddingTokenId,
    stopTokenIds: stops.ids([data.eosTokenId, data.eotTokenId, data.eomTokenId]),
    addEos: data.addEos ?? false,
  };
}

type Model = Omit<
  Vocabulary,
  "tokens" | "kinds" | "bosTokenId" | "eosTokenId" | "paddingTokenId" | "stopTokenIds" | "addEos"
>;

function* buildBytePair(data: TokenizerData, kinds: Uint8Array): Generator<void, Model> {
  const rules = preTokenizer(data.pre);
  const { data: text, offsets: textOffsets } = data.tokens;
  const count = kinds.length;
  const bytes = new Uint8Array(text.length);
  const offsets = new Uint32Array(count + 1);
  const table = new ByteTable(bytes, offsets, count);
  const special = new Special();
  const byteIds = new Int32Array(256).fill(-1);
  let used = 0;
  let work = 0;
  for (let id = 0; id < count; id++) {
    const start = textOffsets[id]!;
    const end = textOffsets[id + 1]!;
    const kind = kindOf(data, id);
    const ordinary = kind === TokenKind.normal || kind === TokenKind.byte;
    let length = -1;
    if (kind === TokenKind.byte) {
      const byte = byteToken(text, start, end);
      if (byte >= 0) {
        bytes[used] = byte;
        length = 1;
      }
    }
    if (length < 0 && ordinary) length = unmap(text, start, end, bytes, used);
    // Text that is not byte-level stands for itself; no text is merged to it.
    const literal = length < 0;
    if (literal) {
      length = ordinary || kind === TokenKind.userDefined ? end - start : 0;
      bytes.set(text.subarray(start, start + length), used);
    }
    offsets[id] = used;
    used += length;
    offsets[id + 1] = used;
    special.add(text, start, end, id, kinds[id]!);
    const piece = kinds[id] === kind && (ordinary ? !literal : kind === TokenKind.userDefined);
    if (piece && length > 0) {
      table.add(id, !ordinary);
      if (length === 1 && ordinary) byteIds[bytes[used - 1]!] = id;
    }
    if ((work += 16 + end - start) > stepBytes) {
      work = 0;
      yield;
    }
  }
  const merges = yield* readMerges(data.merges!, table, special.control);
  return {
    bytes: bytes.subarray(0, used),
    offsets,
    control: special.control,
    userDefined: special.userDefined,
    encoder: new BytePairEncoder(table, byteIds, merges, rules),
    addBos: data.addBos ?? (rules.addBos === true && data.bosTokenId !== undefined),
    escapesSpaces: false,
    addSpacePrefix: false,
    nfc: rules.nfc ?? false,
  };
}

/** The merge rules; those of tokens that no text becomes are left out. */
function* readMerges(
  merges: StringTable,
  table: ByteTable,
  control: SpecialTokens,
): Generator<void, MergeTable> {
  const { data, offsets } = merges;
  const count = offsets.length - 1;
  const result = new MergeTable(count);
  let joined = new Uint8Array(256);
  let work = 0;
  for (let rank = 0; rank < count; rank++) {
    const start = offsets[rank]!;
    const end = offsets[rank + 1]!;
    const blank = data.indexOf(0x20, start + 1);
    if (blank < 0 || blank + 1 >= end) {
      throw invalid(`merges[${rank}]`, "no two tokens with a space between them; expected two");
    }
    if (joined.length < end - start) joined = new Uint8Array(2 * (end - start));
    const left = unmap(data, start, blank, joined, 0);
    const right = left < 0 ? -1 : unmap(data, blank + 1, end, joined, left);
    if (right < 0)
      throw invalid(`merges[${rank}]`, "a character that stands for no byte; expected byte-level text");
    const find = (from: number, to: number, what: string): number => {
      const id = table.find(joined, from, to, hashBytes(joined, from, to));
      if (id >= 0 || control.has(joined, from, to)) return id;
      throw invalid(`merges[${rank}]`, `${what} is not among the tokens; expected it there`);
    };
    const leftId = find(0, left, "its first part");
    const rightId = find(left, left + right, "its second part");
    const merged = find(0, left + right, "the merged text");
    if (leftId >= 0 && rightId >= 0 && merged >= 0) result.add(leftId, rightId, rank, merged);
    if ((work += 32 + end - start) > stepBytes) {
      work = 0;
      yield;
    }
  }
  return result;
}

const lower = [0xe2, 0x96, 0x81] as const; // U+2581, which stands for a space

function* buildSentencePiece(data: TokenizerData, kinds: Uint8Array): Generator<void, Model> {
  const { data: text, offsets: textOffsets } = data.tokens;
  const count = kinds.length;
  // Output bytes, and the texts by which pieces are found: in these every space is U+2581.
  const bytes = new Uint8Array(text.length);
  const offsets = new Uint32Array(count + 1);
  let spaces = 0;
  for (let i = 0; i < text.length; i++) {
    if (text[i] === 0x20) spaces++;
    if ((i & 0xffff) === 0xffff) yield;
  }
  const keys = new Uint8Array(text.length + 2 * spaces);
  const keyOffsets = new Uint32Array(count + 1);
  const table = new ByteTable(keys, keyOffsets, count);
  const special = new Special();
  const byteIds = new Int32Array(256).fill(-1);
  const beforeSpace = new Uint8Array(256);
  let unused: Uint8Array | undefined;
  let longestPiece = 0;
  let used = 0;
  let key = 0;
  let work = 0;
  for (let id = 0; id < count; id++) {
    const start = textOffsets[id]!;
    const end = textOffsets[id + 1]!;
    const kind = kinds[id]!;
    const piece = kind === TokenKind.normal || kind === TokenKind.userDefined || kind === TokenKind.unused;
    const keyStart = key;
    offsets[id] = used;
    if (kind === TokenKind.byte) {
      const byte = byteToken(text, start, end);
      if (byte < 0) throw invalid(`tokens[${id}]`, 'is a byte token, but not of the form "<0xXX>"');
      byteIds[byte] = id;
      bytes[used++] = byte;
    } else {
      for (let i = start; i < end;) {
        const space =
          text[i] === lower[0] && i + 2 < end && text[i + 1] === lower[1] && text[i + 2] === lower[2];
        if (space || text[i] === 0x20) {
          if (i > start && piece) beforeSpace[keys[key - 1]!] = 1;
          keys.set(lower, key);
          key += 3;
          bytes[used++] = 0x20;
          i += space ? 3 : 1;
        } else keys[key++] = bytes[used++] = text[i++]!;
      }
      const given = kindOf(data, id);
      if (given !== TokenKind.normal && given !== TokenKind.userDefined) used = offsets[id]!;
    }
    offsets[id + 1] = used;
    keyOffsets[id] = keyStart;
    keyOffsets[id + 1] = key;
    special.add(keys, keyStart, key, id, kind);
    if (piece && key > keyStart) {
      table.add(id);
      longestPiece = Math.max(longestPiece, key - keyStart);
      if (kind === TokenKind.unused) (unused ??= new Uint8Array(count))[id] = 1;
    }
    if ((work += 16 + end - start) > stepBytes) {
      work = 0;
      yield;
    }
  }
  if (data.addBos && data.bosTokenId === undefined)
    throw invalid("add_bos_token", "true, but bos_token_id is missing");
  return {
    bytes: bytes.subarray(0, used),
    offsets,
    control: special.control,
    userDefined: special.userDefined,
    encoder: new SentencePieceEncoder({
      table,
      scores: data.scores!,
      byteIds,
      unknownId: data.unknownTokenId ?? -1,
      longestPiece,
      beforeSpace,
      unused,
    }),
    addBos: data.addBos ?? data.bosTokenId !== undefined,
    escapesSpaces: true,
    addSpacePrefix: data.addSpacePrefix ?? true,
    nfc: false,
  };
}
