import { expect, test } from "vitest";
import { loadModel } from "../../lib/index.js";
import {
  besideThePeer,
  compareToGolden,
  differingGreedy,
  instructionSets,
  readGolden,
} from "../support/golden.js";
import { modelPath } from "../support/models.js";

const models = [
  ["gemma-3-270m", "gemma-3-270m-q4_k_m.gguf"],
  ["qwen2.5-coder-1.5b", "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf"],
] as const;

test.each(models)(
  "the reference device computes what transformers does: %s",
  async (name, file) => {
    const golden = readGolden(name);
    const model = await loadModel(modelPath(file), { device: "reference", contextLength: 1024 });
    const { kl, top1 } = await compareToGolden(model, golden);
    expect(kl).toBeLessThan(1e-6);
    expect(top1).toBeGreaterThanOrEqual(0.998);
    expect(await differingGreedy(model, golden)).toEqual([]);
    await model.dispose();
  },
  1_800_000,
);

test.each(models.flatMap(([name, file]) => instructionSets.map((set) => [name, file, set] as const)))(
  "the CPU device is at most half as far from it as the peer: %s, %s, %s",
  async (name, file, set) => {
    const measured = await besideThePeer(name, modelPath(file), set);
    if (measured) expect(measured.kl).toBeLessThan(measured.peer / 2);
  },
  1_800_000,
);
