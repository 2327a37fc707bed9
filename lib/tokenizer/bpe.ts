import { type ByteTable, hashBytes, longestToken } from "./byte-table.js";
import type { IdBuffer } from "./id-buffer.js";
import { longWord, MergeRun, workPerStep } from "./merge-run.js";
import { longestCachedPiece, PieceCache } from "./piece-cache.js";
import { PieceWalker, type PreTokenizerRules } from "./pretokenizers.js";

const seed = (Math.random() * 0x100000000) | 0;

/** Merge rules by pair of token ids: rank (lower is merged first) and the token that the pair becomes. */
export class MergeTable {
  private readonly slots: Int32Array; // [left, right, rank, merged + 1]; merged + 1 = 0: empty
  private readonly mask: number;

  /** @param capacity the most merges that will be added */
  constructor(capacity: number) {
    let size = 16;
    while (size < capacity * 1.5) size *= 2;
    this.slots = new Int32Array(size * 4);
    this.mask = size - 1;
  }

  /** Adds a rule; the last one for a pair counts. */
  add(left: number, right: number, rank: number, merged: number): void {
    const { slots } = this;
    let at = this.first(left, right);
    while (slots[at + 3] !== 0 && !(slots[at] === left && slots[at + 1] === right)) {
      at = (at + 4) & (4 * this.mask + 3);
    }
    slots[at] = left;
    slots[at + 1] = right;
    slots[at + 2] = rank;
    slots[at + 3] = merged + 1;
  }

  /** A handle for `rank` and `merged`, or -1 if the pair cannot be merged. */
  find(left: number, right: number): number {
    const { slots } = this;
    let at = this.first(left, right);
    for (;;) {
      if (slots[at] === left && slots[at + 1] === right && slots[at + 3] !== 0) return at;
      if (slots[at + 3] === 0) return -1;
      at = (at + 4) & (4 * this.mask + 3);
    }
  }

  rank(handle: number): number {
    return this.slots[handle + 2]!;
  }

  merged(handle: number): number {
    return this.slots[handle + 3]! - 1;
  }

  private first(left: number, right: number): number {
    let hash = Math.imul(left ^ seed, 0x9e3779b1 | 0);
    hash = Math.imul(hash ^ (hash >>> 15) ^ right, 0x85ebca6b | 0);
    return ((hash ^ (hash >>> 13)) & this.mask) * 4;
  }
}

const noRank = 0x7fffffff;

/** Byte-level byte pair encoding (`tokenizer.ggml.model` "gpt2") of text that holds no special tokens. */
export class BytePairEncoder {
  private readonly cache = new PieceCache();
  // Symbols of a short piece: token, rank and result of the pair that begins at each.
  private readonly ids = new Int32Array(longestCachedPiece + 1);
  private readonly ranks = new Int32Array(longestCachedPiece + 1);
  private readonly results = new Int32Array(longestCachedPiece + 1);

  /**
   * @param table the normal tokens by their raw bytes
   * @param byteIds the token of each single byte, -1 where the vocabulary has none
   */
  constructor(
    private readonly table: ByteTable,
    private readonly byteIds: Int32Array,
    private readonly merges: MergeTable,
    private readonly rules: PreTokenizerRules,
  ) {}

  /** Appends the ids of `bytes[start, end)` (well-formed UTF-8) to `out`; yields at intervals of bounded work. */
  *encode(bytes: Uint8Array, start: number, end: number, out: IdBuffer): Generator<void, void> {
    const walker = new PieceWalker(this.rules.stages, bytes, end);
    const { cache, table } = this;
    const ignoreMerges = this.rules.ignoreMerges ?? false;
    let work = 0;
    for (let at = start; at < end;) {
      const stop = walker.next(at);
      const short = stop - at <= longestCachedPiece;
      const hash = short || (ignoreMerges && stop - at <= longestToken) ? hashBytes(bytes, at, stop) : 0;
      if (!short || !cache.take(bytes, at, stop, hash, out)) {
        const whole = ignoreMerges && stop - at <= longestToken ? table.find(bytes, at, stop, hash) : -1;
        const from = out.length;
        if (whole >= 0) out.push(whole);
        else if (short) this.mergeShort(bytes, at, stop, out);
        else {
          if (stop - at > longWord) yield;
          const first = byteTokens(bytes, at, stop, this.byteIds);
          if (stop - at > longWord) yield;
          const run = new BytePairRun(first, this.merges);
          yield* run.run(out);
        }
        if (short) cache.put(bytes, at, stop, hash, out, from);
        work += 8;
      }
      work += 2 + ((stop - at) >> 3);
      at = stop;
      if (work > workPerStep) {
        work = 0;
        yield;
      }
    }
  }

  private mergeShort(bytes: Uint8Array, start: number, end: number, out: IdBuffer): void {
    const { ids, ranks, results, merges, byteIds } = this;
    // Bytes without a token are left out before merging, as the reference does.
    let count = 0;
    for (let at = start; at < end; at++) {
      const id = byteIds[bytes[at]!]!;
      if (id >= 0) ids[count++] = id;
    }
    const look = (i: number): void => {
      const handle = i + 1 < count ? merges.find(ids[i]!, ids[i + 1]!) : -1;
      ranks[i] = handle < 0 ? noRank : merges.rank(handle);
      if (handle >= 0) results[i] = merges.merged(handle);
    };
    for (let i = 0; i < count; i++) look(i);
    for (;;) {
      let best = noRank;
      let at = 0;
      for (let i = 0; i < count; i++) {
        if (ranks[i]! < best) {
          best = ranks[i]!;
          at = i;
        }
      }
      if (best === noRank) break;
      ids[at] = results[at]!;
      count--;
      for (let i = at + 1; i < count; i++) {
        ids[i] = ids[i + 1]!;
        ranks[i] = ranks[i + 1]!;
        results[i] = results[i + 1]!;
      }
      look(at);
      if (at > 0) look(at - 1);
    }
    for (let i = 0; i < count; i++) out.push(ids[i]!);
  }
}

/** The tokens of single bytes; bytes without one are left out. */
function byteTokens(bytes: Uint8Array, start: number, end: number, byteIds: Int32Array): Int32Array {
  const ids = new Int32Array(end - start);
  let count = 0;
  for (let at = start; at < end; at++) {
    const id = byteIds[bytes[at]!]!;
    if (id >= 0) ids[count++] = id;
  }
  return ids.subarray(0, count);
}

/** The merges of one long piece. */
class BytePairRun extends MergeRun {
  constructor(
    private readonly first: Int32Array,
    private readonly merges: MergeTable,
  ) {
    super(first.length);
  }

  protected firstId(symbol: number): number {
    return this.first[symbol]!;
  }

  protected findPair(left: number, right: number): boolean {
    const handle = this.merges.find(this.ids[left]!, this.ids[right]!);
    if (handle < 0) return false;
    this.pairPriority = this.merges.rank(handle);
    this.pairId = this.merges.merged(handle);
    return true;
  }

  protected put(symbol: number, out: IdBuffer): void {
    out.push(this.ids[symbol]!);
  }
}
