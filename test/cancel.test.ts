// Ending things early: loops left, generations cancelled, signals aborted, models disposed of.
import { AsyncLocalStorage } from "node:async_hooks";
import { getEventListeners } from "node:events";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { loadModel, type Model } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const endless = { ignoreStopTokens: true, temperature: 0 } as const;
const short = { ...endless, maxTokens: 4 } as const;
let model: Model;

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 1024, maxBatchTokens: 32 });
});
afterAll(() => model.dispose());

/** A prompt that takes many steps. */
const long = new Array<number>(1000).fill(100);

describe("cancelling", () => {
  it("ends with what has come when the loop is left", async () => {
    const generation = model.complete("One, two,", endless);
    let seen = 0;
    for await (const delta of generation) {
      seen += delta.tokens.length;
      if (seen >= 3) break;
    }
    const result = await generation.result();
    expect(result.finishReason).toBe("cancelled");
    expect(result.tokens.length).toBeGreaterThanOrEqual(seen);
    expect(result.tokens.length).toBeLessThan(seen + 20);
  });

  it("ends in the middle of a prompt, within a step", async () => {
    const generation = model.complete(long, endless);
    await new Promise((resolve) => setTimeout(resolve, 30));
    generation.cancel();
    generation.cancel();
    const result = await generation.result();
    expect(result).toMatchObject({ finishReason: "cancelled", text: "", tokens: [] });
    const { usage, timings, promptTokens } = result;
    expect(promptTokens).toEqual(long);
    expect(usage).toEqual({ promptTokens: long.length, cachedTokens: 0, completionTokens: 0 });
    // Speeds are those of the tokens computed: whole steps of 32.
    const computed = (timings.promptTokensPerSecond * timings.promptMs) / 1000;
    expect(computed).toBeGreaterThanOrEqual(0);
    expect(computed).toBeLessThan(long.length);
    expect(Math.abs(computed / 32 - Math.round(computed / 32))).toBeLessThan(1e-6);
    expect(timings.decodeTokensPerSecond).toBe(0);
    for await (const _ of generation) expect.unreachable();
  });

  it("leaves a loop at once that waits behind a long prompt", async () => {
    const generation = model.complete(long, endless);
    const iterator = generation[Symbol.asyncIterator]();
    const waiting = iterator.next();
    const start = performance.now();
    await iterator.return!();
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(performance.now() - start).toBeLessThan(100);
    expect((await generation.result()).finishReason).toBe("cancelled");
    expect(await iterator.next()).toEqual({ done: true, value: undefined });
  });

  it("ends before the prompt is encoded", async () => {
    const generation = model.complete("word ".repeat(100_000), endless);
    generation.cancel();
    const { finishReason, usage } = await generation.result();
    expect({ finishReason, usage }).toEqual({
      finishReason: "cancelled",
      usage: { promptTokens: 0, cachedTokens: 0, completionTokens: 0 },
    });
  });

  it("ends with its web stream", async () => {
    const generation = model.complete("One, two,", endless);
    const reader = generation.textStream().getReader();
    await reader.read();
    await reader.cancel();
    expect((await generation.result()).finishReason).toBe("cancelled");
  });

  it("leaves the others alone", async () => {
    const alone = await model.complete("One, two,", short).text();
    const generations = Array.from({ length: 4 }, () => model.complete("One, two,", short));
    generations[1].cancel();
    generations[2].cancel();
    expect(await generations[0].text()).toBe(alone);
    expect(await generations[3].text()).toBe(alone);
  });

  it("does nothing after the end", async () => {
    const generation = model.complete("One, two,", short);
    const { finishReason } = await generation.result();
    generation.cancel();
    expect(finishReason).toBe("length");
    expect((await generation.result()).finishReason).toBe("length");
  });
});

describe("aborting", () => {
  const reason = new Error("enough");

  it("waits for one signal with one listener, which goes with the last that needs it", async () => {
    const warnings: Error[] = [];
    const warned = (warning: Error): unknown => warnings.push(warning);
    process.on("warning", warned);
    const { signal } = new AbortController();
    const work = [
      ...Array.from({ length: 12 }, () => model.complete([100], { ...short, signal }).result()),
      model.evaluate([100, 101], { signal }),
      loadModel(file, { device, contextLength: 64, signal }).then((other) => other.dispose()),
    ];
    expect(getEventListeners(signal, "abort")).toHaveLength(1);
    await Promise.all(work);
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    await model.complete([100], { ...short, signal }).result();
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    process.off("warning", warned);
    expect(warnings).toEqual([]);
  });

  it("ends all that wait for one signal", async () => {
    const control = new AbortController();
    const generate = () => model.complete([100], { ...endless, signal: control.signal }).result();
    const all = [generate(), generate(), model.evaluate(long, { signal: control.signal }), generate()];
    control.abort(reason);
    for (const end of await Promise.allSettled(all)) expect(end).toEqual({ status: "rejected", reason });
    expect(getEventListeners(control.signal, "abort")).toHaveLength(0);
  });

  it("rejects a load at any time with the signal's reason", async () => {
    await expect(loadModel(file, { device, signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    for (const delay of [0, 1, 5, 10, 20, 40]) {
      const control = new AbortController();
      const loading = loadModel(file, { device, contextLength: 64, signal: control.signal });
      setTimeout(() => control.abort(reason), delay);
      const end = await loading.catch((error: unknown) => error);
      if (end instanceof Error) expect(end).toBe(reason);
      else await (end as Model).dispose();
    }
    const control = new AbortController();
    const onProgress = (): void => control.abort(reason);
    await expect(loadModel(file, { device, signal: control.signal, onProgress })).rejects.toBe(reason);
  });

  it("rejects loop and result, in the prompt and in decoding", async () => {
    for (const prompt of [long, [100, 101]]) {
      const control = new AbortController();
      const generation = model.complete(prompt, { ...endless, signal: control.signal });
      const loop = (async () => {
        for await (const _ of generation) control.abort(reason);
      })();
      setTimeout(() => control.abort(reason), 300);
      await expect(loop).rejects.toBe(reason);
      await expect(generation.result()).rejects.toBe(reason);
      await expect(generation.text()).rejects.toBe(reason);
    }
  });

  it("rejects what is aborted before the call, and is no unhandled rejection", async () => {
    const generation = model.complete("One", { signal: AbortSignal.abort(reason) });
    await expect(generation.result()).rejects.toBe(reason);
    model.complete("One", { signal: AbortSignal.abort(reason) });
    await expect(
      model.complete("One", { signal: AbortSignal.timeout(1), ...endless }).result(),
    ).rejects.toThrow(expect.objectContaining({ name: "TimeoutError" }));
    await expect(model.evaluate(long, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});

describe("disposing", () => {
  it("cancels what runs, waits for it, and refuses what comes after", async () => {
    const other = await loadModel(file, { device, contextLength: 1024, maxBatchTokens: 32 });
    const running = [other.complete(long, endless), other.complete([100, 101], endless)];
    const encoding = other.complete("word ".repeat(2_000_000), endless);
    const evaluating = other.evaluate(long);
    const lost = expect(evaluating).rejects.toMatchObject({ code: "ERR_INHOUSE_DISPOSED" });
    await new Promise((resolve) => setTimeout(resolve, 50));
    const first = other.dispose();
    expect(other.dispose()).toBe(first);
    await first;
    await lost;
    for (const generation of [...running, encoding]) {
      expect((await generation.result()).finishReason).toBe("cancelled");
    }
    const inPrompt = await running[0].result();
    expect(inPrompt.usage.promptTokens).toBe(long.length);
    expect(inPrompt.timings.queueMs + inPrompt.timings.promptMs).toBeGreaterThan(40);
    expect((await encoding.result()).timings.queueMs).toBeGreaterThan(40);
    const { tokens, usage } = await running[1].result();
    expect(usage).toEqual({ promptTokens: 2, cachedTokens: 0, completionTokens: tokens.length });
    const disposed = expect.objectContaining({ code: "ERR_INHOUSE_DISPOSED" });
    expect(() => other.complete("One")).toThrow(disposed);
    expect(() => other.chat([{ role: "user", content: "One" }])).toThrow(disposed);
    await expect(other.evaluate([1])).rejects.toEqual(disposed);
    await other[Symbol.asyncDispose]();
    expect(other.tokenizer.encode("still here").length).toBeGreaterThan(0);
    expect(await model.complete("One, two,", short).text()).not.toBe("");
  });
});

describe("what had come when a model was disposed of", () => {
  it("is delivered: held bytes and tokens without text too", async () => {
    const other = await loadModel(file, { device, contextLength: 256 });
    const [part] = other.tokenizer.encode("🙂", { addBos: false });
    const generation = other.complete([100], { ...endless, logitBias: { [part]: 1e6 } });
    await new Promise((resolve) => setTimeout(resolve, 100));
    await other.dispose();
    const { text, tokens, usage, finishReason } = await generation.result();
    if (finishReason === "cancelled") expect(usage.promptTokens).toBe(1);
    expect(tokens.length).toBeGreaterThan(0);
    expect(text).toBe(other.tokenizer.decode(tokens));
    const streamed: number[] = [];
    for await (const delta of generation) streamed.push(...delta.tokens);
    expect(streamed).toEqual(tokens);
  });
});

describe("what was on its way to JavaScript when a model was disposed of", () => {
  /** Holds the event loop until the engine waits for an answer to its first event. */
  const block = async ({ stats }: Model): Promise<void> => {
    while (stats().requests === 0) await Promise.resolve();
    const late = performance.now() + 5000;
    while (stats().steps === 0 && performance.now() < late);
    const end = performance.now() + 50;
    while (performance.now() < end);
    expect(stats().steps).toBe(1);
  };

  it("is no failure of a generation whose logits it is", async () => {
    const other = await loadModel(file, { device, contextLength: 256 });
    const asked: number[] = [];
    const logitsProcessor = (_: Float32Array, tokens: readonly number[]): void =>
      void asked.push(tokens.length);
    const generation = other.complete([100], { ...endless, logitsProcessor });
    await block(other);
    const disposed = other.dispose();
    expect(await generation.result()).toMatchObject({ finishReason: "cancelled", tokens: [] });
    await disposed;
    expect(asked).toEqual([]);
  });

  it("ends scoring and evaluating as documented", async () => {
    for (const call of ["score", "evaluate"] as const) {
      const other = await loadModel(file, { device, contextLength: 256, maxBatchTokens: 32 });
      const ended =
        call === "score" ? other.score([100], [long.slice(0, 200)]) : other.evaluate(long.slice(0, 200));
      const rejects = expect(ended).rejects.toMatchObject({ code: "ERR_INHOUSE_DISPOSED" });
      await block(other);
      await other.dispose();
      await rejects;
    }
  });
});

describe("running together", () => {
  it("an evaluation whose onRows never settles ends with its time, and with its model", async () => {
    const onRows = (): Promise<void> => new Promise(() => undefined);
    await expect(model.evaluate([1, 2, 3], { onRows, timeoutMs: 200 })).rejects.toThrow(/timeoutMs/);
    const other = await loadModel(modelPath(smollm2), { device, contextLength: 64 });
    let called = (): void => undefined;
    const begun = new Promise<void>((resolve) => (called = resolve));
    const evaluation = other.evaluate([1, 2, 3], { onRows: () => (called(), onRows()) });
    const ended = expect(evaluation).rejects.toThrow(/disposed/);
    await begun;
    await new Promise((resolve) => setTimeout(resolve, 100)); // its last event has come
    await other.dispose();
    await ended;
  });

  it("keeps the caller's AsyncLocalStorage everywhere", async () => {
    const storage = new AsyncLocalStorage<number>();
    const ask = async (id: number): Promise<void> => {
      const generation = model.complete([100, 101], { ...short, seed: id });
      for await (const _ of generation) expect(storage.getStore()).toBe(id);
      await generation.result().then(() => expect(storage.getStore()).toBe(id));
      const pieces = model.complete([100, 101], short).textStream();
      for await (const _ of pieces) expect(storage.getStore()).toBe(id);
      await model.evaluate([1, 2, 3], { onRows: () => expect(storage.getStore()).toBe(id) });
      expect(storage.getStore()).toBe(id);
    };
    await Promise.all([1, 2, 3].map((id) => storage.run(id, () => ask(id))));
    const onProgress = (): void => expect(storage.getStore()).toBe(9);
    const other = await storage.run(9, () => loadModel(file, { device, contextLength: 64, onProgress }));
    await other.dispose();
  });

  it("serves more generations than run at once, in order", async () => {
    const few = await loadModel(file, { device, contextLength: 128, maxConcurrent: 2 });
    const generations = Array.from({ length: 7 }, (_, seed) =>
      few.complete([100, 101, 102], { ...short, seed }),
    );
    const results = await Promise.all(generations.map((generation) => generation.result()));
    for (const { tokens } of results) expect(tokens).toEqual(results[0].tokens);
    expect(results.at(-1)!.timings.queueMs).toBeGreaterThan(results[0].timings.queueMs);
    await few.dispose();
  });

  it("keeps a slow reader's text", async () => {
    const generation = model.complete("One, two,", { ...endless, maxTokens: 12 });
    await generation.result();
    let text = "";
    for await (const delta of generation) text += delta.text;
    expect(text).toBe(await generation.text());
  });
});
