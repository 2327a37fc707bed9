// Speculation changes the speed of an answer and not a bit of it.
import { expect, it } from "vitest";

import { type GenerationResult, loadModel } from "../lib/index.js";
import { modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const list = Array.from({ length: 12 }, (_, i) => `item ${i}: apples, pears and plums, fresh from the farm`).join("\n");
const prompts = [
  `Repeat this list word by word.\n\n${list}\n\nHere it is again:\n\n${list.slice(0, 130)}`,
  "Once upon a time in a land far away",
];
const bits = ({ text, tokens, logprobs, finishReason, stopSequence }: GenerationResult): unknown => ({
  text,
  tokens,
  logprobs,
  finishReason,
  stopSequence,
});

it("gives the same bits with and without it, greedy and drawn, alone and together", async () => {
  const model = await loadModel(file, { device: "cpu", contextLength: 1024 });
  try {
    const settings = [
      { temperature: 0, maxTokens: 120 },
      { temperature: 0.7, seed: 5, maxTokens: 80 },
      { temperature: 0.7, seed: 6, repeatPenalty: 1.1, dryMultiplier: 0.8, maxTokens: 60 },
      { temperature: 0, stop: ["plums, fresh from the farm\nitem 6"], maxTokens: 200 },
    ];
    const runs = prompts.flatMap((prompt) => settings.map((given) => ({ prompt, given })));
    const options = { logprobs: 2, ignoreStopTokens: true };
    const start = (speculation: "auto" | "off" | "lookup") =>
      runs.map(({ prompt, given }) => model.complete(prompt, { ...options, ...given, speculation }));
    const expected: GenerationResult[] = [];
    for (const { prompt, given } of runs)
      expected.push(await model.complete(prompt, { ...options, ...given, speculation: "off" }).result());
    expect(expected.every(({ timings }) => timings.draftTokens === 0)).toBe(true);
    for (const way of ["auto", "lookup"] as const) {
      const together = await Promise.all(start(way).map((generation) => generation.result()));
      expect(together.map(bits)).toEqual(expected.map(bits));
    }
    // Alone and greedy, the list is guessed.
    const alone = await model.complete(prompts[0]!, { ...options, ...settings[0]! }).result();
    expect(bits(alone)).toEqual(bits(expected[0]!));
    expect(alone.timings.acceptedDraftTokens).toBeGreaterThan(0);
    expect(alone.timings.acceptedDraftTokens).toBeLessThanOrEqual(alone.timings.draftTokens);
  } finally {
    await model.dispose();
  }
});
