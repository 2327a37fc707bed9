import { type ByteTable, hashBytes, longestToken } from "./byte-table.js";
import type { IdBuffer } from "./id-buffer.js";
import { longWord, MergeRun, workPerStep } from "./merge-run.js";
import { longestCachedPiece, PieceCache } from "./piece-cache.js";
import { after } from "./unicode.js";

/** What a SentencePiece vocabulary needs beside its tokens. */
export interface SentencePieceVocabulary {
  /** Normal, user-defined and unused pieces by their text (with U+2581 for a space). */
  table: ByteTable;
  scores: Float32Array;
  /** The `<0xXX>` token of each byte, -1 where the vocabulary has none. */
  byteIds: Int32Array;
  /** The token for a character that has no other, or -1 (such characters are left out). */
  unknownId: number;
  /** Length of the longest piece in `table`, in bytes. */
  longestPiece: number;
  /** 1 for each byte that stands before U+2581 in some piece: there no merge can be ruled out. */
  beforeSpace: Uint8Array;
  /** 1 for each unused piece: it takes part in merges and is then taken apart again. */
  unused: Uint8Array | undefined;
}

/**
 * SentencePiece BPE (`tokenizer.ggml.model` "llama"): neighbouring symbols whose joined text is a piece are merged,
 * best score first, leftmost among equals; what has no piece becomes bytes. Source: Kudo and Richardson, SentencePiece,
 * 2018, and the behaviour of the sentencepiece library. The text has U+2581 for spaces and holds no special tokens.
 */
export class SentencePieceEncoder {
  private readonly cache = new PieceCache();
  // Symbols of a short word: where each begins, its token, and priority and token of the pair that begins with it.
  private readonly starts = new Int32Array(longestCachedPiece + 2);
  private readonly ids = new Int32Array(longestCachedPiece + 1);
  private readonly priorities = new Float64Array(longestCachedPiece + 1);
  private readonly pairIds = new Int32Array(longestCachedPiece + 1);

  constructor(private readonly vocabulary: SentencePieceVocabulary) {}

  /** Appends the ids of `bytes[start, end)` (well-formed UTF-8) to `out`; yields at intervals of bounded work. */
  *encode(bytes: Uint8Array, start: number, end: number, out: IdBuffer): Generator<void, void> {
    const { cache } = this;
    let work = 0;
    for (let at = start; at < end;) {
      const stop = this.wordEnd(bytes, at, end);
      const short = stop - at <= longestCachedPiece;
      const hash = short ? hashBytes(bytes, at, stop) : 0;
      if (!short || !cache.take(bytes, at, stop, hash, out)) {
        const from = out.length;
        if (short && this.vocabulary.unused === undefined) this.mergeShort(bytes, at, stop, out);
        else {
          if (stop - at > longWord) yield;
          const run = new SentencePieceRun(bytes, at, stop, this.vocabulary);
          yield* run.run(out);
        }
        if (short) cache.put(bytes, at, stop, hash, out, from);
        work += 32;
      }
      work += 2 + ((stop - at) >> 3);
      at = stop;
      if (work > workPerStep) {
        work = 0;
        yield;
      }
    }
  }

  /** The same as SentencePieceRun for a word of at most `longestCachedPiece` bytes and no unused pieces. */
  private mergeShort(bytes: Uint8Array, start: number, end: number, out: IdBuffer): void {
    const { starts, ids, priorities, pairIds, vocabulary } = this;
    const { table, scores, longestPiece } = vocabulary;
    let count = 0;
    for (let at = start; at < end; at = after(bytes, at)) {
      ids[count] = -1;
      starts[count++] = at;
    }
    starts[count] = end;
    const look = (i: number): void => {
      priorities[i] = none;
      if (i + 1 >= count) return;
      const from = starts[i]!;
      const to = starts[i + 2]!;
      if (to - from > longestPiece) return;
      const id = table.find(bytes, from, to, hashBytes(bytes, from, to));
      if (id < 0) return;
      priorities[i] = -scores[id]!;
      pairIds[i] = id;
    };
    for (let i = 0; i < count; i++) look(i);
    for (;;) {
      let at = -1;
      let best = none;
      for (let i = 0; i + 1 < count; i++) {
        if (priorities[i]! < best) {
          best = priorities[i]!;
          at = i;
        }
      }
      if (at < 0) break;
      ids[at] = pairIds[at]!;
      count--;
      for (let i = at + 1; i < count; i++) {
        starts[i] = starts[i + 1]!;
        ids[i] = ids[i + 1]!;
        priorities[i] = priorities[i + 1]!;
        pairIds[i] = pairIds[i + 1]!;
      }
      starts[count] = end;
      look(at);
      if (at > 0) look(at - 1);
    }
    for (let i = 0; i < count; i++) putSymbol(vocabulary, bytes, starts[i]!, starts[i + 1]!, ids[i]!, out);
  }

  /** The next place from `at` on that no piece lies across: before a U+2581 that no piece has at this place. */
  private wordEnd(bytes: Uint8Array, at: number, end: number): number {
    const { beforeSpace } = this.vocabulary;
    for (let i = at + 1; i + 2 < end; i++) {
      if (bytes[i] !== 0xe2 || bytes[i + 1] !== 0x96 || bytes[i + 2] !== 0x81) continue;
      if (beforeSpace[bytes[i - 1]!] === 0) return i;
    }
    return end;
  }
}

/** No pair: a priority that never comes first (scores are finite). */
const none = Infinity;

/** Appends the token of a symbol that is a piece or a single character: the piece, else its bytes, else unknown. */
function putSymbol(
  vocabulary: SentencePieceVocabulary,
  bytes: Uint8Array,
  start: number,
  end: number,
  merged: number,
  out: IdBuffer,
): void {
  const { table, byteIds, unknownId } = vocabulary;
  const id = merged >= 0 ? merged : table.find(bytes, start, end, hashBytes(bytes, start, end));
  if (id >= 0) {
    out.push(id);
    return;
  }
  for (let at = start; at < end; at++) {
    if (byteIds[bytes[at]!]! < 0) {
      if (unknownId >= 0) out.push(unknownId);
      return;
    }
  }
  for (let at = start; at < end; at++) out.push(byteIds[bytes[at]!]!);
}

/** Where each character of `bytes[start, end)` begins, and `end`. */
function characterStarts(bytes: Uint8Array, start: number, end: number): Int32Array {
  const starts = new Int32Array(end - start + 1);
  let count = 0;
  for (let at = start; at < end; at = after(bytes, at)) starts[count++] = at;
  starts[count] = end;
  return starts.subarray(0, count + 1);
}

/** The merges of one word. */
class SentencePieceRun extends MergeRun {
  private readonly starts: Int32Array;
  private readonly longest: number;
  /** For unused pieces: where the pair that became the piece is divided (length of the left part). */
  private readonly divisions: Map<number, number> | undefined;

  constructor(
    private readonly bytes: Uint8Array,
    start: number,
    end: number,
    private readonly vocabulary: SentencePieceVocabulary,
  ) {
    const starts = characterStarts(bytes, start, end);
    super(starts.length - 1);
    this.starts = starts;
    this.longest = Math.min(vocabulary.longestPiece, longestToken);
    this.divisions = vocabulary.unused && new Map();
  }

  protected findPair(left: number, right: number): boolean {
    const { bytes, starts, vocabulary } = this;
    const start = starts[left]!;
    const end = starts[this.next[right]!]!;
    if (end - start > this.longest) return false;
    this.spend((end - start) >> 3);
    const id = vocabulary.table.find(bytes, start, end, hashBytes(bytes, start, end));
    if (id < 0) return false;
    this.pairPriority = -vocabulary.scores[id]!;
    this.pairId = id;
    if (this.divisions && vocabulary.unused![id]) this.divisions.set(id, starts[right]! - start);
    return true;
  }

  protected firstId(): number {
    return -1;
  }

  protected put(symbol: number, out: IdBuffer): void {
    this.resolve(this.starts[symbol]!, this.starts[this.next[symbol]!]!, this.ids[symbol]!, out);
  }

  /** Appends the tokens of a symbol, with unused pieces divided again. */
  private resolve(start: number, end: number, merged: number, out: IdBuffer): void {
    const { bytes, divisions, vocabulary } = this;
    if (divisions) {
      const id =
        merged >= 0 ? merged : vocabulary.table.find(bytes, start, end, hashBytes(bytes, start, end));
      const division = id >= 0 ? divisions.get(id) : undefined;
      if (division !== undefined) {
        this.resolve(start, start + division, -1, out);
        this.resolve(start + division, end, -1, out);
        return;
      }
    }
    putSymbol(vocabulary, bytes, start, end, merged, out);
  }
}
