import { classRuns } from "./unicode-data.js";

/** General category L. */
export const LETTER = 1;
/** General category N. */
export const NUMBER = 2;
/** Property White_Space: what `\s` means in the published pre-tokenizer patterns (not what it means in JavaScript). */
export const SPACE = 4;
/** General category M. */
export const MARK = 8;
/** General category P. */
export const PUNCTUATION = 16;
/** General category S. */
export const SYMBOL = 32;
/** General categories Lu and Lt. */
export const UPPER = 64;
/** General category Ll. */
export const LOWER = 128;

let decoded: Uint8Array | undefined;

/** Class flags of every code point (`table[codePoint]`, 0x110000 entries), from one fixed Unicode version. */
export function classTable(): Uint8Array {
  if (decoded) return decoded;
  const table = new Uint8Array(0x110000);
  let at = 0;
  const put = (run: string): void => {
    const [length, flags] = run.split(".");
    const end = at + parseInt(length!, 36);
    if (flags) table.fill(parseInt(flags, 36), at, end);
    at = end;
  };
  for (const word of classRuns.trim().split(/\s+/)) {
    const [pair, count] = word.split("*");
    if (count === undefined) put(word);
    else {
      const [a, b] = pair!.split(",");
      for (let i = parseInt(count, 36); i > 0; i--) {
        put(a!);
        put(b!);
      }
    }
  }
  return (decoded = table);
}

const classes = classTable();

/** Class flags of the character that begins at `bytes[at]`; the bytes must be well-formed UTF-8. */
export function flagsAt(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  return lead < 0x80 ? classes[lead]! : classes[codePointAt(bytes, at)]!;
}

/** The code point that begins at `bytes[at]`; the bytes must be well-formed UTF-8. */
export function codePointAt(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  if (lead < 0x80) return lead;
  if (lead < 0xe0) return ((lead & 31) << 6) | (bytes[at + 1]! & 63);
  if (lead < 0xf0) return ((lead & 15) << 12) | ((bytes[at + 1]! & 63) << 6) | (bytes[at + 2]! & 63);
  return (
    ((lead & 7) << 18) | ((bytes[at + 1]! & 63) << 12) | ((bytes[at + 2]! & 63) << 6) | (bytes[at + 3]! & 63)
  );
}

/** Where the character after the one at `at` begins; the bytes must be well-formed UTF-8. */
export function after(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  return lead < 0x80 ? at + 1 : lead < 0xe0 ? at + 2 : lead < 0xf0 ? at + 3 : at + 4;
}

/** The end of the run of characters from `at` on that have one of the flags in `mask`. */
export function runOf(bytes: Uint8Array, at: number, end: number, mask: number): number {
  while (at < end) {
    const lead = bytes[at]!;
    if (lead < 0x80) {
      if ((classes[lead]! & mask) === 0) return at;
      at++;
    } else {
      if ((classes[codePointAt(bytes, at)]! & mask) === 0) return at;
      at += lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    }
  }
  return at;
}

/** The end of the run of characters from `at` on that have none of the flags in `mask`. */
export function runWithout(bytes: Uint8Array, at: number, end: number, mask: number): number {
  while (at < end) {
    const lead = bytes[at]!;
    if (lead < 0x80) {
      if ((classes[lead]! & mask) !== 0) return at;
      at++;
    } else {
      if ((classes[codePointAt(bytes, at)]! & mask) !== 0) return at;
      at += lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
    }
  }
  return at;
}
