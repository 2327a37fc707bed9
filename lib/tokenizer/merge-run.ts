import type { IdBuffer } from "./id-buffer.js";

/** Work between two points where a long encoding can be interrupted; about a tenth of a millisecond. */
export const workPerStep = 1024;
/** Bytes of a word from which finding its end, reading it and preparing its merges are steps of their own. */
export const longWord = 1 << 14;

/**
 * Merges neighbouring symbols, best pair first and leftmost among equals, until no pair can be merged: with a heap of
 * pairs over a linked list, in O(n log n), so that a single enormous word costs no more per byte than many small ones.
 * Symbols are numbered 0…n-1; a merged symbol keeps the number of its left part.
 */
export abstract class MergeRun {
  /** The symbol after each one, n at the end. */
  protected readonly next: Int32Array;
  private readonly previous: Int32Array;
  /** The token each symbol stands for, or -1. */
  protected readonly ids: Int32Array;
  // The pair that begins at a symbol: the token it becomes, and a stamp that makes older heap entries stale.
  private readonly pairIds: Int32Array;
  private readonly stamps: Int32Array;
  private readonly heapPriority: Float64Array;
  private readonly heapSymbol: Int32Array;
  private readonly heapStamp: Int32Array;
  private heapSize = 0;
  private work = 0;

  /** What `findPair` found: pairs with lower priority are merged first. */
  protected pairPriority = 0;
  protected pairId = -1;

  constructor(protected readonly count: number) {
    this.next = new Int32Array(count);
    this.previous = new Int32Array(count);
    this.ids = new Int32Array(count);
    this.pairIds = new Int32Array(count);
    this.stamps = new Int32Array(count);
    // Every merge takes one entry off and adds at most two.
    this.heapPriority = new Float64Array(2 * count);
    this.heapSymbol = new Int32Array(2 * count);
    this.heapStamp = new Int32Array(2 * count);
  }

  /** Whether two neighbouring symbols can be merged; sets `pairPriority` and `pairId`. Gives its cost through `spend`. */
  protected abstract findPair(left: number, right: number): boolean;

  protected spend(work: number): void {
    this.work += work;
  }

  /** The token that a symbol stands for at first, or -1. */
  protected abstract firstId(symbol: number): number;

  /** Appends the tokens that one symbol became. */
  protected abstract put(symbol: number, out: IdBuffer): void;

  /** Merges and appends the result; yields at intervals of bounded work. */
  *run(out: IdBuffer): Generator<void, void> {
    yield* this.merge();
    for (let i = 0, n = 0; i < this.count; i = this.next[i]!) {
      this.put(i, out);
      if ((++n & 0x1fff) === 0) yield;
    }
  }

  private *merge(): Generator<void, void> {
    const { count, next, previous } = this;
    for (let i = 0; i < count; i++) {
      next[i] = i + 1;
      previous[i] = i - 1;
      this.ids[i] = this.firstId(i);
      if ((i & 0x1fff) === 0x1fff) yield;
    }
    for (let i = 0; i + 1 < count; i++) {
      this.look(i);
      if (this.work > workPerStep) {
        this.work = 0;
        yield;
      }
    }
    while (this.heapSize > 0) {
      const left = this.pop();
      if (left >= 0) {
        const right = next[left]!;
        const beyond = next[right]!;
        this.ids[left] = this.pairIds[left]!;
        next[left] = beyond;
        this.stamps[right] = -1;
        if (beyond < count) previous[beyond] = left;
        this.stamps[left]!++;
        if (beyond < count) this.look(left);
        if (previous[left]! >= 0) this.look(previous[left]!);
      }
      if (this.work > workPerStep) {
        this.work = 0;
        yield;
      }
    }
  }

  private look(left: number): void {
    this.work++;
    const stamp = ++this.stamps[left]!;
    if (!this.findPair(left, this.next[left]!)) return;
    this.pairIds[left] = this.pairId;
    this.push(this.pairPriority, left, stamp);
  }

  private push(priority: number, symbol: number, stamp: number): void {
    const { heapPriority, heapSymbol, heapStamp } = this;
    let at = this.heapSize++;
    while (at > 0) {
      const parent = (at - 1) >> 1;
      const other = heapPriority[parent]!;
      if (other < priority || (other === priority && heapSymbol[parent]! <= symbol)) break;
      heapPriority[at] = other;
      heapSymbol[at] = heapSymbol[parent]!;
      heapStamp[at] = heapStamp[parent]!;
      at = parent;
    }
    heapPriority[at] = priority;
    heapSymbol[at] = symbol;
    heapStamp[at] = stamp;
  }

  /** Takes the best entry off; gives its symbol, or -1 if the entry is stale. */
  private pop(): number {
    const { heapPriority, heapSymbol, heapStamp } = this;
    this.work++;
    const symbol = heapSymbol[0]!;
    const fresh = heapStamp[0] === this.stamps[symbol];
    const size = --this.heapSize;
    const priority = heapPriority[size]!;
    const moved = heapSymbol[size]!;
    const stamp = heapStamp[size]!;
    let at = 0;
    for (;;) {
      let child = 2 * at + 1;
      if (child >= size) break;
      const other = child + 1;
      if (
        other < size &&
        (heapPriority[other]! < heapPriority[child]! ||
          (heapPriority[other] === heapPriority[child] && heapSymbol[other]! < heapSymbol[child]!))
      ) {
        child = other;
      }
      const best = heapPriority[child]!;
      if (priority < best || (priority === best && moved <= heapSymbol[child]!)) break;
      heapPriority[at] = best;
      heapSymbol[at] = heapSymbol[child]!;
      heapStamp[at] = heapStamp[child]!;
      at = child;
    }
    heapPriority[at] = priority;
    heapSymbol[at] = moved;
    heapStamp[at] = stamp;
    return fresh ? symbol : -1;
  }
}
