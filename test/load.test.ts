// Loads that fail half-way leave nothing behind.
import { expect, it } from "vitest";

import { CallSite } from "../lib/call-site.js";
import { load } from "../lib/load.js";
import { resolveLoad } from "../lib/load-options.js";
import { loadModel } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const residentMegabytes = (): number => process.memoryUsage.rss() / 2 ** 20;

it("frees the weights at once where the engine cannot be made", async () => {
  const resolved = resolveLoad(file, { device, contextLength: 64 });
  const contradiction = { ...resolved, engine: { ...resolved.engine, maxConcurrent: 16, maxBatchTokens: 4 } };
  const failed = () => load(contradiction, new CallSite(load));
  await expect(failed()).rejects.toMatchObject({ code: "ERR_INHOUSE_INVALID_ARGUMENT" });
  const before = residentMegabytes();
  for (let i = 0; i < 6; i++) await expect(failed()).rejects.toThrow(/maxBatchTokens/);
  await new Promise((resolve) => setTimeout(resolve, 200));
  // Each holds about 100 MB of weights.
  expect(residentMegabytes() - before).toBeLessThan(200);
});

it("ends the engine where onProgress throws at the very end", async () => {
  const mine = new Error("mine");
  const onProgress = ({ loaded, total }: { loaded: number; total: number }): void => {
    if (loaded === total) throw mine;
  };
  const failed = () => loadModel(file, { device, contextLength: 64, onProgress });
  await expect(failed()).rejects.toBe(mine);
  const before = residentMegabytes();
  for (let i = 0; i < 6; i++) await expect(failed()).rejects.toBe(mine);
  await new Promise((resolve) => setTimeout(resolve, 200));
  expect(residentMegabytes() - before).toBeLessThan(200);
});

it("makes the context no longer than kvTokens, where none is asked for", async () => {
  await using model = await loadModel(file, { device, kvTokens: 512 });
  expect([model.info.contextLength, model.info.kvTokens]).toEqual([512, 512]);
});
