/** Where a special token stands in a text's bytes. */
export interface SpecialMatch {
  id: number;
  start: number;
  end: number;
}

/** Bytes that are searched in one step. */
const windowLength = 1 << 16;

/** Finds special tokens of one kind in text: the leftmost match, and of those the longest, as the reference does. */
export class SpecialTokens {
  private readonly children = new Map<number, number>(); // node * 256 + byte → node
  private readonly ids: number[] = [-1];
  private readonly first = new Uint8Array(256);

  /** Nodes in the tree: its size in memory is about 60 bytes for each. */
  get size(): number {
    return this.ids.length;
  }

  /** Adds a token with the text `bytes[start, end)`. */
  add(bytes: Uint8Array, start: number, end: number, id: number): void {
    if (start === end) return;
    let node = 0;
    for (let at = start; at < end; at++) {
      const key = node * 256 + bytes[at]!;
      let child = this.children.get(key);
      if (child === undefined) this.children.set(key, (child = this.ids.push(-1) - 1));
      node = child;
    }
    this.ids[node] = id;
    this.first[bytes[start]!] = 1;
  }

  /** The first token in `bytes[from, end)`; yields at intervals of bounded work. */
  *find(bytes: Uint8Array, from: number, end: number): Generator<void, SpecialMatch | undefined> {
    if (this.size === 1) return undefined;
    for (let at = from, pause = from + windowLength; at < end; at++) {
      if (at === pause) {
        pause += windowLength;
        yield;
      }
      if (this.first[bytes[at]!] === 0) continue;
      const match = this.longestAt(bytes, at, end);
      if (match) return match;
    }
    return undefined;
  }

  /** Whether `bytes[start, end)` is the text of one of the tokens. */
  has(bytes: Uint8Array, start: number, end: number): boolean {
    return this.longestAt(bytes, start, end)?.end === end;
  }

  private longestAt(bytes: Uint8Array, start: number, end: number): SpecialMatch | undefined {
    let match: SpecialMatch | undefined;
    let node: number | undefined = 0;
    for (let at = start; at < end; at++) {
      node = this.children.get(node * 256 + bytes[at]!);
      if (node === undefined) break;
      const id: number = this.ids[node]!;
      if (id >= 0) match = { id, start, end: at + 1 };
    }
    return match;
  }
}
