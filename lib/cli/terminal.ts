// Writing to the terminal, or to whatever stands in its place.
import type { Writable } from "node:stream";

import { ReaderGone } from "./usage.js";

/**
 * Makes text from a model or a file harmless to a terminal: control characters other than newline and tab, which
 * could move the cursor, rename the window or worse, become visible symbols. So do those that turn the direction of
 * what follows.
 */
export function visible(text: string): string {
  return text.replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (char) => {
    const code = char.charCodeAt(0);
    if (code < 0x20) return String.fromCharCode(0x2400 + code);
    return code === 0x7f ? "\u2421" : "\ufffd";
  });
}

/** JSON in which no character acts on a terminal either. */
export function json(value: unknown): string {
  const text = JSON.stringify(
    value,
    (_, item: unknown) => (typeof item === "bigint" ? item.toString() : item),
    2,
  );
  return text.replace(/[\u007f-\u009f\u202a-\u202e\u2066-\u2069]/g, (char) => {
    return `\\u${char.charCodeAt(0).toString(16).padStart(4, "0")}`;
  });
}

/** What a terminal stream is, and an ordinary one is not. */
export type Stream = Writable & { isTTY?: boolean; columns?: number };

/** One output stream: keeps to the reader's pace, and notices when the reader is gone. */
export class Output {
  readonly #stream: Stream;
  #gone: Error | undefined;
  #onGone: (() => void) | undefined;

  constructor(stream: Stream) {
    this.#stream = stream;
    stream.on("error", (error: NodeJS.ErrnoException) => {
      this.#gone = ["EPIPE", "ERR_STREAM_DESTROYED", "EOF"].includes(error.code ?? "")
        ? new ReaderGone()
        : error;
      this.#onGone?.();
    });
  }

  get isTerminal(): boolean {
    return this.#stream.isTTY === true;
  }

  get columns(): number {
    return this.#stream.columns || 80;
  }

  /** Called when nobody reads any more. */
  onGone(listener: () => void): void {
    this.#onGone = listener;
  }

  /** Throws ReaderGone if nobody reads any more. */
  check(): void {
    if (this.#gone !== undefined) throw this.#gone;
  }

  /** Writes, and waits while the reader is slow. Throws ReaderGone if there is none any more. */
  async write(text: string): Promise<void> {
    this.check();
    if (text === "" || this.#stream.write(text)) return;
    await new Promise<void>((resolve) => {
      const done = () => {
        this.#stream.off("drain", done);
        this.#stream.off("error", done);
        this.#stream.off("close", done);
        resolve();
      };
      for (const event of ["drain", "error", "close"]) this.#stream.once(event, done);
    });
    this.check();
  }

  /** Writes text that came from outside: harmless on a terminal, unchanged elsewhere. */
  writeForeign(text: string): Promise<void> {
    return this.write(this.isTerminal ? visible(text) : text);
  }

  /** Writes without waiting; for a few words on stderr. Never throws. */
  note(text: string): void {
    if (this.#gone === undefined) this.#stream.write(text);
  }
}

/** A line that is drawn again and again on a terminal, and not at all elsewhere. */
export class ProgressBar {
  readonly #output: Output;
  readonly #label: string;
  #drawn = 0;

  constructor(output: Output, label: string) {
    this.#output = output;
    this.#label = visible(label);
  }

  /** Draws at most 20 times a second. `share` is from 0 to 1. */
  update(share: number, note: string): void {
    if (!this.#output.isTerminal) return;
    const now = performance.now();
    if (now - this.#drawn < 50 && share < 1) return;
    this.#drawn = now;
    const width = Math.max(10, Math.min(40, this.#output.columns - this.#label.length - note.length - 12));
    const full = Math.round(Math.min(1, Math.max(0, share)) * width);
    const bar = "█".repeat(full) + "░".repeat(width - full);
    const percent = `${Math.floor(share * 100)}%`.padStart(4);
    this.#output.note(
      `\r${`${this.#label} ${bar} ${percent} ${note}`.slice(0, this.#output.columns - 1)}\x1b[K`,
    );
  }

  /** Takes the line away. */
  clear(): void {
    if (this.#drawn > 0) this.#output.note("\r\x1b[K");
    this.#drawn = 0;
  }
}

/** A count and what is counted: "1 token", "2 tokens". */
export function plural(count: number, one: string): string {
  return `${count} ${one}${count === 1 ? "" : "s"}`;
}

/** Bytes for people. */
export function bytes(count: number): string {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let unit = 0;
  while (count >= 999.5 && unit + 1 < units.length) {
    count /= 1000;
    ++unit;
  }
  return `${unit === 0 ? count : count.toPrecision(3)} ${units[unit]}`;
}
