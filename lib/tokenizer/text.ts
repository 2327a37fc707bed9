import { decodeBytes } from "./detokenizer.js";
import { newerThanNfc } from "./unicode-data.js";
import { codePointAt, flagsAt, MARK } from "./unicode.js";

/** UTF-16 units that are converted to UTF-8 in one step. */
const chunkLength = 1 << 16;
/** Bytes that are normalized in one step. */
const windowLength = 1 << 14;

const textEncoder = new TextEncoder();

/** UTF-8 of a text. With `escape`, spaces become U+2581. */
export function* toUtf8(text: string, escape: boolean): Generator<void, Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < text.length;) {
    if (at > 0) yield;
    let end = Math.min(at + chunkLength, text.length);
    // Never cut a surrogate pair in two.
    if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end++;
    const chunk = text.slice(at, end);
    chunks.push(textEncoder.encode(escape ? chunk.replaceAll(" ", "\u2581") : chunk));
    at = end;
  }
  return join(chunks);
}

/** Where `places` of a text (in UTF-16 units, ascending) are in its UTF-8; within a character: behind it. */
export function* placesInUtf8(bytes: Uint8Array, places: readonly number[]): Generator<void, number[]> {
  const found: number[] = [];
  let units = 0;
  let pause = chunkLength;
  let at = 0;
  for (const place of places) {
    while (units < place) {
      const lead = bytes[at]!;
      at += lead < 0x80 ? 1 : lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
      units += lead < 0xf0 ? 1 : 2;
      if (units < pause) continue;
      pause += chunkLength;
      yield;
    }
    found.push(at);
  }
  return found;
}

function join(chunks: readonly Uint8Array[]): Uint8Array {
  if (chunks.length === 1) return chunks[0]!;
  let length = 0;
  for (const chunk of chunks) length += chunk.length;
  const all = new Uint8Array(length);
  let at = 0;
  for (const chunk of chunks) {
    all.set(chunk, at);
    at += chunk.length;
  }
  return all;
}

/** Whether a leading byte begins a character that normalization form C may change or move: not below U+0300 or Han. */
const mayChange = (byte: number): boolean => byte >= 0xcc && !(byte >= 0xe4 && byte <= 0xe9);

/**
 * Whether nothing at or after `bytes[at]` composes with, or moves before, what precedes it: at a character that is no
 * combining mark, nor a vowel or final consonant of Hangul, which join a syllable. (What such a character decomposes
 * into begins with one of its kind.)
 */
function isNfcBoundary(bytes: Uint8Array, at: number): boolean {
  const lead = bytes[at]!;
  if (lead < 0x80) return true;
  if (lead < 0xc0) return false; // within a character
  const c = codePointAt(bytes, at);
  return (flagsAt(bytes, at) & MARK) === 0 && !(c >= 0x1160 && c <= 0x11ff);
}

/** More combining marks in a row than any writing has. */
const markRun = /\p{M}{64,}/gu;
/** Marks that are handled in one step. */
const marksPerStep = 1 << 12;

/**
 * The same text in the sense of canonical equivalence, with long runs of combining marks in canonical order. The
 * JavaScript engine puts marks in order by insertion, which takes a run of n marks n² steps.
 */
function* orderMarks(text: string): Generator<void, string> {
  const pieces: string[] = [];
  let last = 0;
  for (const { 0: run, index } of text.matchAll(markRun)) {
    pieces.push(text.slice(last, index));
    for (const piece of yield* orderRun(run)) pieces.push(piece);
    last = index + run.length;
  }
  return pieces.join("") + text.slice(last);
}

/** One run of marks in order, in pieces. */
function* orderRun(run: string): Generator<void, string[]> {
  const parts = new Map<string, string[]>();
  const marks: string[] = [];
  for (const mark of run) {
    let part = parts.get(mark);
    // U+0344, U+0F73 and the like are two.
    if (part === undefined) parts.set(mark, (part = [...mark.normalize("NFD")]));
    for (const one of part) marks.push(one);
    if (marks.length % marksPerStep === 0) yield;
  }
  const ranks = markRanks([...new Set([...parts.values()].flat())]);
  const pieces: string[] = [];
  // The order of equals stays. Rank 0 moves nowhere and lets nothing pass.
  let between: string[] = [];
  for (const [i, mark] of marks.entries()) {
    const rank = ranks.get(mark)!;
    if (rank > 0) between[rank] = (between[rank] ?? "") + mark;
    else {
      pieces.push(between.join(""), mark);
      between = [];
    }
    if (i % marksPerStep === 0) yield;
  }
  pieces.push(between.join(""));
  return pieces;
}

/** Numbers in the order of the marks' combining classes, as far as the engine knows them; 0 for class 0. */
function markRanks(marks: string[]): Map<string, number> {
  const swap = (a: string, b: string) => (a + b).normalize("NFD") !== a + b;
  // Against a mark of class 230 and one of class 1.
  const moving = marks.filter((mark) => swap("\u0301", mark) || swap(mark, "\u0334"));
  moving.sort((a, b) => (swap(a, b) ? 1 : swap(b, a) ? -1 : 0));
  const ranks = new Map(marks.map((mark) => [mark, 0]));
  let rank = 1;
  for (const [i, mark] of moving.entries()) {
    if (i > 0 && swap(mark, moving[i - 1]!)) rank++;
    ranks.set(mark, rank);
  }
  return ranks;
}

/** Text without the characters that the reference's normalization does not know. */
const olderText = new RegExp(`[^${newerThanNfc}]+`, "gu");

/** Normalization form C of the characters that the reference knows; see toNfc. */
function* normalize(text: string): Generator<void, string> {
  const pieces: string[] = [];
  let last = 0;
  for (const { 0: part, index } of text.matchAll(olderText)) {
    if (index > last) pieces.push(text.slice(last, index));
    pieces.push((yield* orderMarks(part)).normalize("NFC"));
    last = index + part.length;
  }
  return pieces.join("") + text.slice(last);
}

/**
 * Normalization form C of well-formed UTF-8, as Unicode 9.0 has it, which is what the reference tokenizers use; undefined
 * if the text is in that form already. Characters that later versions compose or reorder are left alone; for all others
 * the form is the same in all versions, so that the result does not depend on the JavaScript engine.
 */
export function* toNfc(
  bytes: Uint8Array,
  start: number,
  end: number,
): Generator<void, Uint8Array | undefined> {
  const chunks: Uint8Array[] = [];
  let changed = false;
  for (let at = start; at < end;) {
    let stop = Math.min(at + windowLength, end);
    while (stop < end && !isNfcBoundary(bytes, stop)) stop++;
    let i = at;
    while (i < stop && !mayChange(bytes[i]!)) i++;
    let chunk = bytes.subarray(at, stop);
    if (i < stop) {
      const text = decodeBytes(chunk);
      const normalized = yield* normalize(text);
      if (normalized !== text) {
        changed = true;
        chunk = textEncoder.encode(normalized);
      }
    }
    chunks.push(chunk);
    at = stop;
    yield;
  }
  return changed ? join(chunks) : undefined;
}
