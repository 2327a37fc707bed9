/*
 * Scanners: published pre-tokenizer patterns written out by hand over UTF-8 bytes. They run in linear time where a
 * backtracking regular expression engine may not, and they do not depend on the Unicode version of the JavaScript
 * engine. The patterns are quoted from the tokenizer.json files of the models named in pretokenizers.ts.
 */
import { after, codePointAt, flagsAt, LETTER, LOWER, MARK, NUMBER, PUNCTUATION } from "./unicode.js";
import { runOf, runWithout, SPACE, SYMBOL, UPPER } from "./unicode.js";

/**
 * Gives the end of the piece that begins at `start` (`start < end`). The text to split ends at `end`; the result is
 * greater than `start` and at most `end`, always between two characters. Bytes are well-formed UTF-8.
 */
export type Scanner = (bytes: Uint8Array, start: number, end: number) => number;

/** Like Scanner, but gives -1 where the pattern does not match at `start`. */
export type Matcher = Scanner;

const LF = 0x0a;
const CR = 0x0d;
const BLANK = 0x20;
const APOSTROPHE = 0x27;
const SLASH = 0x2f;

/** `'s|'t|'re|'ve|'m|'ll|'d` at an apostrophe; -1 if none. Ignoring case, U+017F (long s) is an s as well. */
function contraction(bytes: Uint8Array, at: number, end: number, ignoreCase: boolean): number {
  if (at + 1 >= end) return -1;
  const fold = ignoreCase ? 0x20 : 0;
  const first = bytes[at + 1]! | fold;
  if (first === 0x73 || first === 0x74 || first === 0x6d || first === 0x64) return at + 2;
  if (ignoreCase && at + 2 < end && bytes[at + 1] === 0xc5 && bytes[at + 2] === 0xbf) return at + 3;
  if (at + 2 >= end) return -1;
  const second = bytes[at + 2]! | fold;
  if ((first === 0x72 || first === 0x76) && second === 0x65) return at + 3;
  return first === 0x6c && second === 0x6c ? at + 3 : -1;
}

/** `\s+(?!\S)|\s+` at white space: all of the run at the end of the text, else all but its last character. */
function spaces(bytes: Uint8Array, start: number, end: number): number {
  let last = start;
  let at = after(bytes, start);
  while (at < end && flagsAt(bytes, at) & SPACE) {
    last = at;
    at = after(bytes, at);
  }
  return at === end || last === start ? at : last;
}

/** `\s*[\r\n]+|\s+(?!\S)|\s+` at white space: up to the run's last line break if it has one, else as `spaces`. */
function linesOrSpaces(bytes: Uint8Array, start: number, end: number): number {
  let last = start;
  let lineEnd = -1;
  let at = start;
  do {
    const byte = bytes[at]!;
    last = at;
    at = after(bytes, at);
    if (byte === LF || byte === CR) lineEnd = at;
  } while (at < end && flagsAt(bytes, at) & SPACE);
  if (lineEnd >= 0) return lineEnd;
  return at === end || last === start ? at : last;
}

/** The end of the run of CR, LF and (if asked) slashes. */
function lineBreaks(bytes: Uint8Array, at: number, end: number, slash: boolean): number {
  while (at < end) {
    const byte = bytes[at];
    if (byte !== LF && byte !== CR && !(slash && byte === SLASH)) break;
    at++;
  }
  return at;
}

/** The end of the run of at most `limit` numbers. */
function numbers(bytes: Uint8Array, at: number, end: number, limit: number): number {
  for (let n = 0; n < limit && at < end && flagsAt(bytes, at) & NUMBER; n++) at = after(bytes, at);
  return at;
}

/**
 * GPT-2: `'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+`
 */
export const gpt2: Scanner = (bytes, start, end) => {
  const byte = bytes[start]!;
  if (byte === APOSTROPHE) {
    const stop = contraction(bytes, start, end, false);
    if (stop >= 0) return stop;
  }
  const at = byte === BLANK && start + 1 < end ? start + 1 : start;
  const flags = flagsAt(bytes, at);
  if (flags & LETTER) return runOf(bytes, at, end, LETTER);
  if (flags & NUMBER) return runOf(bytes, at, end, NUMBER);
  if (flags & SPACE) return spaces(bytes, start, end);
  return runWithout(bytes, at, end, SPACE | LETTER | NUMBER);
};

/** What differs between the patterns of the cl100k and o200k families. */
export interface WordRules {
  /** Take `'s`, `'re`, … as pieces of their own (cl100k) or at the end of a word (with `cased`), in any case. */
  contractions: boolean;
  /** Split words where lower case is followed by upper case (o200k, tekken). */
  cased?: boolean;
  /** Marks count as letters, and not as punctuation (Qwen 3.5). */
  marks?: boolean;
  /** The most digits in one piece. */
  digits: number;
  /** What may follow punctuation in its piece: line breaks (default), these and slashes, or nothing. */
  tail?: "lines" | "slashes" | "none";
}

/**
 * The cl100k pattern (Llama 3, Qwen 2, …):
 * `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 * and, with `cased`, the o200k pattern, whose words are
 * `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?` or
 * `[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?`.
 */
export function words(rules: WordRules): Scanner {
  const letters = rules.marks ? LETTER | MARK : LETTER;
  const notPunctuation = SPACE | letters | NUMBER;
  const cased = rules.cased ?? false;
  const contractions = rules.contractions;
  const tail = rules.tail ?? "lines";
  const digits = rules.digits;
  return (bytes, start, end) => {
    const byte = bytes[start]!;
    if (contractions && !cased && byte === APOSTROPHE) {
      const stop = contraction(bytes, start, end, true);
      if (stop >= 0) return stop;
    }
    const flags = flagsAt(bytes, start);
    const lineBreak = byte === LF || byte === CR;
    const second = after(bytes, start);
    // A word, with at most one character before it that is neither a letter, a number nor a line break.
    const prefix = !lineBreak && (flags & (LETTER | NUMBER)) === 0 && second < end;
    if (cased) {
      const stop = casedWord(bytes, start, prefix ? second : -1, end);
      if (stop >= 0) {
        const suffix = contractions && bytes[stop] === APOSTROPHE ? contraction(bytes, stop, end, true) : -1;
        return suffix >= 0 ? suffix : stop;
      }
    } else {
      if (flags & letters) return runOf(bytes, second, end, letters);
      if (prefix && flagsAt(bytes, second) & letters) return runOf(bytes, second, end, letters);
    }
    if (flags & NUMBER) return numbers(bytes, start, end, digits);
    const at = byte === BLANK && second < end ? second : start;
    if ((flagsAt(bytes, at) & notPunctuation) === 0) {
      const stop = runWithout(bytes, at, end, notPunctuation);
      return tail === "none" ? stop : lineBreaks(bytes, stop, end, tail === "slashes");
    }
    return linesOrSpaces(bytes, start, end);
  };
}

/** The o200k word that begins at `start`, or after a prefix character at `second` (-1: no prefix allowed). */
function casedWord(bytes: Uint8Array, start: number, second: number, end: number): number {
  let stop = second >= 0 ? upperThenLower(bytes, second, end) : -1;
  if (stop < 0) stop = upperThenLower(bytes, start, end);
  if (stop < 0 && second >= 0) stop = upperRun(bytes, second, end);
  return stop < 0 ? upperRun(bytes, start, end) : stop;
}

/** The end of the run of Lu, Lt, Lm, Lo and M. */
function upperEnd(bytes: Uint8Array, at: number, end: number): number {
  for (; at < end; at = after(bytes, at)) {
    const flags = flagsAt(bytes, at);
    if ((flags & (LETTER | MARK)) === 0 || flags & LOWER) break;
  }
  return at;
}

/** The end of the run of Ll, Lm, Lo and M. */
function lowerEnd(bytes: Uint8Array, at: number, end: number): number {
  for (; at < end; at = after(bytes, at)) {
    const flags = flagsAt(bytes, at);
    if ((flags & (LETTER | MARK)) === 0 || flags & UPPER) break;
  }
  return at;
}

/** Upper `*` lower `+`, with the backtracking of the pattern where the classes overlap; -1 if it does not match. */
function upperThenLower(bytes: Uint8Array, start: number, end: number): number {
  let both = -1; // the end of the last character so far that is in both classes
  let at = start;
  while (at < end) {
    const flags = flagsAt(bytes, at);
    if ((flags & (LETTER | MARK)) === 0) break;
    if (flags & LOWER) return lowerEnd(bytes, at, end);
    at = after(bytes, at);
    if ((flags & UPPER) === 0) both = at;
  }
  return both;
}

/** Upper `+` lower `*`; -1 if it does not match. */
function upperRun(bytes: Uint8Array, start: number, end: number): number {
  const upper = upperEnd(bytes, start, end);
  return upper === start ? -1 : lowerEnd(bytes, upper, end);
}

/** A matcher made total: what lies between matches is a piece too ("isolated" splitting). */
export function isolate(match: Matcher): Scanner {
  return (bytes, start, end) => {
    const stop = match(bytes, start, end);
    if (stop > start) return stop;
    let at = after(bytes, start);
    while (at < end && match(bytes, at, end) <= at) at = after(bytes, at);
    return at;
  };
}

/** `[classes]+`, or one character of it. */
export function classRun(mask: number, limit = Infinity): Matcher {
  return (bytes, start, end) => {
    let at = start;
    for (let n = 0; n < limit && at < end && flagsAt(bytes, at) & mask; n++) at = after(bytes, at);
    return at === start ? -1 : at;
  };
}

/** `\s?[classes]+` */
export function spacedClassRun(mask: number): Matcher {
  return (bytes, start, end) => {
    // A space is in none of the classes used here, so the optional space never has to be given back.
    const at = flagsAt(bytes, start) & SPACE ? after(bytes, start) : start;
    const stop = runOf(bytes, at, end, mask);
    return stop === at ? -1 : stop;
  };
}

/** Sorted, inclusive code point ranges, as `[first, last, first, last, …]`. */
export type Ranges = readonly number[];

function inRanges(codePoint: number, ranges: Ranges): boolean {
  let low = 0;
  let high = ranges.length / 2;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (ranges[2 * middle + 1]! < codePoint) low = middle + 1;
    else high = middle;
  }
  return 2 * low < ranges.length && ranges[2 * low]! <= codePoint;
}

/** `[ranges]+`, or `\s?[ranges]+` with `spaced`. */
export function rangeRun(ranges: Ranges, spaced = false): Matcher {
  return (bytes, start, end) => {
    // As in a pattern, the optional space is taken first and given back if no match follows.
    for (const from of spaced && flagsAt(bytes, start) & SPACE ? [after(bytes, start), start] : [start]) {
      let at = from;
      while (at < end && inRanges(codePointAt(bytes, at), ranges)) at = after(bytes, at);
      if (at > from) return at;
    }
    return -1;
  };
}

/** `[\r\n]`: one line break. */
export const lineBreak: Matcher = (bytes, start) =>
  bytes[start] === LF || bytes[start] === CR ? start + 1 : -1;

/** `\s+$` isolated, in linear time: the white space at the end, and all before it. */
export const trailingSpace: Scanner = (bytes, start, end) => {
  let tail = end;
  while (tail > start) {
    let at = tail - 1;
    while (at > start && (bytes[at]! & 0xc0) === 0x80) at--;
    if ((flagsAt(bytes, at) & SPACE) === 0) break;
    tail = at;
  }
  return tail > start ? tail : end;
};

/** Punctuation of ASCII, categories P and S. */
const isAsciiPunctuation = (byte: number): boolean =>
  (byte > 0x20 && byte < 0x30) ||
  (byte > 0x39 && byte < 0x41) ||
  (byte > 0x5a && byte < 0x61) ||
  (byte > 0x7a && byte < 0x7f);
const isAsciiLetter = (byte: number): boolean => (byte | 0x20) > 0x60 && (byte | 0x20) < 0x7b;

/**
 * DeepSeek V3, third stage: `[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+|`
 * ` ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`
 */
export const deepseekWords: Matcher = (bytes, start, end) => {
  const byte = bytes[start]!;
  const second = after(bytes, start);
  if (isAsciiPunctuation(byte) && second < end && isAsciiLetter(bytes[second]!)) {
    let at = second;
    while (at < end && isAsciiLetter(bytes[at]!)) at++;
    return at;
  }
  const flags = flagsAt(bytes, start);
  if (flags & (LETTER | MARK)) return runOf(bytes, second, end, LETTER | MARK);
  const lineBreakHere = byte === LF || byte === CR;
  if (!lineBreakHere && (flags & (PUNCTUATION | SYMBOL)) === 0 && second < end) {
    if (flagsAt(bytes, second) & (LETTER | MARK)) return runOf(bytes, second, end, LETTER | MARK);
  }
  const at = byte === BLANK && second < end ? second : start;
  if (flagsAt(bytes, at) & (PUNCTUATION | SYMBOL)) {
    return lineBreaks(bytes, runOf(bytes, at, end, PUNCTUATION | SYMBOL), end, false);
  }
  return flags & SPACE ? linesOrSpaces(bytes, start, end) : -1;
};

const bloomStops = new Set([..."(|.,!?…。，、।۔،)"].map((character) => character.codePointAt(0)!));

/** BLOOM: ` ?[^(\s|.,!?…。，、।۔،)]+` */
export const bloom: Matcher = (bytes, start, end) => {
  const from = bytes[start] === BLANK ? start + 1 : start;
  let at = from;
  while (at < end && (flagsAt(bytes, at) & SPACE) === 0 && !bloomStops.has(codePointAt(bytes, at))) {
    at = after(bytes, at);
  }
  return at === from ? -1 : at;
};

/** Falcon, first stage: ``[\p{P}\$\+<=>\^~\|`]+`` */
export const falconPunctuation: Matcher = (bytes, start, end) => {
  let at = start;
  while (at < end && (flagsAt(bytes, at) & PUNCTUATION || isAsciiPunctuation(bytes[at]!)))
    at = after(bytes, at);
  return at === start ? -1 : at;
};

/** `[0-9][0-9][0-9]` */
export const threeDigits: Matcher = (bytes, start, end) => {
  if (start + 3 > end) return -1;
  for (let at = start; at < start + 3; at++) if (bytes[at]! < 0x30 || bytes[at]! > 0x39) return -1;
  return start + 3;
};

/** `[^\n]+|[\n]+` */
export const newlineRuns: Scanner = (bytes, start, end) => {
  const line = bytes[start] === LF;
  let at = start + 1;
  while (at < end && (bytes[at] === LF) === line) at++;
  return at;
};
