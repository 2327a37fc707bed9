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
    for (const options of [{ bannedTokens: [1e9] }, { forcedTokens: [-1] }, { minTokens: 0.5 }, { n: 0 }]) {
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
    const replaced = model.complete("Once", {
      ...greedy,
      maxTokens: 2,
      logitsProcessor: (logits) => new Float32Array(logits.length).fill(-1).fill(1, 9, 10),
    });
    expect((await replaced.result()).tokens).toEqual([9, 9]);
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

describe("overflow", () => {
  const system: ChatMessage = { role: "system", content: "Be brief." };
  const turns = Array.from({ length: 40 }, (_, i): ChatMessage[] => [
    { role: "user", content: `Question ${i}: ${"word ".repeat(30)}` },
    { role: "assistant", content: `Answer ${i}.` },
  ]).flat();
  const last: ChatMessage = { role: "user", content: "The end?" };

  it("is refused by default, with the sizes", async () => {
    await expect(model.chat([system, ...turns, last]).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_CONTEXT_OVERFLOW",
      message: expect.stringMatching(/\d+ tokens.*1024/) as string,
    });
  });

  it("drops the oldest turns, keeps the system prompt, and says so", async () => {
    const result = await model
      .chat([system, ...turns, last], { ...greedy, maxTokens: 20, overflow: "shift" })
      .result();
    const prompt = model.tokenizer.decode(Int32Array.from(result.promptTokens));
    expect(prompt).toContain("Be brief.");
    expect(prompt).toContain("The end?");
    expect(prompt).toContain("Question 39");
    expect(prompt).not.toContain("Question 3:");
    expect(result.dropped!.messages).toBeGreaterThan(0);
    expect(result.dropped!.messages % 2).toBe(0);
    expect(result.usage.promptTokens).toBeLessThan(1005);
    // Not a turn more than needed.
    const messages = [system, ...turns.slice(result.dropped!.messages - 2), last];
    const more = await model.chat(messages, { ...greedy, maxTokens: 0 }).result();
    expect(more.usage.promptTokens).toBeGreaterThan(1004);
    const fits = await model.chat([system, last], { ...greedy, maxTokens: 4, overflow: "shift" }).result();
    expect(fits.dropped).toEqual({ messages: 0, tokens: 0 });
  });

  it("refuses a last turn that does not fit", async () => {
    const long: ChatMessage = { role: "user", content: "word ".repeat(3000) };
    await expect(model.chat([system, ...turns, long], { overflow: "shift" }).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_CONTEXT_OVERFLOW",
    });
  });

  it("lets an answer go on", async () => {
    const options = { ...greedy, maxTokens: 1500, overflow: "shift" } as const;
    const result = await model.complete(tokens(3000), options).result();
    expect(result.tokens).toHaveLength(1500);
    expect(result.usage.promptTokens).toBe(512);
    expect(result.dropped!.tokens).toBeGreaterThan(3000 - 512);
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
});
