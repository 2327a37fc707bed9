import { decodeBytes } from "./detokenizer.js";
import { newerThanNfc } from "./unicode-data.js";

/** UTF-16 units that are converted to UTF-8 in one step. */
const chunkLength = 1 << 16;
/** Bytes that are normalized in one step. */
const windowLength = 1 << 14;

const textEncoder = new TextEncoder();

/** UTF-8 of a text; with `escape`, spaces become U+2581. */
export function* toUtf8(text: string, escape: boolean): Generator<void, Uint8Array> {
  const chunks: Uint8Array[] = [];
  for (let at = 0; at < text.length;) {
    let end = Math.min(at + chunkLength, text.length);
    // Never cut a surrogate pair in two.
    if (end < text.length && (text.charCodeAt(end) & 0xfc00) === 0xdc00) end++;
    const chunk = text.slice(at, end);
    chunks.push(textEncoder.encode(escape ? chunk.replaceAll(" ", "\u2581") : chunk));
    at = end;
    if (at < text.length) yield;
  }
  return join(chunks);
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

/** Text without the characters that the reference's normalization does not know. */
const olderText = new RegExp(`[^${newerThanNfc}]+`, "gu");

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
    // Nothing composes across the place before an ASCII character.
    let stop = Math.min(at + windowLength, end);
    while (stop < end && bytes[stop]! >= 0x80) stop++;
    let i = at;
    while (i < stop && !mayChange(bytes[i]!)) i++;
    let chunk = bytes.subarray(at, stop);
    if (i < stop) {
      const text = decodeBytes(chunk);
      const normalized = text.replace(olderText, (part) => part.normalize("NFC"));
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
