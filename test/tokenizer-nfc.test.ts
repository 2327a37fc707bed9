import { describe, expect, test } from "vitest";

import { atOnce } from "../dist/tokenizer/slices.js";
import { toNfc } from "../dist/tokenizer/text.js";
import { newerThanNfc } from "../dist/tokenizer/unicode-data.js";

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** As the tokenizers normalize: in windows, of UTF-8. */
function nfc(text: string): string {
  const bytes = encoder.encode(text);
  const normalized = atOnce(toNfc(bytes, 0, bytes.length));
  return normalized === undefined ? text : decoder.decode(normalized);
}

/** A generator of numbers in [0, 1) that is the same in each run (Marsaglia's xorshift). */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) / 2 ** 32;
  };
}

const range = (from: number, to: number) =>
  Array.from({ length: to - from + 1 }, (_, i) => String.fromCodePoint(from + i));

function pick<T>(list: readonly T[], next: () => number): T {
  return list[Math.floor(next() * list.length)];
}

const newer = new RegExp(`[${newerThanNfc}]`, "u");

// Characters of Unicode 9 and before alone: later ones are left as they are, by intention.
const alphabets: Record<string, string[]> = {
  latin: [..."aeouAEO", ...range(0xc0, 0x17f), ...range(0x300, 0x345), ...range(0x1e00, 0x1eff), "\u212b"],
  greek: [...range(0x391, 0x3a9), ...range(0x1f00, 0x1f15), "\u0342", "\u0345", "\u0301", "\u1fef"],
  kana: [...range(0x3041, 0x3096), ...range(0x30a1, 0x30fa), "\u3099", "\u309a", "\u30fc"],
  han: [...range(0x4e00, 0x4e40), ...range(0xf900, 0xf940), "\u3099", "\u0301"],
  hangul: [
    ...range(0xac00, 0xac40),
    ...range(0x1100, 0x1112),
    ...range(0x1161, 0x1175),
    ...range(0x11a7, 0x11c2),
  ],
  indic: [...range(0x915, 0x939), ...range(0x93c, 0x94d), ...range(0x958, 0x95f), ...range(0x9b0, 0x9d7)]
    .concat(range(0xb95, 0xbb9), range(0xbbe, 0xbcd), range(0xdc0, 0xddf), range(0x1025, 0x1039))
    .filter((c) => !newer.test(c)),
  tibetan: [...range(0xf40, 0xf47), ...range(0xf71, 0xf84), "\u0f39"],
  marks: [
    ...range(0x300, 0x36f),
    "\u0334",
    "\u0591",
    "\u05b0",
    "\u064b",
    "\u0e38",
    "\u0f73",
    "\u0f75",
    "\u0344",
  ].concat("\u3099", "\u034f", "\u093e", "a", "\u{1d165}", "\u{1d16d}"),
  astral: [
    "\u{11099}",
    "\u{110ba}",
    "\u{1d15e}",
    "\u{1d157}",
    "\u{1d165}",
    "\u{2f800}",
    "\u{1133e}",
    "\u{11347}",
  ],
};

describe("normalization in windows is that of the whole text", () => {
  for (const [name, alphabet] of Object.entries(alphabets)) {
    test(name, () => {
      const next = random(name.length * 7919);
      // Lengths around and above a window of 16 KB, so that cuts fall everywhere.
      for (let round = 0; round < 12; ++round) {
        const length = 5000 + Math.floor(next() * 12_000);
        // Pure, and with stretches of single characters.
        const some =
          round % 2 === 0 ? alphabet : Array.from(alphabet, () => pick(alphabet, next)).slice(0, 5);
        const text = Array.from({ length }, () => pick(some, next)).join("");
        expect(nfc(text) === text.normalize("NFC"), `round ${round}`).toBe(true);
      }
      const short = Array.from({ length: 300 }, () => pick(alphabet, next)).join("");
      expect(nfc(short)).toBe(short.normalize("NFC"));
    });
  }

  test("all scripts together", () => {
    const all = Object.values(alphabets).flat();
    const next = random(4711);
    for (let round = 0; round < 12; ++round) {
      const text = Array.from({ length: 15_000 }, () => pick(all, next)).join("");
      expect(nfc(text) === text.normalize("NFC"), `round ${round}`).toBe(true);
    }
  });

  test("characters at a window's border", () => {
    for (const base of ["a", "\u0915", "\u1100", "\uac00", "\u304b", "\u1025"]) {
      // A window has 16,384 bytes at least.
      const start = "x".repeat(16_384 - encoder.encode(base).length) + base;
      for (const [from, to] of [
        [0x80, 0x36f],
        [0x900, 0xdff],
        [0x1000, 0x11ff],
        [0x3040, 0x30ff],
      ]) {
        for (const c of range(from, to)) {
          const text = `${start}${c}\u0301`;
          if (newer.test(c) || nfc(text) === text.normalize("NFC")) continue;
          expect.fail(`U+${c.codePointAt(0)!.toString(16)} after ${base}`);
        }
      }
    }
  });

  test("a run of marks takes time in proportion to its length", () => {
    for (const marks of ["\u0301\u0316", "\u0f73", "\u0344\u0345\u0334", "\u3099\u0301\u093e\u0316"]) {
      const text = `a${marks.repeat(2000)}b`;
      expect(nfc(text) === text.normalize("NFC"), marks).toBe(true);
      const start = performance.now();
      nfc(marks.repeat(100_000));
      expect(performance.now() - start).toBeLessThan(2000); // seconds each, were the engine to put them in order
    }
  });

  test("no step holds the event loop for long", () => {
    const longest = (text: string): number => {
      const bytes = encoder.encode(text);
      const steps = toNfc(bytes, 0, bytes.length);
      const times: number[] = [];
      for (;;) {
        const start = performance.now();
        const { done } = steps.next();
        times.push(performance.now() - start);
        if (done) break;
      }
      expect(times.length).toBeGreaterThan(50);
      // Not the longest, which may have met a garbage collection.
      return times.sort((a, b) => a - b).at(-5)!;
    };
    for (const word of [
      "日本語のテキストをがぎぐ",
      "한국어각힣",
      "हिन्दीमेंपाठ",
      "ภาษาไทยที่นี่",
      "한국어각힣".normalize("NFD"),
    ]) {
      expect(longest(word.repeat(Math.ceil(480_000 / word.length))), word).toBeLessThan(3);
    }
  });
});
