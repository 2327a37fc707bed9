// Loading a model and what it answers, through the public interface.
import { basename } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import {
  type Delta,
  InhouseError,
  loadModel,
  type LoadProgress,
  type Model,
  readHeader,
} from "../lib/index.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const question = [{ role: "user", content: "What is the capital of France? Answer with one word." }];
let model: Model;

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 512 });
});
afterAll(() => model.dispose());

const isLast = ({ loaded, total }: LoadProgress): boolean => loaded === total;
const greedy = { temperature: 0, maxTokens: 8 } as const;

describe("loading", () => {
  it("tells what the model is and what it uses", () => {
    expect(model.info).toMatchObject({
      path: file,
      fileBytes: 98_362_432,
      architecture: "llama",
      parameters: 134_515_008,
      quantization: "Q4_1",
      licence: "apache-2.0",
      contextLength: 512,
      trainedContextLength: 8192,
      vocabularySize: 49_152,
      layers: 30,
      hasChatTemplate: true,
      maxConcurrent: 8,
    });
    expect(model.info.memory.weights).toBeGreaterThan(80e6);
    expect(model.info.memory.kv).toBeGreaterThan(0);
    expect(model.info.memory.activations).toBeGreaterThan(0);
    expect(model.info.deviceDescription).toContain(model.info.device);
    expect(Object.isFrozen(model.info)).toBe(true);
    expect(() => {
      // @ts-expect-error: read-only for the compiler too.
      model.info.memory.kv = 0;
    }).toThrow(TypeError);
    expect(() => {
      // @ts-expect-error: read-only for the compiler too.
      model.info.contextLength = 0;
    }).toThrow(TypeError);
  });

  it("takes file URLs, as objects and as text, and reports progress that ends full", async () => {
    for (const url of [pathToFileURL(file), pathToFileURL(file).href]) {
      const seen: { loaded: number; total: number }[] = [];
      const other = await loadModel(url, { device, contextLength: 64, onProgress: (now) => seen.push(now) });
      expect(basename(other.info.path)).toBe(smollm2);
      await other.dispose();
      expect(seen.at(-1)!.loaded).toBe(seen.at(-1)!.total);
      expect(seen.filter(({ loaded, total }) => loaded === total)).toHaveLength(1);
      for (let i = 1; i < seen.length; i++) expect(seen[i].loaded).toBeGreaterThan(seen[i - 1].loaded);
    }
  });

  it("rejects with what onProgress throws, and goes on serving", async () => {
    const mine = new Error("mine");
    const onProgress = (): void => {
      throw mine;
    };
    await expect(loadModel(file, { device, onProgress })).rejects.toBe(mine);
    await expect(model.complete("One, two,", greedy).text()).resolves.not.toBe("");
  });

  it("rejects with what onProgress rejects with, at the first call and at the last", async () => {
    const mine = new Error("mine");
    for (const fails of [({ loaded }: LoadProgress) => loaded === 0, isLast]) {
      const onProgress = async (now: LoadProgress): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        if (fails(now)) throw mine;
      };
      await expect(loadModel(file, { device, contextLength: 64, onProgress })).rejects.toBe(mine);
    }
  });

  it("resolves after what onProgress returned, and rejects at once where it never settles", async () => {
    let told = false;
    const later = async (now: LoadProgress): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 20));
      if (isLast(now)) told = true;
    };
    const other = await loadModel(file, { device, contextLength: 64, onProgress: later });
    expect(told).toBe(true);
    await other.dispose();
    const control = new AbortController();
    const never = (now: LoadProgress): Promise<void> => {
      if (isLast(now)) setTimeout(() => control.abort("enough"), 20);
      return new Promise(() => undefined);
    };
    const options = { device, contextLength: 64, signal: control.signal, onProgress: never };
    await expect(loadModel(file, options)).rejects.toBe("enough");
  });

  it("names the caller's line and the file in errors", async () => {
    const missing = loadModel("/nowhere/model.gguf");
    const error = await missing.then(
      () => undefined,
      (reason: unknown) => reason as InhouseError,
    );
    expect(InhouseError.is(error, "ERR_INHOUSE_FILE_NOT_FOUND")).toBe(true);
    expect(error!.message).toContain("/nowhere/model.gguf");
    expect(error!.stack).toContain("api.test.ts");
    expect(error!.stack).toMatch(/^InhouseError: \/nowhere/);
  });

  it("reads a header without the weights", async () => {
    const header = await readHeader(file, { overrides: { "general.name": "Mine", "my.key": 7 } });
    expect(header).toMatchObject({ version: 3, alignment: 32, fileBytes: 98_362_432 });
    expect(header.metadata.get("general.name")).toMatchObject({ type: "string", value: "Mine" });
    expect(header.metadata.get("my.key")?.value).toBe(7);
    const tokens = header.metadata.get("tokenizer.ggml.tokens")?.value;
    expect(tokens).toMatchObject({ type: "string", length: 49_152 });
    expect(typeof tokens === "object" && tokens.at(2)).toBe("<|im_end|>");
    expect(typeof tokens === "object" && tokens.at(49_152)).toBeUndefined();
    expect(typeof tokens === "object" && tokens.toArray()).toHaveLength(49_152);
    expect(header.tensors).toHaveLength(272);
    expect(header.tensors.find(({ name }) => name === "token_embd.weight")).toMatchObject({
      type: "Q8_0",
      shape: [576, 49_152],
      bytes: 30_081_024,
    });
  });

  it("applies overrides to the model", async () => {
    const other = await loadModel(file, { device, overrides: { "general.name": "Mine" }, contextLength: 64 });
    expect(other.info.name).toBe("Mine");
    await other.dispose();
    await expect(
      loadModel(file, { device, overrides: { "llama.block_count": "many" } }),
    ).rejects.toMatchObject({ code: "ERR_INHOUSE_INVALID_ARGUMENT" });
  });
});

describe("generating", () => {
  it("answers a chat: deltas joined are the text, tokens and counts agree", async () => {
    const answer = model.chat(question, { ...greedy, maxTokens: 12 });
    const deltas: Delta[] = [];
    for await (const delta of answer) deltas.push(delta);
    const result = await answer.result();
    expect(result.text).toContain("Paris");
    expect(deltas.map(({ text }) => text).join("")).toBe(result.text);
    expect(deltas.flatMap(({ tokens }) => tokens)).toEqual(result.tokens);
    expect(model.tokenizer.decode(result.tokens)).toBe(result.text);
    expect(result.usage.completionTokens).toBeGreaterThanOrEqual(result.tokens.length);
    expect(result.usage.promptTokens).toBeGreaterThan(20);
    expect(await answer.text()).toBe(result.text);
    const { timings } = result;
    expect(timings.promptMs).toBeGreaterThan(0);
    expect(timings.timeToFirstTokenMs).toBeGreaterThanOrEqual(timings.promptMs);
    expect(timings.promptTokensPerSecond).toBeGreaterThan(0);
  });

  it("gives methods that need not be called on it, and that tests may replace", async () => {
    const { chat, complete, evaluate } = model;
    const { result, text, textStream, cancel } = chat(question, greedy);
    expect(textStream()).toBeInstanceOf(ReadableStream);
    expect(await text()).toBe(await model.chat(question, greedy).text());
    expect((await result()).finishReason).toBe("stop");
    cancel();
    // eslint-disable-next-line @typescript-eslint/unbound-method -- that they are bound is what is tested
    const { encode, decode, tokenId } = model.tokenizer;
    expect(tokenId(decode(encode(" Paris")).replace(" ", "Ġ"))).toBe(encode(" Paris")[0]);
    expect((await complete([1, 2], greedy).result()).tokens).toHaveLength(8);
    expect((await evaluate([1, 2])).logprobs).toHaveLength(1);
    expect(Object.keys(model)).toEqual(["info"]);
    model.complete = (() => chat(question, greedy)) as unknown as Model["complete"];
    expect((await model.complete("").result()).promptTokens.length).toBeGreaterThan(20);
    model.complete = complete;
  });

  it("continues texts and token ids alike", async () => {
    const text = "The capital of France is";
    const [first, second, third] = await Promise.all([
      model.complete(text, greedy).result(),
      model.complete(model.tokenizer.encode(text), greedy).result(),
      model.complete([...model.tokenizer.encode(text)], greedy).result(),
    ]);
    expect(first.text).toContain("Paris");
    expect(first.finishReason).toBe("length");
    expect(first.tokens).toHaveLength(8);
    expect(second.tokens).toEqual(first.tokens);
    expect(third.tokens).toEqual(first.tokens);
  });

  it("gives the same text for the same seed, alone and beside others", async () => {
    const prompt = "Once upon a time";
    const options = { maxTokens: 10, temperature: 1, topK: 0, topP: 1, minP: 0, ignoreStopTokens: true };
    const alone = await model.complete(prompt, { ...options, seed: 5 }).result();
    const seeds = [5, 6, 5, 7];
    const beside = await Promise.all(
      seeds.map((seed) => model.complete(prompt, { ...options, seed }).result()),
    );
    expect(alone.seed).toBe(5);
    expect(beside.map(({ seed }) => seed)).toEqual(seeds);
    expect(beside[0].tokens).toEqual(alone.tokens);
    expect(beside[2].tokens).toEqual(alone.tokens);
    expect(beside[1].tokens).not.toEqual(alone.tokens);
    const unseeded = await model.complete(prompt, { ...options, maxTokens: 1 }).result();
    expect(Number.isSafeInteger(unseeded.seed)).toBe(true);
  });

  it("stops before a stop string, at a stop token, and not at the file's where told so", async () => {
    const text = "One, two, three,";
    const plain = await model.complete(text, { ...greedy, maxTokens: 12 }).result();
    const word = plain.text.trim().split(/\s+/)[1];
    const stopped = await model
      .complete(text, { ...greedy, maxTokens: 12, stop: [word, "never seen"] })
      .result();
    expect(stopped).toMatchObject({ finishReason: "stop", stopSequence: word });
    expect(stopped.text).toBe(plain.text.slice(0, plain.text.indexOf(word)));
    const token = plain.tokens[3];
    const atToken = await model.complete(text, { ...greedy, maxTokens: 12, stopTokens: [token] }).result();
    expect(atToken.finishReason).toBe("stop");
    expect(atToken.stopSequence).toBeUndefined();
    expect(atToken.tokens).toEqual(plain.tokens.slice(0, plain.tokens.indexOf(token)));
    const lists = [Int32Array.of(token), new Set([token]), [token].values(), { length: 1, 0: token }];
    for (const stopTokens of lists) {
      const same = await model.complete(text, { ...greedy, maxTokens: 12, stopTokens }).result();
      expect(same.tokens).toEqual(atToken.tokens);
    }
    const end = model.tokenizer.tokenId("<|im_end|>")!;
    const named = { ...greedy, logitBias: { [end]: 1e6 }, ignoreStopTokens: true };
    const { stopTokenIds } = model.tokenizer;
    expect((await model.complete(text, { ...named, stopTokens: stopTokenIds }).result()).tokens).toEqual([]);
    const forced = { ...greedy, maxTokens: 2, logitBias: { [end]: 1e6 } };
    expect(await model.complete(text, forced).result()).toMatchObject({ finishReason: "stop", text: "" });
    const through = await model.complete(text, { ...forced, ignoreStopTokens: true }).result();
    expect(through).toMatchObject({ finishReason: "length", tokens: [end, end], text: "" });
  });

  it("gives log-probabilities of tokens and alternatives", async () => {
    const answer = model.complete("The capital of France is", { ...greedy, maxTokens: 3, logprobs: 4 });
    const streamed = [];
    for await (const delta of answer) streamed.push(...delta.logprobs!);
    const { logprobs, tokens } = await answer.result();
    expect(logprobs).toEqual(streamed);
    expect(logprobs!.map(({ token }) => token)).toEqual(tokens);
    for (const { token, logprob, top } of logprobs!) {
      expect(top).toHaveLength(4);
      expect(top[0]).toEqual({ token, logprob });
      expect(logprob).toBeLessThanOrEqual(0);
      for (let i = 1; i < 4; i++) expect(top[i].logprob).toBeLessThanOrEqual(top[i - 1].logprob);
    }
    const single = await model.complete("A", { ...greedy, maxTokens: 1, logprobs: true }).result();
    expect(single.logprobs).toHaveLength(1);
    expect(single.logprobs![0].top).toEqual([]);
    expect((await model.complete("A", { ...greedy, maxTokens: 1 }).result()).logprobs).toBeUndefined();
  });

  it("holds back incomplete characters until they end", async () => {
    // A token that is the beginning of an emoji, forced three times, never becomes a character.
    const [part] = model.tokenizer.encode("🙂", { addBos: false });
    const answer = model.complete("A", { ...greedy, maxTokens: 3, logitBias: { [part]: 1e6 } });
    const deltas: Delta[] = [];
    for await (const delta of answer) deltas.push(delta);
    const { text, tokens } = await answer.result();
    expect(tokens).toEqual([part, part, part]);
    expect(text).toBe(model.tokenizer.decode(tokens));
    expect(deltas.map((delta) => delta.text).join("")).toBe(text);
    expect(deltas.flatMap((delta) => delta.tokens)).toEqual(tokens);
  });

  it("computes a prompt alone with maxTokens 0", async () => {
    const result = await model.complete("Hello", { maxTokens: 0 }).result();
    expect(result).toMatchObject({ text: "", tokens: [], finishReason: "length" });
    expect(result.timings.timeToFirstTokenMs).toBe(0);
  });

  it("uses options of a class, inherited ones and getters, each read once", async () => {
    let read = 0;
    class Settings {
      temperature = 0;
      get maxTokens(): number {
        return ++read;
      }
      describe(): string {
        return "no option";
      }
    }
    class Mine extends Settings {}
    expect((await model.complete("One, two,", new Mine()).result()).tokens).toHaveLength(1);
    expect(read).toBe(1);
    Object.defineProperty(Mine.prototype, "maxTokens", { value: -1 });
    expect(() => model.complete("One, two,", new Mine())).toThrow(/'maxTokens' is -1/);
  });

  it("uses a template and variables given with the call", async () => {
    const template = "{{ messages[0].content }}{{ word }}";
    const messages = [{ role: "user", content: "The capital of " }];
    const options = { ...greedy, template, templateVariables: { word: "France is" } };
    const direct = await model.complete("The capital of France is", greedy).text();
    expect(await model.chat(messages, options).text()).toBe(direct);
  });

  it("streams text to the web", async () => {
    const answer = model.complete("One, two,", greedy);
    const pieces = [];
    for await (const piece of answer.textStream()) pieces.push(piece);
    expect(pieces.join("")).toBe(await answer.text());
    expect(pieces).not.toContain("");
  });

  it("has one reader", async () => {
    const answer = model.complete("One, two,", greedy);
    answer[Symbol.asyncIterator]();
    expect(() => answer[Symbol.asyncIterator]()).toThrow(/one reader/);
    expect(() => answer.textStream()).toThrow(
      expect.objectContaining({ code: "ERR_INHOUSE_INVALID_ARGUMENT" }),
    );
    await answer.result();
    expect(() => answer.textStream()).toThrow(/has ended and has had its one reader .* result\(\)/);
  });
});

describe("evaluating", () => {
  it("gives the log-probabilities of the tokens, and rows that hold them", async () => {
    const tokens = model.tokenizer.encode("The capital of France is Paris. It lies on the Seine.");
    const rows: Float32Array[] = [];
    let next = 0;
    const onRows = async (piece: { first: number; count: number; rows: Float32Array }): Promise<void> => {
      await new Promise((resolve) => setTimeout(resolve, 1));
      expect(piece.first).toBe(next);
      expect(piece.rows).toHaveLength(piece.count * model.info.vocabularySize);
      next += piece.count;
      for (let i = 0; i < piece.count; i++) {
        rows.push(piece.rows.subarray(i * model.info.vocabularySize, (i + 1) * model.info.vocabularySize));
      }
    };
    const { logprobs, usage } = await model.evaluate(tokens, { onRows });
    expect(rows).toHaveLength(tokens.length);
    expect(logprobs).toHaveLength(tokens.length - 1);
    expect(usage.promptTokens).toBe(tokens.length);
    for (let i = 0; i < logprobs.length; i++) {
      expect(logprobs[i]).toBeLessThan(0);
      expect(rows[i][tokens[i + 1]]).toBeCloseTo(logprobs[i], 4);
      const sum = rows[i].reduce((total, logprob) => total + Math.exp(logprob), 0);
      expect(sum).toBeCloseTo(1, 3);
    }
    expect((await model.evaluate(tokens)).logprobs).toEqual(logprobs);
  });

  it("rejects with what onRows throws, and with the signal's reason", async () => {
    const tokens = model.tokenizer.encode("The capital of France is Paris.");
    const mine = new Error("mine");
    await expect(model.evaluate(tokens, { onRows: () => Promise.reject(mine) })).rejects.toBe(mine);
    const control = new AbortController();
    const aborted = model.evaluate(tokens, { signal: control.signal, onRows: () => control.abort(mine) });
    await expect(aborted).rejects.toBe(mine);
    const other = await loadModel(file, { device, contextLength: 1024 });
    let disposed: Promise<void> | undefined;
    const onRows = () => {
      disposed = other.dispose();
    };
    const lost = await other.evaluate(new Array<number>(1000).fill(1), { onRows }).catch((e: unknown) => e);
    expect(InhouseError.is(lost, "ERR_INHOUSE_DISPOSED")).toBe(true);
    expect((lost as Error).stack).toContain("api.test.ts");
    await disposed;
    await expect(model.evaluate([1])).resolves.toMatchObject({ logprobs: new Float32Array(0) });
  });
});
