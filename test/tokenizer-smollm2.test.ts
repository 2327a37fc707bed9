import { expect, test } from "vitest";
import { compare, modelTokenizer } from "./support/tokenizer-golden.js";

test("SmolLM2: 10,000 strings give the ids of the reference tokenizer, and decode to themselves", async () => {
  const tokenizer = await modelTokenizer("SmolLM2-135M-Instruct.Q4_1.gguf");
  const { strings, different } = compare("smollm2", tokenizer);
  expect(strings).toBe(10_000);
  expect(different).toEqual([]);
}, 120_000);
