// What is published on diagnostics_channel, and that nothing is where nobody listens.
import { AsyncLocalStorage } from "node:async_hooks";
import { Channel, channel, subscribe, tracingChannel, unsubscribe } from "node:diagnostics_channel";
import { afterAll, afterEach, beforeAll, describe, expect, it, vi } from "vitest";

import { type GenerateTrace, loadModel, type Model } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const prompt = "The quick brown fox";
const options = { maxTokens: 4, temperature: 0, ignoreStopTokens: true } as const;
type Step = "start" | "end" | "asyncStart" | "asyncEnd" | "error";
let model: Model;

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 256, maxConcurrent: 1, maxQueue: 1 });
});
afterAll(() => model.dispose());

let stop = (): void => undefined;
afterEach(() => {
  stop();
  vi.restoreAllMocks();
});

/** What comes on the channels of an operation from now on: each message, and how it stood then. */
function listen<T extends object>(
  operation: string,
): { seen: { step: Step; trace: T; then: T }[]; order: () => Step[] } {
  const seen: { step: Step; trace: T; then: T }[] = [];
  const subscriber = (step: Step) => (trace: unknown) =>
    void seen.push({ step, trace: trace as T, then: { ...(trace as T) } });
  const subscribers = {
    start: subscriber("start"),
    end: subscriber("end"),
    asyncStart: subscriber("asyncStart"),
    asyncEnd: subscriber("asyncEnd"),
    error: subscriber("error"),
  };
  const channels = tracingChannel(`inhouse:${operation}`);
  channels.subscribe(subscribers);
  stop = () => {
    channels.unsubscribe(subscribers);
    stop = () => undefined;
  };
  return { seen, order: () => seen.map(({ step }) => step) };
}

const listenToGenerations = () => listen<GenerateTrace>("generate");

describe("a generation that is traced", () => {
  it("tells its settings, how it went and when, and never its text", async () => {
    const { seen, order } = listenToGenerations();
    const generation = model.complete(prompt, { ...options, topK: 7, topP: 0.5, seed: 11, priority: 2 });
    expect(order()).toEqual(["start", "end"]);
    const { text, finishReason, usage, timings } = await generation.result();
    expect(order()).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    const [{ trace, then }] = seen;
    for (const other of seen) expect(other.trace).toBe(trace);
    expect(then).toEqual({
      id: expect.any(Number) as number,
      model: file,
      call: "complete",
      maxTokens: 4,
      temperature: 0,
      topK: 7,
      topP: 0.5,
      seed: 11,
      priority: 2,
      adapter: undefined,
    });
    expect(seen[1].then).toEqual({ ...then, promptTokens: usage.promptTokens });
    expect(seen[2].then).toEqual({
      ...seen[1].then,
      result: { finishReason, usage, timings },
    });
    expect(text).not.toBe("");
    const told = JSON.stringify(trace);
    expect(told).not.toContain(prompt);
    expect(told).not.toContain(text.trim());
  });

  it("tells of a conversation, and of each sample", async () => {
    const { seen, order } = listenToGenerations();
    const messages = [{ role: "user", content: "Hello" }];
    const both = model.chat(messages, { ...options, n: 2, seed: 3 });
    await Promise.all(both.map((one) => one.result()));
    expect(order().filter((step) => step === "asyncEnd")).toHaveLength(2);
    const traces = [...new Set(seen.map(({ trace }) => trace))];
    expect(traces.map(({ call, seed }) => ({ call, seed }))).toEqual([
      { call: "chat", seed: 3 },
      { call: "chat", seed: 4 },
    ]);
    expect(traces[0].id).not.toBe(traces[1].id);
  });

  it("tells that it was cancelled", async () => {
    const { seen, order } = listenToGenerations();
    const generation = model.complete(prompt, { ...options, maxTokens: 200 });
    for await (const _ of generation) break;
    await generation.result();
    expect(order()).toEqual(["start", "end", "asyncStart", "asyncEnd"]);
    expect(seen[3].trace.result).toMatchObject({ finishReason: "cancelled", usage: { promptTokens: 4 } });
  });

  it("tells that it was refused", async () => {
    const running = [1, 2, 3].map(() => model.complete(prompt, { ...options, maxTokens: 200 }));
    const { seen, order } = listenToGenerations();
    const refused = await model
      .complete(prompt, options)
      .result()
      .catch((error: unknown) => error);
    expect(refused).toMatchObject({ code: "ERR_INHOUSE_QUEUE_FULL" });
    expect(order()).toEqual(["start", "end", "error", "asyncStart", "asyncEnd"]);
    expect(seen[2].then).toMatchObject({ error: refused, promptTokens: 4 });
    expect(seen[4].trace.result).toBeUndefined();
    for (const one of running) one.cancel();
    await Promise.allSettled(running.map((one) => one.result()));
  });

  it("tells that it failed, or was aborted", async () => {
    const { seen, order } = listenToGenerations();
    const boom = new Error("boom");
    const logitsProcessor = (): void => {
      throw boom;
    };
    await expect(model.complete(prompt, { ...options, logitsProcessor }).result()).rejects.toBe(boom);
    const signal = AbortSignal.abort(boom);
    await expect(model.complete(prompt, { ...options, signal }).result()).rejects.toBe(boom);
    const failed = ["start", "end", "error", "asyncStart", "asyncEnd"];
    expect(order()).toEqual([...failed, ...failed]);
    expect(seen[4].trace.error).toBe(boom);
    expect(seen[9].trace.error).toBe(boom);
  });

  it("is none where the call is wrong", () => {
    const { order } = listenToGenerations();
    expect(() => model.complete(prompt, { topP: 7 })).toThrow(/topP/);
    expect(order()).toEqual([]);
  });

  it("runs in its caller's async context, with what is bound to its start", async () => {
    const callers = new AsyncLocalStorage<string>();
    const spans = new AsyncLocalStorage<number>();
    const start = channel("tracing:inhouse:generate:start");
    start.bindStore(spans, (trace) => (trace as GenerateTrace).id);
    const contexts: unknown[] = [];
    const told = (): unknown => contexts.push(callers.getStore());
    subscribe("tracing:inhouse:generate:asyncEnd", told);
    let inside: unknown;
    const generation = callers.run("caller", () =>
      model.complete(prompt, { ...options, logitsProcessor: () => void (inside = spans.getStore()) }),
    );
    await generation.result();
    start.unbindStore(spans);
    unsubscribe("tracing:inhouse:generate:asyncEnd", told);
    expect(inside).toEqual(expect.any(Number));
    expect(contexts).toEqual(["caller"]);
    expect(spans.getStore()).toBeUndefined();
  });
});

describe("other operations", () => {
  const finished = ["start", "end", "asyncStart", "asyncEnd"];
  const failed = ["start", "end", "error", "asyncStart", "asyncEnd"];

  it("embed tells its sizes", async () => {
    const { seen, order } = listen<object>("embed");
    const vectors = await model.embed([prompt, [1, 2, 3]]);
    expect(vectors).toHaveLength(2);
    expect(order()).toEqual(finished);
    const id = expect.any(Number) as number;
    expect(seen[0].then).toEqual({ id, model: file });
    expect(seen[3].then).toEqual({ id, model: file, texts: 2, tokens: 7, result: undefined });
    await expect(model.embed([prompt, [-1]])).rejects.toThrow();
    expect(order().slice(4)).toEqual(failed);
  });

  it("score tells its sizes", async () => {
    const { seen, order } = listen<object>("score");
    await model.score([1, 2], [[3], [4, 5]]);
    expect(order()).toEqual(finished);
    expect(seen[3].then).toMatchObject({ model: file, continuations: 2, tokens: 7 });
    await expect(model.score([1], [[-1]])).rejects.toThrow();
    expect(order().slice(4)).toEqual(failed);
  });

  it("evaluate tells its size and times", async () => {
    const { seen, order } = listen<object>("evaluate");
    const { usage, timings } = await model.evaluate([1, 2, 3]);
    expect(order()).toEqual(finished);
    expect(seen[3].then).toMatchObject({ model: file, tokens: 3, result: { usage, timings } });
    await expect(model.evaluate([-1])).rejects.toThrow();
    expect(order().slice(4)).toEqual(failed);
  });

  it("loadModel tells what it loaded, or why not", async () => {
    const { seen, order } = listen<object>("load");
    const other = await loadModel(file, { device, contextLength: 64 });
    expect(order()).toEqual(finished);
    expect(seen[3].then).toMatchObject({ model: file, result: other.info });
    await other.dispose();
    await expect(loadModel(`${file}.not`)).rejects.toThrow();
    expect(order().slice(4)).toEqual(failed);
    expect(seen[8].then).toMatchObject({
      model: `${file}.not`,
      error: { code: "ERR_INHOUSE_FILE_NOT_FOUND" },
    });
  });
});

describe("without a subscriber", () => {
  const all = async (): Promise<void> => {
    await model.complete(prompt, options).result();
    await model.embed(prompt);
    await model.score([1, 2], [[3]]);
    await model.evaluate([1, 2, 3]);
    await (await loadModel(file, { device, contextLength: 64 })).dispose();
  };

  it("nothing is published", async () => {
    const ours = (calls: unknown[]): unknown[] =>
      calls.filter((one) => String((one as Channel).name).includes("inhouse"));
    const publish = vi.spyOn(Channel.prototype, "publish");
    const runStores = vi.spyOn(Channel.prototype, "runStores");
    await all();
    expect(ours([...publish.mock.contexts, ...runStores.mock.contexts])).toEqual([]);
    // It would have been seen: with one subscriber, messages go to channels that have none.
    const told = (): void => undefined;
    subscribe("tracing:inhouse:embed:error", told);
    await model.embed(prompt);
    unsubscribe("tracing:inhouse:embed:error", told);
    expect(ours(publish.mock.contexts).length).toBeGreaterThan(0);
  });
});
