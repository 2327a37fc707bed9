// The event loop stays free while a model works. The bound is generous, for machines that are busy with other tests;
// bench/event-loop.mjs measures exactly.
import { monitorEventLoopDelay } from "node:perf_hooks";
import { afterAll, beforeAll, expect, it } from "vitest";

import { loadModel, type Model } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const resolution = 1;
let model: Model;

/** The 99th percentile of the loop's delay, in milliseconds. */
async function delay(action: () => Promise<unknown>): Promise<number> {
  const histogram = monitorEventLoopDelay({ resolution });
  histogram.enable();
  await action();
  histogram.disable();
  return histogram.percentile(99) / 1e6 - resolution;
}

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 4096 });
});
afterAll(() => model.dispose());

it("at load", async () => {
  const load = async (): Promise<void> => {
    for (let i = 0; i < 3; i++)
      await (await loadModel(file, { device, lockMemory: false, repack: i !== 1 })).dispose();
  };
  expect(await delay(load)).toBeLessThan(50);
});

it("at a long prompt", async () => {
  const text = "The quick brown fox jumps over the lazy dog. ".repeat(300);
  expect(await delay(() => model.complete(text, { maxTokens: 1 }).result())).toBeLessThan(50);
});

it("with eight streams", async () => {
  const read = async (seed: number): Promise<void> => {
    for await (const _ of model.complete("Once upon a time", { seed, maxTokens: 30, dryMultiplier: 0.8 }));
  };
  expect(await delay(() => Promise.all(Array.from({ length: 8 }, (_, seed) => read(seed))))).toBeLessThan(50);
});

it("at requests whose breakers are searched in the vocabulary", async () => {
  await model.complete("A", { dryMultiplier: 1, maxTokens: 0 }).result();
  const start = performance.now();
  const generations = Array.from({ length: 10 }, (_, i) =>
    model.complete("A", { dryMultiplier: 1, dryBreakers: [`${i}`, "\n", " the"], maxTokens: 0 }),
  );
  expect((performance.now() - start) / 10).toBeLessThan(10);
  await Promise.all(generations.map((generation) => generation.result()));
});
