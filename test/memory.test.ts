// What a loaded model holds of the process's memory, as Linux shows it.
import { readFileSync } from "node:fs";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";

import { InhouseError, loadModel } from "../lib/index.js";
import { modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const options = { device: "cpu", contextLength: 64, maxConcurrent: 1 } as const;
const mapped = (): string[] =>
  readFileSync("/proc/self/maps", "utf8")
    .split("\n")
    .filter((line) => line.endsWith(smollm2));
/** A line of /proc/self/status, in bytes. */
const status = (name: string): number =>
  1024 *
  Number(new RegExp(`^${name}:\\s+(\\d+) kB`, "m").exec(readFileSync("/proc/self/status", "utf8"))![1]);

describe.runIf(process.platform === "linux")("memory", () => {
  it("has nothing of the file mapped after a repacked load", async () => {
    const model = await loadModel(file, options);
    expect(mapped()).toEqual([]);
    await model.dispose();
  });

  it("has the file mapped once for all models that compute from it", async () => {
    const first = await loadModel(file, { ...options, repack: false });
    const lines = mapped();
    expect(lines).toHaveLength(1);
    const second = await loadModel(file, { ...options, repack: false });
    expect(mapped()).toEqual(lines);
    await first.dispose();
    expect(mapped()).toEqual(lines);
    expect(
      (await second.complete("One,", { maxTokens: 2, ignoreStopTokens: true }).result()).tokens,
    ).toHaveLength(2);
    await second.dispose();
    expect(mapped()).toEqual([]);
  });

  it.each([true, false])("locks the weights where the system allows it, repacked: %s", async (repack) => {
    const before = status("VmLck");
    const loaded = await loadModel(file, { ...options, repack, lockMemory: true }).catch(
      (error: unknown) => error,
    );
    if (loaded instanceof Error) {
      expect(InhouseError.is(loaded, "ERR_INHOUSE_MEMORY_LOCK")).toBe(true);
      return;
    }
    const model = loaded as Awaited<ReturnType<typeof loadModel>>;
    const weights = repack ? model.info.memory.weights : model.info.fileBytes;
    const locked = status("VmLck") - before;
    expect(locked).toBeGreaterThan(0.95 * weights);
    expect(locked).toBeLessThan(1.3 * weights + (8 << 20));
    await model.dispose();
    expect(status("VmLck") - before).toBeLessThan(0.05 * weights);
  });

  it("keeps nothing of evaluations that were aborted with their rows", async () => {
    const model = await loadModel(file, { ...options, contextLength: 128, maxBatchTokens: 64 });
    const tokens = Array.from({ length: 100 }, (_, i) => 1000 + i);
    const abortOne = async (): Promise<void> => {
      const control = new AbortController();
      const reason = new Error("enough");
      const onRows = (): Promise<void> => {
        control.abort(reason);
        return new Promise(() => undefined);
      };
      await expect(model.evaluate(tokens, { onRows, signal: control.signal })).rejects.toBe(reason);
      while (model.stats().running > 0) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    for (let i = 0; i < 10; i++) await abortOne();
    const before = status("RssAnon");
    const rounds = 60;
    for (let i = 0; i < rounds; i++) await abortOne();
    // The rows of a single step.
    const rows = 64 * 4 * model.info.vocabularySize;
    expect(status("RssAnon") - before).toBeLessThan((rounds / 4) * rows);
    await model.dispose();
  });

  it("shares weights between threads that load at the same time", async () => {
    const code = `
      const { parentPort } = require("node:worker_threads");
      const { loadModel } = require(${JSON.stringify(new URL("../dist/index.js", import.meta.url).pathname)});
      loadModel(${JSON.stringify(file)}, ${JSON.stringify(options)}).then(async (model) => {
        parentPort.postMessage(model.info.memory.weights);
        await new Promise((resolve) => parentPort.once("message", resolve));
        await model.dispose();
      });`;
    const before = status("RssAnon");
    const workers = Array.from({ length: 4 }, () => new Worker(code, { eval: true }));
    const weights = await Promise.all(
      workers.map(
        (worker) =>
          new Promise<number>((resolve, reject) => worker.once("message", resolve).once("error", reject)),
      ),
    );
    const grown = status("RssAnon") - before;
    const ended = workers.map((worker) => new Promise((resolve) => worker.once("exit", resolve)));
    for (const worker of workers) worker.postMessage("end");
    expect(await Promise.all(ended)).toEqual([0, 0, 0, 0]);
    // Each thread has a heap with a tokenizer of its own, some 40 MB, and caches; but not weights.
    expect(grown).toBeLessThan(weights[0] + 4 * (80 << 20));
    expect(grown).toBeGreaterThan(0.9 * weights[0]);
  });
});
