import { expect, test } from "vitest";
import { Utf8Stream } from "../lib/tokenizer/tokenizer.js";

let state = 1;
const below = (n: number): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
const whole = (bytes: Uint8Array): string => new TextDecoder("utf-8", { ignoreBOM: true }).decode(bytes);
const awkward = [
  0x00, 0x41, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc2, 0xdf, 0xe0, 0xe2, 0xed, 0xef, 0xf0, 0xf4, 0xf5,
  0xff,
];

test("pieces of any bytes give the text that TextDecoder gives for all of them", () => {
  for (let round = 0; round < 20_000; round++) {
    const bytes = Uint8Array.from({ length: below(12) }, () =>
      below(3) ? awkward[below(awkward.length)] : below(256),
    );
    const stream = new Utf8Stream();
    let text = "";
    for (let at = 0; at < bytes.length;) {
      const end = at + below(4);
      text += stream.push(bytes.subarray(at, end));
      at = end;
    }
    expect(text + stream.flush(), bytes.join(" ")).toBe(whole(bytes));
  }
});

test("a character comes out with its last byte, and no part of one before", () => {
  const stream = new Utf8Stream();
  const bytes = new TextEncoder().encode("é€😀");
  expect([...bytes].map((byte) => stream.push(Uint8Array.of(byte)))).toEqual([
    "",
    "é",
    "",
    "",
    "€",
    "",
    "",
    "",
    "😀",
  ]);
  expect(stream.flush()).toBe("");
});

test("what cannot become a character is not held back", () => {
  const stream = new Utf8Stream();
  expect(stream.push(Uint8Array.of(0xe0, 0x80))).toBe("\ufffd\ufffd");
  expect(stream.push(Uint8Array.of(0xed, 0xa0))).toBe("\ufffd\ufffd");
  expect(stream.push(Uint8Array.of(0xf0, 0x9f, 0x98))).toBe("");
  expect(stream.push(Uint8Array.of(0x41))).toBe("\ufffdA");
});

test("an incomplete character at the end becomes U+FFFD, and the stream begins anew", () => {
  const stream = new Utf8Stream();
  expect(stream.push(Uint8Array.of(0x41, 0xe2, 0x82))).toBe("A");
  expect(stream.flush()).toBe("\ufffd");
  expect(stream.push(Uint8Array.of(0xef, 0xbb, 0xbf, 0x42))).toBe("\ufeffB");
});
