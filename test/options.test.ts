// Wrong arguments: each is refused with a documented code and a message that names the option and what was expected,
// at the call where it is one to generate, and the model goes on serving.
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { InhouseError, loadModel, type Model, readHeader } from "../lib/index.js";
import { resolveLoad } from "../lib/load-options.js";
import { nearest } from "../lib/options.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const file = modelPath(smollm2);
const invalid = "ERR_INHOUSE_INVALID_ARGUMENT";
let model: Model;

beforeAll(async () => {
  model = await loadModel(file, { device, contextLength: 64, maxConcurrent: 1, maxQueue: 1 });
});
afterAll(() => model.dispose());

/** The error that `action` throws or rejects with. */
async function errorOf(action: () => unknown): Promise<InhouseError> {
  try {
    await action();
  } catch (error) {
    expect(InhouseError.is(error)).toBe(true);
    return error as InhouseError;
  }
  throw new Error("nothing was thrown");
}

const raise = (): never => {
  throw new Error("boom");
};
const unreadable = (name: string): object =>
  Object.defineProperty({}, name, { enumerable: true, get: raise });

const badLoads: [what: string, file: unknown, options: unknown, message: RegExp][] = [
  ["no file", undefined, {}, /file is undefined; expected a path or a file URL/],
  ["a number for a file", 5, {}, /file is 5/],
  ["an empty path", "", {}, /expected a path .* not empty/],
  ["a zero byte in the path", "a\0b", {}, /without zero bytes/],
  ["a web URL", new URL("http://localhost/a"), {}, /expected a path or a file URL/],
  ["the text of a web URL", "https://host/a.gguf", {}, /path or a file URL: .* fetched first.* inhouse pull/],
  ["a broken file URL", "file://host/%00", {}, /file/],
  ["options that are null", file, null, /options are null; expected an object/],
  ["options that are a list", file, [], /options are \[\]; expected an object/],
  ["an unknown option", file, { gpu: true }, /unknown option 'gpu'/],
  [
    "a mistyped option",
    file,
    { contextlenght: 5 },
    /unknown option 'contextlenght'; did you mean 'contextLength'/,
  ],
  ["a snake_case option", file, { max_queue: 5 }, /did you mean 'maxQueue'/],
  ["an inherited name", file, { toString: 1 }, /unknown option 'toString'/],
  [
    "contextLength 0",
    file,
    { contextLength: 0 },
    /'contextLength' is 0; expected a whole number from 1 to 1048576/,
  ],
  ["contextLength 2^31", file, { contextLength: 2 ** 31 }, /'contextLength' is 2147483648/],
  ["contextLength 1.5", file, { contextLength: 1.5 }, /'contextLength' is 1.5/],
  ["contextLength NaN", file, { contextLength: NaN }, /'contextLength' is NaN/],
  ["contextLength as text", file, { contextLength: "64" }, /'contextLength' is '64'/],
  ["contextLength null", file, { contextLength: null }, /'contextLength' is null/],
  [
    "an unknown device",
    file,
    { device: "tpu" },
    /'device' is 'tpu'; expected "auto", "cpu", "cuda", "cuda:0"/,
  ],
  ["threads 0", file, { threads: 0 }, /'threads' is 0; expected .* from 1 to 512 or "auto"/],
  ["threads -1", file, { threads: -1 }, /'threads' is -1/],
  ["threads as another word", file, { threads: "all" }, /'threads' is 'all'/],
  ["repack as a number", file, { repack: 1 }, /'repack' is 1; expected true or false/],
  ["lockMemory as text", file, { lockMemory: "yes" }, /'lockMemory'/],
  ["instructionSet as a number", file, { instructionSet: 512 }, /'instructionSet' is 512; expected a string/],
  ["overrides as text", file, { overrides: "a=b" }, /'overrides' is 'a=b'; expected an object/],
  ["an override with = in its key", file, { overrides: { "a=b": 1 } }, /key 'a=b'/],
  ["an override that is no value", file, { overrides: { a: {} } }, /a is {}/],
  ["an infinite override", file, { overrides: { a: Infinity } }, /a is Infinity/],
  [
    "an unknown kvType",
    file,
    { kvType: "q5_0" },
    /'kvType' is 'q5_0'; expected "f32", "f16", "q8_0", "q4_0"/,
  ],
  ["an unknown kvType.k", file, { kvType: { k: "f8" } }, /'kvType'/],
  ["an unknown part of kvType", file, { kvType: { k: "f16", q: "f16" } }, /'kvType'/],
  ["a kvType of nothing", file, { kvType: {} }, /'kvType' is {}; .* for k, for v or for both/],
  ["an empty instructionSet", file, { instructionSet: "" }, /'instructionSet' is ''; expected .* not empty/],
  ["an unknown option on a prototype", file, Object.create({ gpu: true }), /unknown option 'gpu'/],
  ["an option on a prototype", file, Object.create({ maxQueue: -1 }), /'maxQueue' is -1/],
  ["a getter that throws", file, unreadable("threads"), /^loadModel: option 'threads' cannot be read: boom/],
  ["an override that throws", file, { overrides: unreadable("a") }, /'overrides' cannot be read: boom/],
  ["a Proxy that throws", file, new Proxy({}, { ownKeys: raise }), /options cannot be read: boom/],
  ["a URL that throws", unreadable("href"), {}, /the file cannot be read: boom/],
  [
    "an override of another type",
    file,
    { overrides: { "llama.block_count": "many" } },
    /llama\.block_count=many/,
  ],
  [
    "an override out of range",
    file,
    { overrides: { "llama.context_length": 0 } },
    /"llama\.context_length=0": /,
  ],
  [
    "an override outside the vocabulary",
    file,
    { overrides: { "tokenizer.ggml.eos_token_id": 1e6 } },
    /eos_token_id=1000000": /,
  ],
  [
    "an override of a setting out of range",
    file,
    { overrides: { "general.sampling.temp": -1 } },
    /temp=-1": .* is -1/,
  ],
  [
    "a Map of overrides",
    file,
    { overrides: new Map([["a", 1]]) },
    /'overrides' is Map.*; expected an object/,
  ],
  ["maxConcurrent 0", file, { maxConcurrent: 0 }, /'maxConcurrent' is 0/],
  ["maxQueue -1", file, { maxQueue: -1 }, /'maxQueue' is -1/],
  ["maxBatchTokens 0", file, { maxBatchTokens: 0 }, /'maxBatchTokens' is 0/],
  ["513 threads", file, { threads: 513 }, /'threads' is 513/],
  [
    "a step too small for all",
    "/nowhere",
    { maxConcurrent: 9, maxBatchTokens: 8 },
    /'maxBatchTokens' is 8; .* is 9/,
  ],
  [
    "an instruction set for plain C++",
    file,
    { device: "reference", instructionSet: "avx2" },
    /'instructionSet'/,
  ],
  ["a zero byte in a name", file, { instructionSet: "avx2\0" }, /'instructionSet' .* without zero bytes/],
  ["a signal that is none", file, { signal: {} }, /'signal' is {}; expected an AbortSignal/],
  ["onProgress as an object", file, { onProgress: {} }, /'onProgress' is {}; expected a function/],
];

describe("loadModel refuses", () => {
  it.each(badLoads)("%s", async (_, path, options, message) => {
    const error = await errorOf(() => loadModel(path as string, options as object));
    expect(error.code).toBe(invalid);
    expect(error.message).toMatch(message);
  });

  it.each([
    [{ maxBatchTokens: 4 }, { maxConcurrent: 4, maxBatchTokens: 4 }],
    [{ maxConcurrent: 600 }, { maxConcurrent: 600, maxBatchTokens: 600 }],
    [{}, { maxConcurrent: 8, maxBatchTokens: 512 }],
  ])("nothing where one of two is given that bound each other: %j", (options, engine) => {
    expect(resolveLoad(file, options).engine).toMatchObject(engine);
  });

  it("an instruction set that this machine lacks", async () => {
    const error = await errorOf(() => loadModel(file, { device: "cpu", instructionSet: "sve9" }));
    expect(error.code).toBe("ERR_INHOUSE_DEVICE_UNAVAILABLE");
  });

  it("a setting of the file out of range before it reads any weights", async () => {
    const seen: unknown[] = [];
    const overrides = { "general.sampling.temp": -1 };
    await errorOf(() => loadModel(file, { device, overrides, onProgress: (now) => seen.push(now) }));
    expect(seen).toEqual([]);
  });

  it("wrong arguments of readHeader", async () => {
    expect((await errorOf(() => readHeader(3 as never))).code).toBe(invalid);
    expect((await errorOf(() => readHeader(file, { override: {} } as object))).message).toMatch(
      /'overrides'/,
    );
  });
});

const badRequests: [what: string, options: unknown, message: RegExp][] = [
  ["null", null, /options are null/],
  ["an unknown option", { tempo: 1 }, /unknown option 'tempo'/],
  ["a mistyped option", { maxToken: 1 }, /did you mean 'maxTokens'/],
  ["maxTokens -1", { maxTokens: -1 }, /'maxTokens' is -1; expected a whole number from 0/],
  ["maxTokens 2^31", { maxTokens: 2 ** 31 }, /'maxTokens'/],
  ["maxTokens as text", { maxTokens: "5" }, /'maxTokens' is '5'/],
  ["an empty stop string", { stop: "" }, /'stop' is ''/],
  ["a stop that is a number", { stop: [5] }, /'stop'/],
  ["65 stop strings", { stop: Array.from({ length: 65 }, (_, i) => `s${i}`) }, /at most 64/],
  ["a stop string of 2 KB", { stop: "x".repeat(2048) }, /1 to 1024 bytes/],
  ["stopTokens that are no list", { stopTokens: 5 }, /'stopTokens' is 5/],
  [
    "a stop token outside the vocabulary",
    { stopTokens: [49_152] },
    /'stopTokens' has 49152; expected .* 49152/,
  ],
  ["a bias outside the vocabulary", { logitBias: { 49_152: 1 } }, /'logitBias' has 49152; expected .* 49152/],
  ["another program's name", { temp: 1 }, /unknown option 'temp'; did you mean 'temperature'/],
  ["a negative stop token", { stopTokens: [1, -1] }, /entry 1 is -1/],
  ["a stop token outside the vocabulary", { stopTokens: [49_152] }, /'stopTokens' has 49152; .* below 49152/],
  ["ignoreStopTokens as a number", { ignoreStopTokens: 1 }, /'ignoreStopTokens'/],
  ["logprobs -1", { logprobs: -1 }, /'logprobs' is -1; expected .* 0 to 100/],
  ["logprobs 101", { logprobs: 101 }, /'logprobs' is 101/],
  ["a signal that is none", { signal: "now" }, /'signal'/],
  ["temperature -1", { temperature: -1 }, /temperature/],
  ["temperature NaN", { temperature: NaN }, /temperature/],
  ["temperature as text", { temperature: "0" }, /temperature/],
  ["topK 1.5", { topK: 1.5 }, /topK/],
  ["topP 2", { topP: 2 }, /topP/],
  ["minP -0.1", { minP: -0.1 }, /minP/],
  ["a negative seed", { seed: -1 }, /seed/],
  ["a logit bias of a name", { logitBias: { cat: 1 } }, /logitBias/],
];

describe("generating refuses at the call", () => {
  it.each(badRequests)("%s", (_, options, message) => {
    const messages = [{ role: "user", content: "Hello" }];
    const calls = [
      () => model.complete("Hello", options as object),
      () => model.chat(messages, options as object),
    ];
    for (const call of calls) {
      expect(call).toThrow(expect.objectContaining({ code: invalid }));
      expect(call).toThrow(message);
    }
  });

  it.each([[undefined], [5], [{}], [[]], [[1, "2"]], [[1.5]], [[-1]], [[2 ** 31]], [[NaN]]])(
    "the prompt %j",
    (prompt) => {
      expect(() => model.complete(prompt as never)).toThrow(expect.objectContaining({ code: invalid }));
    },
  );

  it("an empty prompt without BOS, and one that is neither text nor a list", () => {
    expect(() => model.complete("")).toThrow(
      /^complete: the prompt is ''; expected a text that is not empty/,
    );
    expect(() => model.complete(undefined as never)).toThrow(
      /^complete: the prompt is undefined; expected a text or a list of token ids/,
    );
  });

  it("nothing where BOS makes up for an empty prompt", async () => {
    const { promptTokens } = await model.complete("", { addSpecialTokens: true, maxTokens: 0 }).result();
    expect(promptTokens).toEqual([model.tokenizer.bosTokenId]);
  });

  it.each([[undefined], ["Hello"], [[]], [[null]], [[{ content: "x" }]], [[{ role: "user", content: 5 }]]])(
    "the messages %j",
    (messages) => {
      expect(() => model.chat(messages as never)).toThrow(expect.objectContaining({ code: invalid }));
    },
  );

  it("templates that are broken or endless", () => {
    const messages = [{ role: "user", content: "Hello" }];
    const chat = (template: string) => () => model.chat(messages, { template });
    expect(chat("{% if %}")).toThrow(expect.objectContaining({ code: "ERR_INHOUSE_TEMPLATE_INVALID" }));
    const endless = "{% for i in range(1000000000) %}{{ i }}{% endfor %}";
    expect(chat(endless)).toThrow(expect.objectContaining({ code: "ERR_INHOUSE_TEMPLATE_LIMIT" }));
    expect(chat("{{")).toThrow(
      /^chat: option 'template' cannot be parsed: line 1, column 3: the template ends/,
    );
    const nothing = chat("{# nothing #}");
    expect(nothing).toThrow(expect.objectContaining({ code: "ERR_INHOUSE_TEMPLATE_INVALID" }));
    expect(nothing).toThrow(/^chat: option 'template' renders this conversation to nothing/);
    for (const empty of ["", " \n", 5]) {
      expect(chat(empty as string)).toThrow(/^chat: option 'template' is .*; expected a Jinja template/);
      expect(chat(empty as string)).toThrow(expect.objectContaining({ code: invalid }));
    }
  });

  it("a hostile template without holding the loop from the third request on", () => {
    const template = "{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}";
    const refuse = (): void =>
      expect(() => model.chat([{ role: "user", content: "Hello" }], { template })).toThrow(
        expect.objectContaining({ code: "ERR_INHOUSE_TEMPLATE_LIMIT" }),
      );
    refuse();
    refuse();
    const start = performance.now();
    for (let i = 0; i < 20; i++) refuse();
    expect(performance.now() - start).toBeLessThan(200);
  });

  it("wrong arguments of evaluate, as a rejection", async () => {
    for (const tokens of [undefined, [], ["x"], [-1]]) {
      expect((await errorOf(() => model.evaluate(tokens as never))).code).toBe(invalid);
    }
    expect((await errorOf(() => model.evaluate([1], { onRow: 1 } as object))).message).toMatch(/'onRows'/);
  });
});

describe("the generation rejects", () => {
  const caller = async (action: () => Promise<unknown>): Promise<InhouseError> => {
    const error = await errorOf(action);
    expect(error.stack).toContain("options.test.ts");
    return error;
  };

  it("for token ids outside the vocabulary", async () => {
    const error = await caller(() => model.complete([1, 49_152]).result());
    expect(error.code).toBe("ERR_INHOUSE_TOKEN_OUT_OF_RANGE");
    expect(error.message).toContain("49152");
    expect((await caller(() => model.evaluate([49_152]))).code).toBe("ERR_INHOUSE_TOKEN_OUT_OF_RANGE");
  });

  it("for prompts longer than the context", async () => {
    const error = await caller(() => model.complete(new Array(65).fill(1)).result());
    expect(error.code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect(error.message).toMatch(/65.*64/);
    const long = "word ".repeat(2000);
    expect((await caller(() => model.complete(long).result())).code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect((await caller(() => model.evaluate(new Array(65).fill(1)))).code).toBe(
      "ERR_INHOUSE_CONTEXT_OVERFLOW",
    );
  });

  it("for lists of ids and of messages that no context takes, without looking at them", async () => {
    const tokens = { length: 1e7 } as ArrayLike<number>;
    const messages = Array.from({ length: 100_000 }, () => ({ role: "user", content: "hi" }));
    const start = performance.now();
    const calls = [
      () => model.complete(tokens).result(),
      () => model.evaluate(tokens),
      () => model.chat(messages).result(),
    ];
    for (const call of calls) expect((await caller(call)).code).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect(performance.now() - start).toBeLessThan(200);
    const last = { template: "{{ messages[-1].content }}", maxTokens: 0 };
    expect((await model.chat(messages.slice(0, 1000), last).result()).promptTokens).toHaveLength(1);
  });

  it("where too many wait, in the loop too", async () => {
    const options = { maxTokens: 20, ignoreStopTokens: true };
    const all = Array.from({ length: 6 }, () => model.complete([1, 2], options));
    const refused = all.at(-1)!;
    const loop = (async () => {
      for await (const _ of refused);
    })();
    expect((await errorOf(() => loop)).code).toBe("ERR_INHOUSE_QUEUE_FULL");
    for (const generation of all) generation.cancel();
    await Promise.allSettled(all.map((generation) => generation.result()));
  });
});

it("goes on serving after all of that", async () => {
  expect((await model.complete("One, two,", { maxTokens: 2, temperature: 0 }).result()).tokens).toHaveLength(
    2,
  );
});

it("finds the nearest name", () => {
  const known = ["temperature", "topK", "signal"];
  expect(nearest("temprature", known)).toBe("temperature");
  expect(nearest("top_k", known)).toBe("topK");
  expect(nearest("zzz", known)).toBeUndefined();
});
