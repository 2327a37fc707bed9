/** The longest token text that is accepted, in bytes. The longest of published vocabularies have a few hundred. */
export const longestToken = 4096;

const seed = (Math.random() * 0x100000000) | 0;

/**
 * A hash of `bytes[start, end)`, different in every process, so that neither a file nor a text can be made to collide.
 */
export function hashBytes(bytes: Uint8Array, start: number, end: number): number {
  let hash = seed ^ (end - start);
  for (let at = start; at < end; at++) {
    hash = Math.imul(hash ^ bytes[at]!, 0x5bd1e995);
    hash ^= hash >>> 15;
  }
  hash = Math.imul(hash, 0x2c1b3c6d);
  return hash ^ (hash >>> 16);
}

/** Whether `a[aStart, aStart + length)` equals `b[bStart, bStart + length)`. */
export function equalBytes(
  a: Uint8Array,
  aStart: number,
  b: Uint8Array,
  bStart: number,
  length: number,
): boolean {
  for (let i = 0; i < length; i++) if (a[aStart + i] !== b[bStart + i]) return false;
  return true;
}

/** Finds token ids by their bytes: a hash table over one byte buffer, without a JavaScript string per token. */
export class ByteTable {
  private readonly slots: Int32Array; // [hash, id + 1] pairs; 0: empty
  private readonly mask: number;

  /** @param capacity the most tokens that will be added */
  constructor(
    private readonly bytes: Uint8Array,
    private readonly offsets: Uint32Array,
    capacity: number,
  ) {
    let size = 16;
    while (size < capacity * 2) size *= 2;
    this.slots = new Int32Array(size * 2);
    this.mask = size - 1;
  }

  /** Adds a token. Of several with the same bytes the last one is found, or with `keep` the first one. */
  add(id: number, keep = false): void {
    const { bytes, offsets, slots, mask } = this;
    const start = offsets[id]!;
    const end = offsets[id + 1]!;
    const hash = hashBytes(bytes, start, end);
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const other = slots[2 * slot + 1]! - 1;
      if (other >= 0 && !(slots[2 * slot] === hash && this.equals(other, bytes, start, end))) continue;
      if (other >= 0 && keep) return;
      slots[2 * slot] = hash;
      slots[2 * slot + 1] = id + 1;
      return;
    }
  }

  /** The token whose bytes are `bytes[start, end)`, or -1. `hash` is their `hashBytes`. */
  find(bytes: Uint8Array, start: number, end: number, hash: number): number {
    const { slots, mask } = this;
    for (let slot = hash & mask; ; slot = (slot + 1) & mask) {
      const id = slots[2 * slot + 1]! - 1;
      if (id < 0) return -1;
      if (slots[2 * slot] === hash && this.equals(id, bytes, start, end)) return id;
    }
  }

  private equals(id: number, bytes: Uint8Array, start: number, end: number): boolean {
    const from = this.offsets[id]!;
    const length = this.offsets[id + 1]! - from;
    return length === end - start && equalBytes(this.bytes, from, bytes, start, length);
  }
}
