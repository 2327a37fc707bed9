/** A growing list of token ids. */
export class IdBuffer {
  private ids: Int32Array;
  length = 0;

  constructor(capacity = 256) {
    this.ids = new Int32Array(capacity);
  }

  push(id: number): void {
    if (this.length === this.ids.length) {
      const larger = new Int32Array(this.length * 2);
      larger.set(this.ids);
      this.ids = larger;
    }
    this.ids[this.length++] = id;
  }

  at(index: number): number {
    return this.ids[index]!;
  }

  /** A copy of the ids from `start` on. */
  toArray(start: number): Int32Array {
    return this.ids.slice(start, this.length);
  }
}
