import { expect, test } from "vitest";
import { compare, modelTokenizer } from "../support/tokenizer-golden.js";

test("Qwen2.5: 10,000 strings give the ids of the reference tokenizer", async () => {
  const tokenizer = await modelTokenizer("Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf");
  const { strings, different } = compare("qwen2", tokenizer);
  expect(strings).toBe(10_000);
  expect(different).toEqual([]);
}, 120_000);
