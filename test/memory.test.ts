// What a loaded model holds of the process's memory, as Linux shows it.
import { readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";

import { InhouseError, loadModel } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

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

it("keeps no rows of requests that ended without taking them", async () => {
  await using model = await loadModel(file, { device, contextLength: 64 });
  const tokens = Array.from({ length: 60 }, (_, i) => 100 + i);
  const enough = new Error("enough");
  const failed = async (count: number): Promise<void> => {
    for (let i = 0; i < count; i++) {
      const onRows = (): void => {
        throw enough;
      };
      await expect(model.evaluate(tokens, { onRows })).rejects.toBe(enough);
    }
  };
  await failed(4);
  const before = process.memoryUsage.rss();
  await failed(24);
  // Each has rows of 12 MB, of which JavaScript sees 2 before it throws.
  expect(process.memoryUsage.rss() - before).toBeLessThan(150e6);
});

// A setter stands for an allocation in JavaScript that fails while results are handed over.
it("settles where JavaScript has no room for a result", async () => {
  await using model = await loadModel(file, { device, contextLength: 256 });
  const failing = async <T>(property: string, times: number, call: () => Promise<T>): Promise<unknown> => {
    let failures = 0;
    Object.defineProperty(Object.prototype, property, {
      configurable: true,
      set(this: object, value: unknown) {
        if (failures++ < times) throw new RangeError("Array buffer allocation failed");
        Object.defineProperty(this, property, {
          value,
          configurable: true,
          enumerable: true,
          writable: true,
        });
      },
    });
    try {
      return await call().catch((error: unknown) => (error as InhouseError).code);
    } finally {
      Reflect.deleteProperty(Object.prototype, property);
      expect(failures).toBeGreaterThan(0);
    }
  };
  const prompt = Array.from({ length: 64 }, (_, i) => 100 + i);
  const write = () => model.complete(prompt, { maxTokens: 2, ignoreStopTokens: true }).result();
  const state = join(tmpdir(), `inhouse-memory-${process.pid}`);
  const outOfMemory = "ERR_INHOUSE_OUT_OF_MEMORY";
  for (const times of [1, 5]) {
    expect(await failing("usage", times, write)).toBe(outOfMemory);
    expect(await failing("finish", times, () => model.embed(["one", "two"]))).toBe(outOfMemory);
  }
  expect(await failing("blocks", 1, () => model.saveState(state))).toBe(outOfMemory);
  rmSync(state);
  expect((await write()).tokens).toHaveLength(2);
  expect(model.stats()).toMatchObject({ running: 0, waiting: 0 });
});
