// Embeddings of the larger models: against transformers, and the same bits alone and among others.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";

import { loadModel } from "../../lib/index.js";
import { distanceTo, readEmbeddings } from "../support/embeddings.js";
import { modelPath } from "../support/models.js";

it("agrees with transformers: Gemma 3", async () => {
  const texts = readEmbeddings("gemma-3-270m");
  const tokens = texts.map((text) => text.tokens);
  for (const device of ["reference", "cpu"] as const) {
    const model = await loadModel(modelPath("gemma-3-270m-q4_k_m.gguf"), { device, contextLength: 64 });
    for (const pooling of ["mean", "last"] as const) {
      const vectors = await model.embed(tokens, { pooling, normalize: false });
      for (const [i, text] of texts.entries())
        expect(distanceTo(text[pooling], vectors[i])).toBeLessThan(device === "reference" ? 1e-4 : 0.05);
    }
    await model.dispose();
  }
}, 600_000);

it("gives a text the same bits alone and among others: Qwen2.5 1.5B", async () => {
  const model = await loadModel(modelPath("Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf"), { contextLength: 256 });
  const lines = readFileSync(join(import.meta.dirname, "../../README.md"), "utf8").split("\n");
  const texts = lines.filter((line) => line.length > 40 && line.length < 200).slice(0, 16);
  const vectors = await model.embed(texts);
  expect(vectors[0]).toHaveLength(1536);
  for (const i of [0, 7, 15]) expect(await model.embed(texts[i])).toEqual([vectors[i]]);
  const [paris, london] = await model.score("The capital of France is", [" Paris", " London"]);
  expect(paris.isGreedy).toBe(true);
  expect(paris.logprob).toBeGreaterThan(london.logprob + 2);
  await model.dispose();
}, 600_000);
