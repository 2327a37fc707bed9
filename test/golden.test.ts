import { expect, test } from "vitest";
import { loadModel } from "../lib/index.js";
import {
  besideThePeer,
  compareToGolden,
  differingGreedy,
  instructionSets,
  readGolden,
} from "./support/golden.js";
import { modelPath, smollm2 } from "./support/models.js";

const golden = readGolden("smollm2-135m");

test("the reference device computes what transformers does", async () => {
  const model = await loadModel(modelPath(smollm2), { device: "reference", contextLength: 1024 });
  const { kl, top1 } = await compareToGolden(model, golden);
  expect(golden.tokens.length).toBeGreaterThanOrEqual(512);
  expect(kl).toBeLessThan(1e-6);
  expect(top1).toBeGreaterThanOrEqual(0.998);
  expect(await differingGreedy(model, golden)).toEqual([]);
  await model.dispose();
}, 300_000);

test.each(instructionSets)(
  "the CPU device is at most half as far from it as the peer: %s",
  async (set) => {
    const measured = await besideThePeer("smollm2-135m", modelPath(smollm2), set);
    if (measured) expect(measured.kl).toBeLessThan(measured.peer / 2);
  },
  300_000,
);
