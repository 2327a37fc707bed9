// Strings of the template engine that know which of their characters are the template's own. Only those may become
// control tokens. A string without marks is the caller's from end to end: all data comes so, and whatever the engine
// makes itself. An operation that is not written here can therefore lose the template's right, and never lends it to a
// character of the caller's. Only a template that cuts text of its own at a place which the caller names, as in
// `'own text'.replace(message.content, '')` or with a slice up to a caller's number, can join what it wrote apart.
import { type ListValue, isString, makeList, makeString, StringClass, type StringValue } from "./values.js";

/** Marks of a character. A text's marks are a string of its length, cut and joined as the text is. */
const own = "o";
const foreign = "f";

class MarkedString extends StringClass {
  constructor(
    text: string,
    readonly marks: string,
  ) {
    super(text);
  }
}

/** Whether some of a text may be the template's own. */
export const isMarked = (text: StringValue): text is MarkedString => text instanceof MarkedString;

/** A text of the template's own. */
export const makeOwn = (text: string): StringValue => new MarkedString(text, own.repeat(text.length));

/** Where the template's own characters are: [start, end) in UTF-16 units, ascending, with others in between. */
export function ownRanges(text: StringValue): [start: number, end: number][] {
  const marks = isMarked(text) ? text.marks : "";
  return Array.from(marks.matchAll(/o+/g), ({ 0: run, index }) => [index, index + run.length]);
}

/** What `cut` makes of texts and of their marks alike. It may cut and join only, at places found beforehand. */
function rebuild(sources: readonly StringValue[], cut: (...texts: string[]) => string): StringValue {
  const text = cut(...sources.map(({ value }) => value));
  if (!sources.some(isMarked)) return makeString(text);
  const marks = sources.map((source) =>
    isMarked(source) ? source.marks : foreign.repeat(source.value.length),
  );
  return new MarkedString(text, cut(...marks));
}

export function concat(...parts: StringValue[]): StringValue {
  return rebuild(parts, (...texts) => texts.reduce((all, text) => all + text, ""));
}

export function join(parts: readonly StringValue[], separator: StringValue): StringValue {
  return parts.reduce((all, part, i) => (i === 0 ? part : concat(all, separator, part)), makeString(""));
}

function slice(text: StringValue, start: number, end: number): StringValue {
  return rebuild([text], (all) => all.slice(start, end));
}

/** Python's `str.strip` and its one-sided forms, with the characters to remove (default: white space). */
export function strip(text: StringValue, characters: string | undefined, side: string): StringValue {
  const { value } = text;
  const set = new Set(characters);
  const removed = (from: number, to: number): boolean => {
    const character = value.slice(from, to);
    return characters === undefined ? character.trim() === "" : set.has(character);
  };
  let start = 0;
  let end = value.length;
  if (side !== "rstrip") {
    for (
      let next;
      start < end && removed(start, (next = start + characterLength(value, start)));
      start = next
    );
  }
  if (side !== "lstrip") {
    for (let next; end > start && removed((next = characterBefore(value, end)), end); end = next);
  }
  return slice(text, start, end);
}

/** Where each character begins. */
export function characterStarts(text: string): number[] {
  const starts: number[] = [];
  for (let at = 0; at < text.length; at += characterLength(text, at)) starts.push(at);
  return starts;
}

const characterLength = (text: string, at: number): number => (text.codePointAt(at)! > 0xffff ? 2 : 1);

/** Where the character begins that ends at `end`. */
const characterBefore = (text: string, end: number): number =>
  end > 1 && characterLength(text, end - 2) === 2 ? end - 2 : end - 1;

/** The characters that begin at `starts`, in this order. */
export function pick(text: StringValue, starts: readonly number[]): StringValue {
  const lengths = starts.map((at) => characterLength(text.value, at));
  return rebuild([text], (all) => starts.map((at, i) => all.slice(at, at + lengths[i]!)).join(""));
}

/** Where `wanted` stands in a text, without overlaps; an empty one stands before each character and at the end. */
export function occurrences(text: string, wanted: string): number[] {
  if (wanted === "") return [...characterStarts(text), text.length];
  const places: number[] = [];
  let at = text.indexOf(wanted);
  for (; at >= 0; at = text.indexOf(wanted, at + wanted.length)) places.push(at);
  return places;
}

/** `text` with `replacement` in place of the `length` units at each of `places`. */
export function replaceAt(
  text: StringValue,
  places: readonly number[],
  length: number,
  replacement: StringValue,
): StringValue {
  return rebuild([text, replacement], (all: string, inserted: string) => {
    let result = "";
    let last = 0;
    for (const at of places) {
      result += all.slice(last, at) + inserted;
      last = at + length;
    }
    return result + all.slice(last);
  });
}

/** The parts into which the engine has split `text` at a separator, or at white space, as parts of that text. */
export function partsOf(text: StringValue, parts: ListValue, separator: StringValue | undefined): ListValue {
  let at = 0;
  return makeList(
    parts.value.filter(isString).map(({ value }) => {
      // Before a part that ends at white space there is nothing but white space.
      if (separator === undefined) at = text.value.indexOf(value, at);
      const part = slice(text, at, at + value.length);
      at += value.length + (separator?.value.length ?? 0);
      return part;
    }),
  );
}
