import { expect, test } from "vitest";
import { compare, modelTokenizer } from "./support/tokenizer-golden.js";
import { string } from "./support/tokenizer-strings.js";

test("SmolLM2: 10,000 strings give the ids of the reference tokenizer", async () => {
  const tokenizer = await modelTokenizer("SmolLM2-135M-Instruct.Q4_1.gguf");
  const { strings, different } = compare("smollm2", tokenizer);
  expect(strings).toBe(10_000);
  expect(different).toEqual([]);
}, 120_000);

test("SmolLM2: the table for the native core agrees with tokenBytes, and all streamed tokens with decode", async () => {
  const tokenizer = await modelTokenizer("SmolLM2-135M-Instruct.Q4_1.gguf");
  const { bytes, offsets, kinds } = tokenizer.vocabulary();
  for (let id = 0; id < tokenizer.size; id++) {
    const same = Buffer.compare(bytes.subarray(offsets[id], offsets[id + 1]), tokenizer.tokenBytes(id)) === 0;
    if (!same || kinds[id] !== tokenizer.tokenKind(id)) throw new Error(`token ${id}`);
  }
  expect(offsets[tokenizer.size]).toBe(bytes.length);
  expect(Array.from(tokenizer.stopTokenIds)).toEqual([0, 2, 4]);

  for (let i = 0; i < 2000; i++) {
    const text = string(i);
    const ids = tokenizer.encode(text);
    const stream = tokenizer.detokenizer();
    const streamed = Array.from(ids, (id) => stream.push(id)).join("") + stream.flush();
    expect(streamed).toBe(tokenizer.decode(ids));
    // Some bytes have no token in this vocabulary; all other text comes back as it was.
    if (!/[\u0000-\u001f\u{10000}-\u{10ffff}]/u.test(text))
      expect(streamed).toBe(Buffer.from(text).toString());
  }
});
