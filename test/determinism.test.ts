// The same input gives the same bits: beside others, in other pieces, with other threads and instruction sets, and
// with a model that evaluates at the same time.
import { expect, it } from "vitest";

import {
  type GenerationResult,
  InhouseError,
  type LoadOptions,
  loadModel,
  type Model,
} from "../lib/index.js";
import { modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const base = { device: "cpu", contextLength: 512 } as const;
const prompt = `The history of the lighthouse begins long before the first tower was built. ${"Sailors watched the stars. ".repeat(12)}Then`;
const others = ["Once upon a time", "def main():", "One, two,", "The capital of France is", "Dear Sir,"];
const settings = { maxTokens: 24, ignoreStopTokens: true, logprobs: 5, temperature: 0.9, seed: 11 } as const;

const bits = ({ tokens, logprobs }: GenerationResult): unknown => ({ tokens, logprobs });
const run = async (model: Model, text = prompt): Promise<unknown> =>
  bits(await model.complete(text, settings).result());

async function withModel<T>(options: LoadOptions, action: (model: Model) => Promise<T>): Promise<T> {
  const model = await loadModel(file, { ...base, ...options });
  try {
    return await action(model);
  } finally {
    await model.dispose();
  }
}

it("gives the same tokens and log-probabilities, however they come about", async () => {
  const alone = await withModel({}, (model) => run(model));
  await withModel({}, async (model) => {
    const beside = others.map((text) => model.complete(text, { ...settings, maxTokens: 40 }));
    expect(await run(model), "among five others").toEqual(alone);
    for (const generation of beside) generation.cancel();
    await Promise.all(beside.map((generation) => generation.result()));
    expect(await run(model), "after others").toEqual(alone);
  });
  expect(await withModel({ maxBatchTokens: 16 }, (model) => run(model)), "in pieces of 16").toEqual(alone);
  expect(await withModel({ threads: 1 }, (model) => run(model)), "with one thread").toEqual(alone);
  for (const instructionSet of ["avx512vnni", "avx512", "avxvnni", "avx2"]) {
    const forced = withModel({ instructionSet }, (model) => run(model)).catch((error: unknown) => {
      if (InhouseError.is(error, "ERR_INHOUSE_DEVICE_UNAVAILABLE")) return alone;
      throw error;
    });
    expect(await forced, `with ${instructionSet}`).toEqual(alone);
  }
});

it("evaluates the same beside a generation as alone", async () => {
  await withModel({ maxBatchTokens: 64 }, async (model) => {
    const tokens = model.tokenizer.encode(prompt);
    const alone = (await model.evaluate(tokens)).logprobs;
    const drawnAlone = await run(model, others[0]);
    const generation = model.complete(others[0], settings);
    const again = await Promise.all([model.evaluate(tokens), model.evaluate(tokens)]);
    for (const { logprobs } of again) expect(logprobs).toEqual(alone);
    expect(bits(await generation.result())).toEqual(drawnAlone);
  });
});
