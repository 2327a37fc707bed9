// Many requests on one model: shared prefixes, order, limits, readers that are slow.
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { type ChatMessage, loadModel, type Model } from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

/** One token in each step: what is tested here takes its time. */
const greedy = { temperature: 0, ignoreStopTokens: true, speculation: "off" } as const;
let model: Model;

beforeAll(async () => {
  model = await loadModel(modelPath(smollm2), { device, contextLength: 1024, maxConcurrent: 4, maxQueue: 8 });
});
afterAll(() => model.dispose());

const tokens = (count: number, salt = 0): number[] =>
  Array.from({ length: count }, (_, i) => 1000 + ((i * 37 + salt * 101) % 5000));

describe("prefixes", () => {
  const system: ChatMessage = { role: "system", content: "You answer in one word. ".repeat(40) };
  const ask = (content: string, options = {}) =>
    model.chat([system, { role: "user", content }], { ...greedy, maxTokens: 6, ...options }).result();

  it("are computed once and change nothing", async () => {
    const cold = await ask("Name a colour.", { cachePrompt: false });
    expect(cold.usage.cachedTokens).toBe(0);
    const first = await ask("Name a colour.");
    const second = await ask("Name a colour.");
    const other = await ask("Name an animal.");
    expect(first.usage.cachedTokens).toBe(0);
    expect(second.usage.cachedTokens).toBeGreaterThan(second.usage.promptTokens - 33);
    expect(other.usage.cachedTokens).toBeGreaterThan(other.usage.promptTokens - 65);
    for (const same of [first, second]) expect(same.tokens).toEqual(cold.tokens);
  });

  it("stay within their scope", async () => {
    const cached = async (cacheScope: string) =>
      (await ask("Name a city.", { cacheScope })).usage.cachedTokens;
    expect(await cached("a")).toBe(0);
    expect(await cached("b")).toBe(0);
    expect(await cached("a")).toBeGreaterThan(100);
  });

  it("let a conversation go on at the price of its new tokens", async () => {
    const messages: ChatMessage[] = [system, { role: "user", content: "Name a fruit." }];
    const answer = await model.chat(messages, { temperature: 0, maxTokens: 40 }).result();
    messages.push({ role: "assistant", content: answer.text }, { role: "user", content: "Another one." });
    const { usage } = await model.chat(messages, { temperature: 0, maxTokens: 4 }).result();
    expect(usage.promptTokens - usage.cachedTokens).toBeLessThan(32 + 30);
  });

  it("are shared by the samples of one prompt", async () => {
    const before = model.stats().promptTokens;
    const samples = model.complete(tokens(320, 7), { n: 4, seed: 5, maxTokens: 8, ignoreStopTokens: true });
    const results = await Promise.all(samples.map((sample) => sample.result()));
    expect(results.map(({ seed }) => seed)).toEqual([5, 6, 7, 8]);
    expect(new Set(results.map(({ text }) => text)).size).toBeGreaterThan(1);
    // All but one share 9 blocks of 32.
    expect(model.stats().promptTokens - before).toBe(320 + 3 * 32);
    const alone = await model
      .complete(tokens(320, 7), { seed: 7, maxTokens: 8, ignoreStopTokens: true })
      .result();
    expect(alone.tokens).toEqual(results[2].tokens);
  });
});

describe("order", () => {
  it("lets higher priorities pass", async () => {
    const ended: string[] = [];
    const start = (name: string, priority: number, maxTokens: number) =>
      model
        .complete(tokens(20, priority), { ...greedy, priority, maxTokens })
        .result()
        .then(() => ended.push(name));
    const low = Array.from({ length: 6 }, (_, i) => start(`low ${i}`, -1, 60));
    await Promise.all([...low, start("high", 1, 5)]);
    expect(ended[0]).toBe("high");
  });

  it("ends what takes too long", async () => {
    const endless = { ...greedy, maxTokens: 900 } as const;
    const running = Array.from({ length: 4 }, (_, i) => model.complete(tokens(20, i), endless));
    const waiting = model.complete(tokens(20), { ...endless, queueTimeoutMs: 20 });
    const limited = model.complete(tokens(20), { ...endless, timeoutMs: 50 });
    await expect(waiting.result()).rejects.toMatchObject({ code: "ERR_INHOUSE_TIMEOUT" });
    await expect(limited.result()).rejects.toMatchObject({ code: "ERR_INHOUSE_TIMEOUT" });
    await expect(model.complete("a", { timeoutMs: 0 }).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_TIMEOUT",
    });
    for (const one of running) one.cancel();
    await Promise.all(running.map((one) => one.result()));
  });

  it("refuses more than may wait", async () => {
    const all = Array.from({ length: 13 }, (_, i) =>
      model.complete(tokens(20, i), { ...greedy, maxTokens: 900 }),
    );
    await expect(all[12].result()).rejects.toMatchObject({ code: "ERR_INHOUSE_QUEUE_FULL" });
    for (const one of all) one.cancel();
    await Promise.allSettled(all.map((one) => one.result()));
    expect(model.stats()).toMatchObject({ running: 0, waiting: 0, paused: 0 });
    expect(model.stats().refused).toBeGreaterThan(0);
  });

  it("takes all samples of a prompt or none", async () => {
    const endless = { ...greedy, maxTokens: 900 } as const;
    expect(() => model.complete("a", { n: 13 })).toThrow(/option 'n' is 13; expected at most 12/);
    const before = Array.from({ length: 6 }, (_, i) => model.complete(tokens(20, i), endless));
    const long = "word ".repeat(4000); // encoded in slices: refused later than at the call
    const many = [
      ...model.complete(tokens(20, 7), { ...endless, n: 8 }),
      ...model.complete(long, { ...endless, n: 8, overflow: "shift" }),
    ];
    for (const { status, reason } of (await Promise.allSettled(
      many.map((one) => one.result()),
    )) as PromiseRejectedResult[]) {
      expect(status).toBe("rejected");
      expect(reason).toMatchObject({ code: "ERR_INHOUSE_QUEUE_FULL" });
    }
    for (const one of before) one.cancel();
    await Promise.all(before.map((one) => one.result()));
    const all = model.complete(tokens(20, 7), { n: 12, maxTokens: 2, ignoreStopTokens: true });
    for (const { tokens } of await Promise.all(all.map((one) => one.result())))
      expect(tokens).toHaveLength(2);
  });

  describe("counts the time from the call on", () => {
    /** Two token ids; reading them takes longer than the requests may. */
    const limit = 50;
    const slowIds = (): ArrayLike<number> => {
      const end = performance.now() + limit + 10;
      const id = (): number => {
        while (performance.now() < end);
        return 100;
      };
      return Object.defineProperties({ length: 2 }, { 0: { get: id }, 1: { get: id } });
    };
    const words = "some words ".repeat(200_000);
    const list = Array.from({ length: 20_000 }, (_, i) => `some words to encode, number ${i}`);
    const timeoutMs = limit;

    it.each<[string, () => Promise<unknown>]>([
      ["complete", () => model.complete(slowIds(), { timeoutMs }).result()],
      ["evaluate", () => model.evaluate(slowIds(), { timeoutMs })],
      ["embed", () => model.embed([slowIds()], { timeoutMs })],
      ["score", () => model.score([100], [slowIds()], { timeoutMs })],
    ])("in %s, with what comes before the engine", async (_, request) => {
      await expect(request()).rejects.toMatchObject({ code: "ERR_INHOUSE_TIMEOUT" });
    });

    // None of these would fit, or reaches the engine.
    it.each<[string, (timeoutMs: number) => Promise<unknown>]>([
      ["chat", (timeoutMs) => model.chat([{ role: "user", content: words }], { timeoutMs }).result()],
      ["complete", (timeoutMs) => model.complete(words, { timeoutMs }).result()],
      ["samples", (timeoutMs) => model.complete(words, { timeoutMs, n: 2 })[1].result()],
      ["embed", (timeoutMs) => model.embed(list, { timeoutMs })],
      ["embed of a long text", (timeoutMs) => model.embed(words, { timeoutMs, truncate: true })],
      ["score", (timeoutMs) => model.score("One", list, { timeoutMs })],
    ])("in %s, while it encodes", async (_, request) => {
      const before = model.stats().requests;
      await expect(request(1)).rejects.toMatchObject({ code: "ERR_INHOUSE_TIMEOUT" });
      expect(model.stats().requests).toBe(before);
    });
  });
});

describe("what may come", () => {
  it("obeys minTokens, bannedTokens and forcedTokens", async () => {
    const free = await model.complete("One, two,", { ...greedy, maxTokens: 8 }).result();
    const banned = await model
      .complete("One, two,", { ...greedy, maxTokens: 8, bannedTokens: free.tokens })
      .result();
    expect(banned.tokens.filter((id) => free.tokens.includes(id))).toEqual([]);
    const forced = await model
      .complete("One, two,", { ...greedy, maxTokens: 8, forcedTokens: new Set([500, 600]), logprobs: true })
      .result();
    expect(forced.tokens.slice(0, 2)).toEqual([500, 600]);
    expect(forced.logprobs![0].token).toBe(500);
    const stopped = await model
      .complete("One, two,", { ...greedy, maxTokens: 8, stopTokens: free.tokens, minTokens: 5 })
      .result();
    expect(stopped.tokens.length).toBeGreaterThanOrEqual(5);
    for (const options of [
      { bannedTokens: [1e9] },
      { forcedTokens: [-1] },
      { minTokens: 0.5 },
      { minTokens: 5, maxTokens: 4 },
      { n: 0 },
    ]) {
      expect(() => model.complete("a", options)).toThrow(/option/);
    }
  });

  it("asks a logitsProcessor, while others go on", async () => {
    let seen: number[] = [];
    const slow = model.complete("Once", {
      ...greedy,
      maxTokens: 5,
      logitsProcessor: async (logits, drawn) => {
        seen = [...drawn];
        await new Promise((resolve) => setTimeout(resolve, 20));
        expect(logits).toHaveLength(model.info.vocabularySize);
        logits[700 + drawn.length] = 1e3;
      },
    });
    const other = model.complete("Twice", { ...greedy, maxTokens: 5 });
    await other.result();
    expect((await slow.result()).tokens).toEqual([700, 701, 702, 703, 704]);
    expect(seen).toEqual([700, 701, 702, 703]);
    // Log-probabilities are those of what the token was drawn from.
    const certain = {
      ...greedy,
      maxTokens: 1,
      logprobs: 1,
      logitsProcessor: (logits: Float32Array) => void (logits[9] = 1e3),
    };
    const { logprobs } = await model.complete("Once", certain).result();
    expect(logprobs).toEqual([{ token: 9, logprob: 0, top: [{ token: 9, logprob: 0 }] }]);
    const replaced = model.complete("Once", {
      ...greedy,
      maxTokens: 2,
      logitsProcessor: (logits) => new Float32Array(logits.length).fill(-1).fill(1, 9, 10),
    });
    expect((await replaced.result()).tokens).toEqual([9, 9]);
  });

  it("notices a logitsProcessor that gives its logits away", async () => {
    const away = (logits: Float32Array): Float32Array =>
      structuredClone(logits, { transfer: [logits.buffer as ArrayBuffer] });
    const settings = { maxTokens: 3, temperature: 0, ignoreStopTokens: true };
    const { tokens } = await model.complete("A transfer", settings).result();
    const back = await model.complete("A transfer", { ...settings, logitsProcessor: away }).result();
    expect(back.tokens).toEqual(tokens);
    const lost = model.complete("A transfer", {
      ...settings,
      logitsProcessor: (logits) => void away(logits),
    });
    await expect(lost.result()).rejects.toThrow(/expected nothing or a Float32Array of \d{3,} logits/);
  });

  it("fails with what a logitsProcessor throws", async () => {
    const boom = new Error("boom");
    const throws = model.complete("Once", {
      logitsProcessor: () => {
        throw boom;
      },
    });
    await expect(throws.result()).rejects.toBe(boom);
    const wrong = model.complete("Once", { logitsProcessor: () => new Float32Array(3) });
    await expect(wrong.result()).rejects.toMatchObject({ code: "ERR_INHOUSE_INVALID_ARGUMENT" });
    const nan = model.complete("Once", { logitsProcessor: (logits) => void logits.fill(NaN) });
    await expect(nan.result()).rejects.toMatchObject({ code: "ERR_INHOUSE_NUMERIC" });
  });

  it("gives log-probabilities of the prompt", async () => {
    const ids = tokens(100, 3);
    const { logprobs } = await model.evaluate(ids);
    const result = await model.complete(ids, { ...greedy, maxTokens: 3, promptLogprobs: true }).result();
    expect(Float32Array.from(result.promptLogprobs!)).toEqual(logprobs);
    expect(result.tokens).toHaveLength(3);
  });
});

describe("stats", () => {
  it("count the tokens of steps", async () => {
    const before = model.stats();
    await model.complete(tokens(40, 11), { ...greedy, maxTokens: 3, cachePrompt: false }).result();
    const after = model.stats();
    const { bounds, counts, count, sum } = after.batchTokens;
    expect(bounds.slice(0, 4)).toEqual([2, 4, 8, 16]);
    expect(count).toBe(after.steps);
    expect(sum).toBe(after.stepTokens);
    // The prompt's 40 tokens, then one and one.
    expect(sum - before.batchTokens.sum).toBe(42);
    expect(counts[0] - before.batchTokens.counts[0]).toBe(2);
    expect(counts[5] - before.batchTokens.counts[5]).toBe(1);
  });
});

describe("readers", () => {
  it("hold back their own generation alone", { timeout: 60_000 }, async () => {
    const slow = Array.from({ length: 4 }, (_, i) =>
      model.complete(tokens(20, i), { ...greedy, maxTokens: 900 }),
    );
    const iterators = slow.map((one) => one[Symbol.asyncIterator]());
    for (const iterator of iterators) await iterator.next();
    while (model.stats().paused < 4) await new Promise((resolve) => setTimeout(resolve, 10));
    // All four places are held by readers that do not read; others pass.
    await model.complete("Hello", { ...greedy, maxTokens: 20 }).result();
    let seen = 1;
    for (let more = await iterators[0].next(); more.done !== true; more = await iterators[0].next()) {
      seen += more.value.tokens.length;
    }
    expect(seen).toBeGreaterThanOrEqual(890);
    // Whoever awaits the end reads.
    expect((await slow[1].result()).tokens).toHaveLength(900);
    for (const one of slow) one.cancel();
  });

  it("leave the queue to others", { timeout: 60_000 }, async () => {
    const slow = Array.from({ length: 12 }, (_, i) =>
      model.complete(tokens(20, i), { ...greedy, maxTokens: 900 }),
    );
    for (const one of slow) await one[Symbol.asyncIterator]().next();
    while (model.stats().paused < 12) await new Promise((resolve) => setTimeout(resolve, 10));
    // As many as run and wait at most; none of them waits for the model.
    const { tokens: drawn } = await model.complete("Hello", { ...greedy, maxTokens: 20 }).result();
    expect(drawn).toHaveLength(20);
    for (const one of slow) one.cancel();
    // What they had drawn is what nobody has read.
    for (const { tokens } of await Promise.all(slow.map((one) => one.result()))) {
      expect(tokens.length).toBeLessThan(600);
    }
  });

  it("hold it back by tokens, also those without text", async () => {
    const silent = new Array<number>(900).fill(model.tokenizer.eosTokenId!);
    const options = { ...greedy, forcedTokens: silent, maxTokens: 900 };
    const slow = model.complete("Hello", options);
    const steps = model.stats().steps;
    while (model.stats().paused < 1 && model.stats().steps - steps < 850) {
      await new Promise((resolve) => setTimeout(resolve, 1));
    }
    expect(model.stats().paused).toBe(1);
    slow.cancel();
    expect((await slow.result()).tokens.length).toBeLessThan(600);
    // Whoever reads them gets them all, some at a time.
    const lengths: number[] = [];
    for await (const { tokens, text } of model.complete("Hello", { ...options, maxTokens: 400 })) {
      expect(text).toBe("");
      lengths.push(tokens.length);
    }
    expect(lengths.length).toBeGreaterThan(3);
    expect(lengths.reduce((sum, length) => sum + length)).toBe(400);
  });
});
