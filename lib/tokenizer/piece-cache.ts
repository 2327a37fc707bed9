import { equalBytes } from "./byte-table.js";
import type { IdBuffer } from "./id-buffer.js";

const slotCount = 1 << 16;
const keyBytes = 1 << 19;
const idCount = 1 << 18;
const probes = 4;

/** The longest piece that is remembered, in bytes. */
export const longestCachedPiece = 64;

/**
 * Remembers the token ids of short pieces. Bounded (about 2.5 MB): when its room is used up it forgets everything and
 * starts again.
 */
export class PieceCache {
  private readonly slots = new Int32Array(slotCount * 4); // hash, key start, key length (0: empty), id start | count
  private readonly counts = new Uint8Array(slotCount);
  private readonly keys = new Uint8Array(keyBytes);
  private readonly ids = new Int32Array(idCount);
  private keysUsed = 0;
  private idsUsed = 0;
  private used = 0;

  /** Appends the ids of a remembered piece to `out`; false if the piece is not remembered. */
  take(bytes: Uint8Array, start: number, end: number, hash: number, out: IdBuffer): boolean {
    const { slots, keys } = this;
    const length = end - start;
    for (let probe = 0; probe < probes; probe++) {
      const slot = (hash + probe) & (slotCount - 1);
      const at = slot * 4;
      const keyLength = slots[at + 2]!;
      if (keyLength === 0) return false;
      if (slots[at] !== hash || keyLength !== length) continue;
      if (!equalBytes(keys, slots[at + 1]!, bytes, start, length)) continue;
      const first = slots[at + 3]!;
      const count = this.counts[slot]!;
      if (count === 1) out.push(this.ids[first]!);
      else for (let i = 0; i < count; i++) out.push(this.ids[first + i]!);
      return true;
    }
    return false;
  }

  /** Remembers that the piece gave the ids in `out` from `from` on. */
  put(bytes: Uint8Array, start: number, end: number, hash: number, out: IdBuffer, from: number): void {
    const length = end - start;
    const count = out.length - from;
    if (length > longestCachedPiece || count > 255) return;
    if (this.keysUsed + length > keyBytes || this.idsUsed + count > idCount || this.used > slotCount * 0.7) {
      for (let slot = 0; slot < slotCount; slot++) this.slots[slot * 4 + 2] = 0;
      this.keysUsed = this.idsUsed = this.used = 0;
    }
    for (let probe = 0; probe < probes; probe++) {
      const slot = (hash + probe) & (slotCount - 1);
      const at = slot * 4;
      if (this.slots[at + 2] !== 0) continue;
      this.slots[at] = hash;
      this.slots[at + 1] = this.keysUsed;
      this.slots[at + 2] = length;
      this.slots[at + 3] = this.idsUsed;
      this.counts[slot] = count;
      this.keys.set(bytes.subarray(start, end), this.keysUsed);
      for (let i = 0; i < count; i++) this.ids[this.idsUsed + i] = out.at(from + i);
      this.keysUsed += length;
      this.idsUsed += count;
      this.used++;
      return;
    }
  }
}
