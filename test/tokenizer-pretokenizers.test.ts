import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { PieceWalker, preTokenizer, preTokenizerNames } from "../lib/tokenizer/pretokenizers.js";
import { fnv, string } from "./support/tokenizer-strings.js";

/** The lengths of a text's pieces in UTF-8 bytes. */
function split(name: string, text: string): number[] {
  const bytes = new TextEncoder().encode(text);
  const walker = new PieceWalker(preTokenizer(name).stages, bytes, bytes.length);
  const lengths: number[] = [];
  for (let at = 0; at < bytes.length;) {
    const end = walker.next(at);
    lengths.push(end - at);
    at = end;
  }
  return lengths;
}

describe("pre-tokenizers split as the published patterns do", () => {
  const golden = JSON.parse(
    readFileSync(join(import.meta.dirname, "golden/pretokenizers.json"), "utf8"),
  ) as Record<string, number[]>;
  const strings = Array.from({ length: 10_000 }, (_, i) => string(i));

  test.each(Object.keys(golden))("%s: 10,000 strings", (name) => {
    const hashes = golden[name];
    const perHash = strings.length / hashes.length;
    const different: number[] = [];
    for (let i = 0; i < hashes.length; i++) {
      const lengths = strings.slice(i * perHash, (i + 1) * perHash).flatMap((text) => split(name, text));
      if (fnv(lengths, 4) !== hashes[i]) different.push(i * perHash);
    }
    expect(different).toEqual([]);
  });
});

describe("pre-tokenizer names", () => {
  test.each(["", "qwen", "Qwen2", "default", "toString", "__proto__", "x".repeat(1e6)])(
    "an unknown name is refused with the name: %.20s",
    (name) => {
      expect(() => preTokenizer(name)).toThrow(
        expect.objectContaining({
          code: "ERR_INHOUSE_UNSUPPORTED_TOKENIZER",
          message: expect.stringContaining(
            `tokenizer.ggml.pre is ${JSON.stringify(name.slice(0, 100))}; expected`,
          ),
        }),
      );
    },
  );

  test("a missing name is refused", () => {
    expect(() => preTokenizer(undefined)).toThrow(/tokenizer\.ggml\.pre is missing; expected one of gpt-2, /);
  });

  const distinct = new Map(preTokenizerNames.map((name) => [preTokenizer(name).stages, name]));
  test.each([...distinct.values()].map((name) => [name]))("%s takes hostile text in linear time", (name) => {
    for (const unit of [
      "a",
      "A",
      "中A",
      " ",
      "\u3000",
      "\n",
      " \n",
      "'",
      "1",
      "=",
      "\u0000",
      "\u0301",
      " '",
    ]) {
      const text = unit.repeat(100_000 / unit.length);
      const start = performance.now();
      expect(split(name, text).reduce((a, b) => a + b, 0)).toBe(new TextEncoder().encode(text).length);
      expect(performance.now() - start).toBeLessThan(1500);
    }
  });
});
