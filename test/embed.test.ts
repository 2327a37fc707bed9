// Vectors of texts and log-likelihoods of continuations, through the public interface.
import { getEventListeners } from "node:events";
import { join } from "node:path";
import { Worker } from "node:worker_threads";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { InhouseError, loadModel, type Model } from "../lib/index.js";
import { distanceTo, readEmbeddings } from "./support/embeddings.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
let model: Model;

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 512 });
});
afterAll(() => model.dispose());

const texts = [
  "A cat sits on the mat and looks at the rain.",
  "The kitten lay on a rug, watching the shower outside.",
  "Stock prices fell sharply after the central bank's decision.",
];

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, x, i) => sum + x * b[i], 0);
}

async function errorOf(action: () => Promise<unknown>): Promise<InhouseError> {
  const error: unknown = await action().then(
    () => undefined,
    (reason: unknown) => reason,
  );
  if (!InhouseError.is(error)) throw new Error(`expected an InhouseError, got ${String(error)}`);
  return error;
}

/** Texts of 2 to 40 words. */
function manyTexts(count: number): string[] {
  const words = "the old house by river stands empty since spring and nobody asks why it was left".split(" ");
  return Array.from({ length: count }, (_, i) =>
    Array.from({ length: 2 + ((i * 7) % 11) }, (_, k) => words[(i * 5 + k * (i % 13)) % words.length]).join(
      " ",
    ),
  );
}

describe("embed", () => {
  it("gives one vector per text, in order, of length 1, nearer for texts that are alike", async () => {
    const vectors = await model.embed(texts);
    expect(vectors).toHaveLength(3);
    for (const vector of vectors) {
      expect(vector).toBeInstanceOf(Float32Array);
      expect(vector).toHaveLength(model.info.embeddingLength);
      expect(vector.buffer.byteLength).toBe(4 * vector.length);
      expect(dot(vector, vector)).toBeCloseTo(1, 5);
    }
    expect(model.info).toMatchObject({ embeddingLength: 576, pooling: "mean" });
    const [cat, kitten, stocks] = vectors;
    expect(dot(cat, kitten)).toBeGreaterThan(dot(cat, stocks) + 0.05);
    expect(await model.embed(texts[1])).toEqual([kitten]);
    const { embed } = model;
    expect(await embed([...texts].reverse())).toEqual([stocks, kitten, cat]);
  });

  it("takes token ids as they are", async () => {
    const ids = texts.map((text) => model.tokenizer.encode(text));
    expect(await model.embed([ids[0], Array.from(ids[1]), texts[2]])).toEqual(await model.embed(texts));
  });

  it("pools, cuts and normalizes as asked", async () => {
    for (const pooling of ["mean", "cls", "last"] as const) {
      const [raw] = await model.embed(texts[0], { pooling, normalize: false });
      const [cut] = await model.embed(texts[0], { pooling, normalize: false, dimensions: 64 });
      expect(cut).toEqual(raw.slice(0, 64));
      const [normal] = await model.embed(texts[0], { pooling, dimensions: 64 });
      const length = Math.sqrt(dot(cut, cut));
      expect(dot(normal, normal)).toBeCloseTo(1, 5);
      normal.forEach((x, i) => expect(x).toBeCloseTo(cut[i] / length, 5));
    }
    const [a] = await model.embed("one two", { pooling: "cls" });
    const [b] = await model.embed("one three", { pooling: "cls" });
    expect(a).toEqual(b);
  });

  it("pools as the file says", async () => {
    const loaded = await loadModel(file, {
      device,
      contextLength: 64,
      overrides: { "llama.pooling_type": 3 },
    });
    expect(loaded.info.pooling).toBe("last");
    expect(await loaded.embed(texts)).toEqual(await model.embed(texts, { pooling: "last" }));
    await loaded.dispose();
    const reranker = await loadModel(file, {
      device,
      contextLength: 64,
      overrides: { "llama.pooling_type": 4 },
    });
    expect((await errorOf(() => reranker.embed(texts))).message).toMatch(/reranker.*'pooling'/);
    expect(await reranker.embed(texts, { pooling: "mean" })).toEqual(await model.embed(texts));
    await reranker.dispose();
  });

  it("agrees with transformers", async () => {
    const texts = readEmbeddings("smollm2-135m");
    const tokens = texts.map((text) => text.tokens);
    const exact = await loadModel(file, { device: "reference", contextLength: 64 });
    for (const pooling of ["mean", "last"] as const) {
      const options = { pooling, normalize: false };
      const [near, vectors] = [await exact.embed(tokens, options), await model.embed(tokens, options)];
      for (const [i, text] of texts.entries()) {
        expect(distanceTo(text[pooling], near[i])).toBeLessThan(1e-4);
        expect(distanceTo(text[pooling], vectors[i])).toBeLessThan(0.05);
      }
    }
    await exact.dispose();
  });

  it("takes many texts beside a generation, whose text stays the same", async () => {
    const write = { temperature: 0, maxTokens: 24, ignoreStopTokens: true } as const;
    const alone = await model.complete("One, two, three,", write).text();
    const many = manyTexts(1000);
    const before = model.stats();
    const generation = model.complete("One, two, three,", write);
    const vectors = await model.embed(many);
    expect(await generation.text()).toBe(alone);
    expect(vectors).toHaveLength(1000);
    expect(model.stats().requests - before.requests).toBe(2);
    const some = [0, 1, 499, 998, 999];
    expect(await model.embed(some.map((i) => many[i]))).toEqual(some.map((i) => vectors[i]));
  }, 300_000);

  it("lets a generation pass that comes later", async () => {
    let done = false;
    const many = model.embed(manyTexts(300)).then(() => (done = true));
    await new Promise((resolve) => setTimeout(resolve, 200));
    await model.complete("One, two,", { maxTokens: 2, temperature: 0 }).result();
    expect(done).toBe(false);
    await many;
  }, 300_000);

  it("is never refused for its own size", async () => {
    const small = await loadModel(file, { device, contextLength: 64, maxConcurrent: 1, maxQueue: 1 });
    const calls = [small.embed(manyTexts(200)), small.embed(manyTexts(100))];
    while (small.stats().requests < 2) await new Promise(setImmediate);
    expect((await errorOf(() => small.embed("one"))).code).toBe("ERR_INHOUSE_QUEUE_FULL");
    expect((await Promise.all(calls)).map((vectors) => vectors.length)).toEqual([200, 100]);
    await small.dispose();
  });

  it("gives nothing for no texts, and names a text without tokens", async () => {
    expect(await model.embed([])).toEqual([]);
    for (const empty of ["", [], new Int32Array(0)]) {
      const error = await errorOf(() => model.embed(["one", empty]));
      expect(error.code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
      expect(error.message).toMatch(/text 1/);
    }
  });

  it("names a text that is too long, or cuts it", async () => {
    const long = "word ".repeat(600);
    const error = await errorOf(() => model.embed(["one", long]));
    expect(error.code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect(error.message).toMatch(/text 1 has 60\d tokens.* 512/);
    expect(error.stack).toContain("embed.test.ts");
    const ids = model.tokenizer.encode(long);
    expect((await errorOf(() => model.embed([ids]))).code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    const cut = [ids.slice(0, 512)];
    expect(await model.embed([long], { truncate: true })).toEqual(await model.embed(cut));
    expect(await model.embed([ids], { truncate: true })).toEqual(await model.embed(cut));
  });

  it("refuses wrong arguments", async () => {
    const code = async (...call: unknown[]): Promise<string> =>
      (await errorOf(() => model.embed(...(call as [string])))).code;
    const wrong = [
      [undefined],
      [{}],
      [new Int32Array([1, 2])],
      [[1, 2]],
      [["a", null]],
      [[["x"]]],
      ["a", { pooling: "max" }],
      ["a", { dimensions: 0 }],
      ["a", { dimensions: 577 }],
      ["a", { pool: "mean" }],
    ];
    for (const call of wrong) expect(await code(...call)).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    expect(await code([[1, 49_152]])).toBe("ERR_INHOUSE_TOKEN_OUT_OF_RANGE");
    expect(await code(["a"], { timeoutMs: 0 })).toBe("ERR_INHOUSE_TIMEOUT");
  });

  it("stops when its signal is aborted, and forgets the signal", async () => {
    const control = new AbortController();
    const reason = new Error("enough");
    await expect(model.embed(texts, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const ended = expect(model.embed(manyTexts(3000), { signal: control.signal })).rejects.toBe(reason);
    setTimeout(() => control.abort(reason), 100);
    await ended;
    const { signal } = new AbortController();
    await model.embed(texts, { signal });
    await errorOf(() => model.embed([[49_152]], { signal }));
    expect(getEventListeners(signal, "abort")).toHaveLength(0);
    expect(await model.embed(texts)).toHaveLength(3);
    while (model.stats().running > 0) await new Promise((resolve) => setTimeout(resolve, 5));
    expect(model.stats().kv.held).toBe(0);
  });

  it("ends with the model", async () => {
    const other = await loadModel(file, { device, contextLength: 64 });
    const many = manyTexts(500);
    const lost = [other.embed(many), other.score("One, two,", many)];
    const errors = lost.map((call) => errorOf(() => call));
    await new Promise((resolve) => setTimeout(resolve, 30));
    await other.dispose();
    for (const error of errors) expect((await error).code).toBe("ERR_INHOUSE_DISPOSED");
    expect((await errorOf(() => other.embed("one"))).code).toBe("ERR_INHOUSE_DISPOSED");
    expect((await errorOf(() => other.score("one", []))).code).toBe("ERR_INHOUSE_DISPOSED");
  });

  it("works in a worker, which may end meanwhile", async () => {
    const code = (rest: string): string => `
      const { parentPort } = require("node:worker_threads");
      const { loadModel } = require(${JSON.stringify(join(import.meta.dirname, "../dist/index.js"))});
      loadModel(${JSON.stringify(file)}, { contextLength: 64, device: ${JSON.stringify(device)} }).then(async (model) => {
        ${rest}
      });`;
    const worker = new Worker(
      code(`parentPort.postMessage(await model.embed(${JSON.stringify(texts)})); await model.dispose();`),
      { eval: true },
    );
    const vectors = await new Promise((resolve, reject) =>
      worker.once("message", resolve).once("error", reject),
    );
    expect(vectors).toEqual(await model.embed(texts));
    const ending = new Worker(
      code(`model.embed(${JSON.stringify(manyTexts(500))}); parentPort.postMessage(0);`),
      { eval: true },
    );
    await new Promise((resolve) => ending.once("message", resolve));
    expect(await ending.terminate()).toBe(1);
  });
});

describe("score", () => {
  const prompt = "The capital of France is";

  it("gives the log-likelihood of each continuation", async () => {
    const continuations = [" Paris", " London", " Rome, as all know."];
    const scores = await model.score(prompt, continuations);
    expect(scores.map(({ isGreedy }) => isGreedy)).toEqual([true, false, false]);
    for (const [i, continuation] of continuations.entries()) {
      const { logprob, logprobs, tokens } = scores[i];
      const ids = model.tokenizer.encode(prompt + continuation);
      const { logprobs: all } = await model.evaluate(ids);
      expect(model.tokenizer.decode(tokens)).toBe(continuation);
      expect(logprobs).toEqual(all.slice(all.length - tokens.length));
      expect(logprob).toBe(logprobs.reduce((sum, x) => sum + x, 0));
    }
    const greedy = await model.complete(prompt, { temperature: 0, maxTokens: 5 }).result();
    expect((await model.score(prompt, [greedy.tokens, greedy.text])).map(({ isGreedy }) => isGreedy)).toEqual(
      [true, true],
    );
    expect(await model.score(prompt, [model.tokenizer.encode(" Paris")])).toEqual([scores[0]]);
    expect(await model.score(model.tokenizer.encode(prompt), [" Paris"])).toEqual([scores[0]]);
  });

  it("counts white space before a continuation to it, and keeps the tokens of both apart", async () => {
    const [score] = await model.score(prompt, [" Paris"]);
    expect(await model.score(`${prompt} `, ["Paris"])).toEqual([score]);
    // "cat" and "ch" would make "catch" of one token.
    const [apart] = await model.score("A cat", ["ch"]);
    expect(model.tokenizer.decode(apart.tokens)).toBe("ch");
  });

  it("computes the prompt once, whatever the number of continuations", async () => {
    const long = "All of the words that were said on that day were forgotten on the next. ".repeat(8);
    const many = Array.from({ length: 12 }, (_, i) => ` And so it was with ${i} other days.`);
    const tokens = model.tokenizer.encode(long).length;
    for (const cachePrompt of [true, false]) {
      const before = model.stats().promptTokens;
      const scores = await model.score(long, many, { cachePrompt });
      expect(scores).toHaveLength(12);
      expect(model.stats().promptTokens - before).toBeLessThan(tokens + 12 * (32 + 12));
    }
    const [first] = await model.score(long, many.slice(0, 1), { cachePrompt: false });
    expect((await model.score(long, many))[0]).toEqual(first);
  });

  it("keeps nothing of a prompt that is not to be kept", async () => {
    const long = "None of the words that are said on this day shall be remembered on the next one. ".repeat(
      4,
    );
    const before = model.stats().kv;
    await model.score(long, [" Yes", " No"], { cachePrompt: false });
    await expect.poll(() => model.stats().kv, { timeout: 10_000 }).toEqual(before);
  });

  it("waits for room where the queue is full of others", async () => {
    const small = await loadModel(file, { device, contextLength: 64, maxConcurrent: 2, maxQueue: 0 });
    const other = small.complete(prompt, { maxTokens: 20, ignoreStopTokens: true });
    expect(await small.score(prompt, [" Paris", " London", " Rome"])).toEqual(
      await model.score(prompt, [" Paris", " London", " Rome"]),
    );
    await other.result();
    await small.dispose();
  });

  it("treats what is empty, too long, wrong or aborted as documented", async () => {
    expect(await model.score(prompt, [])).toEqual([]);
    expect(await model.score(prompt, ["", []])).toEqual(
      [0, 1].map(() => ({ logprob: 0, tokens: [], logprobs: new Float32Array(0), isGreedy: true })),
    );
    expect((await errorOf(() => model.score("", [" Paris"]))).code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    const error = await errorOf(() => model.score(prompt, [" Paris", " word".repeat(600)]));
    expect(error.code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect(error.message).toMatch(/continuation 1 .*512/);
    for (const call of [
      [1, []],
      [prompt, "x"],
      [prompt, [1]],
      [prompt, [], { temperature: 1 }],
    ] as unknown[][]) {
      expect((await errorOf(() => model.score(...(call as [string, string[]])))).code).toBe(
        "ERR_INHOUSE_INVALID_ARGUMENT",
      );
    }
    expect((await errorOf(() => model.score(prompt, [[49_152]]))).code).toBe(
      "ERR_INHOUSE_TOKEN_OUT_OF_RANGE",
    );
    const reason = new Error("enough");
    const control = new AbortController();
    const long = Array.from({ length: 200 }, (_, i) => ` ${i}`.repeat(100));
    const ended = expect(model.score(prompt, long, { signal: control.signal })).rejects.toBe(reason);
    setTimeout(() => control.abort(reason), 100);
    await ended;
    expect((await model.score(prompt, [" Paris"]))[0].isGreedy).toBe(true);
  });
});
