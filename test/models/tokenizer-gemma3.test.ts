import { expect, test } from "vitest";
import { compare, modelTokenizer } from "../support/tokenizer-golden.js";

test("Gemma 3: 10,000 strings give the ids of the reference tokenizer", async () => {
  const tokenizer = await modelTokenizer("gemma-3-270m-q4_k_m.gguf");
  const { strings, different } = compare("gemma3", tokenizer);
  expect(strings).toBe(10_000);
  expect(different).toEqual([]);
}, 120_000);
