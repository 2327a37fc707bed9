// Speculation changes the speed of an answer and not a bit of it.
import { spawnSync } from "node:child_process";
import { copyFileSync, linkSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

import { afterAll, expect, it } from "vitest";

import { type GenerationResult, type LoadOptions, loadModel } from "../lib/index.js";
import { modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const folder = mkdtempSync(join(tmpdir(), "inhouse-draft-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const list = Array.from(
  { length: 12 },
  (_, i) => `item ${i}: apples, pears and plums, fresh from the farm`,
).join("\n");
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
    const alone = await model.complete(prompts[0], { ...options, ...settings[0] }).result();
    expect(bits(alone)).toEqual(bits(expected[0]));
    expect(alone.timings.acceptedDraftTokens).toBeGreaterThan(0);
    expect(alone.timings.acceptedDraftTokens).toBeLessThanOrEqual(alone.timings.draftTokens);
  } finally {
    await model.dispose();
  }
});

it("gives the same bits with a draft model, good or bad", async () => {
  const cut = join(folder, "cut.gguf");
  const copy = join(folder, "copy.gguf");
  copyFileSync(file, copy);
  const made = spawnSync(process.execPath, ["bench/cut-model.mjs", file, "2", cut], { encoding: "utf8" });
  expect(made.status, made.stderr).toBe(0);
  const settings = { logprobs: 1, ignoreStopTokens: true, maxTokens: 40 } as const;
  const asked = [
    { ...settings, temperature: 0 },
    { ...settings, temperature: 0.8, seed: 9 },
  ];
  const answers = async (draft: string | undefined): Promise<GenerationResult[]> => {
    const model = await loadModel(file, {
      device: "cpu",
      contextLength: 512,
      ...(draft === undefined ? {} : { draft: { file: draft, tokens: 4 } }),
    });
    try {
      expect(model.info.draft).toBe(draft);
      if (draft === undefined)
        expect(() => model.complete("a", { speculation: "draft" })).toThrow(/no draft model/);
      const speculation = draft === undefined ? "off" : "draft";
      const runs = asked.map((given) => model.complete(prompts[1], { ...given, speculation }));
      return await Promise.all(runs.map((run) => run.result()));
    } finally {
      await model.dispose();
    }
  };
  const expected = (await answers(undefined)).map(bits);
  expect((await answers(cut)).map(bits)).toEqual(expected);
  expect((await answers(copy)).map(bits)).toEqual(expected);
});

it("refuses a draft that is the model itself or has another vocabulary", async () => {
  const linked = join(folder, "linked.gguf");
  linkSync(join(folder, "copy.gguf"), linked);
  const load = (path: string, draft: unknown) => loadModel(path, { draft } as LoadOptions);
  const refused = { code: "ERR_INHOUSE_INVALID_ARGUMENT" };
  await expect(load(file, { file })).rejects.toMatchObject(refused);
  await expect(load(join(folder, "copy.gguf"), { file: linked })).rejects.toThrow(/the model itself/);
  const other = join(folder, "other.gguf");
  const bytes = readFileSync(join(folder, "cut.gguf"));
  bytes.write("<reponaNe>", bytes.indexOf("<reponame>"));
  writeFileSync(other, bytes);
  await expect(load(file, { file: other })).rejects.toThrow(
    /other\.gguf has another vocabulary than .*SmolLM2.*token \d+ is "<reponaNe>", not "<reponame>"/,
  );
  for (const wrong of [
    file,
    5,
    {},
    { file, tokens: 0 },
    { file, tokens: 24 },
    { file, token: 3 },
    { file: 7 },
  ])
    await expect(load(file, wrong)).rejects.toMatchObject(refused);
  await expect(load(file, { file: join(folder, "none.gguf") })).rejects.toMatchObject({
    code: "ERR_INHOUSE_FILE_NOT_FOUND",
  });
});
