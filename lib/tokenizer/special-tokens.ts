/** Stretches of a text, asked for from left to right. */
export class Stretches {
  private next = 0;

  /** @param borders where each begins and ends, ascending */
  constructor(private readonly borders: readonly number[]) {}

  get areNone(): boolean {
    return this.borders.length === 0;
  }

  /** Where the stretch ends that holds `at`; not behind `at` if none does. `at` must not fall from call to call. */
  endAround(at: number): number {
    const { borders } = this;
    while (this.next < borders.length && borders[this.next + 1]! <= at) this.next += 2;
    return this.next < borders.length && borders[this.next]! <= at ? borders[this.next + 1]! : at;
  }
}

/**
 * Finds special tokens in text: the leftmost match, and of those the longest, as the reference does. User-defined tokens
 * match everywhere, control tokens only within given stretches.
 */
export class SpecialTokens {
  private readonly children = new Map<number, number>(); // node * 256 + byte → node
  private readonly userIds: number[] = [-1];
  private readonly controlIds: number[] = [-1];
  private readonly firstUser = new Uint8Array(256);
  private readonly firstAny = new Uint8Array(256);

  /** Where the match that `find` gave begins and ends. */
  matchStart = 0;
  matchEnd = 0;

  /** Nodes in the tree: its size in memory is about 60 bytes for each. */
  get size(): number {
    return this.userIds.length;
  }

  /** Adds a token with the text `bytes[start, end)`. */
  add(bytes: Uint8Array, start: number, end: number, id: number, control: boolean): void {
    if (start === end) return;
    let node = 0;
    for (let at = start; at < end; at++) {
      const key = node * 256 + bytes[at]!;
      let child = this.children.get(key);
      if (child === undefined) {
        child = this.userIds.push(-1) - 1;
        this.controlIds.push(-1);
        this.children.set(key, child);
      }
      node = child;
    }
    (control ? this.controlIds : this.userIds)[node] = id;
    this.firstAny[bytes[start]!] = 1;
    if (!control) this.firstUser[bytes[start]!] = 1;
  }

  /**
   * The first token that begins in `bytes[from, until)` and ends by `end`; -1 if there is none. Control tokens lie in one
   * stretch of `control` each.
   */
  find(bytes: Uint8Array, from: number, until: number, end: number, control: Stretches): number {
    const first = control.areNone ? this.firstUser : this.firstAny;
    for (let at = from; at < until; at++) {
      if (first[bytes[at]!] === 0) continue;
      const id = this.longestAt(bytes, at, end, control.endAround(at));
      if (id < 0) continue;
      this.matchStart = at;
      return id;
    }
    return -1;
  }

  private longestAt(bytes: Uint8Array, start: number, end: number, controlEnd: number): number {
    let found = -1;
    let node: number | undefined = 0;
    for (let at = start; at < end; at++) {
      node = this.children.get(node * 256 + bytes[at]!);
      if (node === undefined) break;
      const id: number =
        at < controlEnd && this.controlIds[node]! >= 0 ? this.controlIds[node]! : this.userIds[node]!;
      if (id < 0) continue;
      found = id;
      this.matchEnd = at + 1;
    }
    return found;
  }
}
