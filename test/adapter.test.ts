// LoRA adapters through the public interface: from GGUF files and PEFT folders, for each request its own, loaded and
// unloaded while others run; and files that are none.
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import {
  type Adapter,
  InhouseError,
  type InhouseErrorCode,
  loadModel,
  type MetadataArray,
  type Model,
  readHeader,
} from "../lib/index.js";
import {
  ggufAdapter,
  merged,
  peftConfig,
  peftTensors,
  safetensors,
  type SafetensorsTensor,
  tinyPairs,
  writePeft,
} from "./support/adapters.js";
import { tinyModel, writeGguf } from "./support/gguf-writer.js";
import { device, modelPath, smollm2 } from "./support/models.js";

let folder: string;
let model: Model;
let count = 0;
const pairs = tinyPairs(7);
const path = (): string => join(folder, `file-${++count}`);
const text = "a question of style";
const greedy = { temperature: 0, maxTokens: 12, ignoreStopTokens: true } as const;

function write(bytes: Uint8Array): string {
  const file = path();
  writeFileSync(file, bytes);
  return file;
}
const peft = (config: object = {}, tensors = safetensors(peftTensors(pairs))): string =>
  writePeft(path(), tensors, { ...peftConfig, ...config });

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-"));
  model = await loadModel(writeGguf(join(folder, "tiny.gguf"), tinyModel()), { device });
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

async function errorOf(action: () => unknown): Promise<InhouseError> {
  try {
    await action();
  } catch (error) {
    if (InhouseError.is(error)) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}

/** Log-probabilities of the whole vocabulary after every token of `text`. */
async function rows(of: Model, adapter?: Adapter | { adapter: Adapter; scale?: number }): Promise<number[]> {
  const all: number[] = [];
  await of.evaluate(of.tokenizer.encode(text), {
    adapter,
    onRows: ({ rows }) => {
      all.push(...rows);
    },
  });
  return all;
}

function error(given: readonly number[], expected: readonly number[]): number {
  expect(given.length).toBe(expected.length);
  const norm = (values: readonly number[]) => Math.sqrt(values.reduce((sum, x) => sum + x * x, 0));
  return norm(given.map((x, i) => x - expected[i])) / norm(expected);
}

describe("what adapters do", () => {
  it.each([
    ["a GGUF file", 2, () => write(ggufAdapter(pairs, 8))],
    ["a PEFT folder", 2, () => peft()],
    ["the safetensors file in one", 2, () => join(peft(), "adapter_model.safetensors")],
    ["a file URL", 2, () => pathToFileURL(peft())],
    ["rank-stabilized LoRA", 4, () => peft({ use_rslora: true })],
    [
      "an alpha for each module",
      5,
      () =>
        peft({
          lora_alpha: 3,
          alpha_pattern: {
            q_proj: 20,
            k_proj: 20,
            v_proj: 20,
            o_proj: 20,
            "mlp.gate_proj": 20,
            "model.layers.0.mlp.up_proj": 20,
            down_proj: 20,
          },
        }),
    ],
    [
      "ranks for each module",
      2,
      () =>
        peft({
          r: 64,
          rank_pattern: {
            "layers.0.self_attn.q_proj": 4,
            k_proj: 4,
            v_proj: 4,
            o_proj: 4,
            gate_proj: 4,
            up_proj: 4,
            down_proj: 4,
          },
        }),
    ],
  ])("equals the merged weights, from %s", async (_, scale, file) => {
    const adapter = await model.loadAdapter(file());
    expect(adapter).toMatchObject({ rank: 4 });
    const whole = await loadModel(writeGguf(path(), merged(pairs, scale)), { device });
    try {
      const expected = await rows(whole);
      expect(error(await rows(model, adapter), expected)).toBeLessThan(1e-5);
      expect(error(await rows(model), expected)).toBeGreaterThan(1e-2);
    } finally {
      adapter.dispose();
      await whole.dispose();
    }
  });

  it("scales", async () => {
    const adapter = await model.loadAdapter(write(ggufAdapter(pairs, 4)));
    const whole = await loadModel(writeGguf(path(), merged(pairs, -0.5)), { device });
    expect(error(await rows(model, { adapter, scale: -0.5 }), await rows(whole))).toBeLessThan(1e-5);
    expect(await rows(model, { adapter, scale: 0 })).toEqual(await rows(model));
    expect(await rows(model, { adapter })).toEqual(await rows(model, adapter));
    adapter.dispose();
    await whole.dispose();
  });

  it("is part of vectors and scores", async () => {
    const adapter = await model.loadAdapter(write(ggufAdapter(pairs, 4)));
    const whole = await loadModel(writeGguf(path(), merged(pairs, 1)), { device });
    const texts = [[3, 4, 5, 6, 7], [8]];
    for (const pooling of ["mean", "last"] as const) {
      const [own, expected, without] = [
        await model.embed(texts, { adapter, pooling }),
        await whole.embed(texts, { pooling }),
        await model.embed(texts, { pooling }),
      ];
      for (const i of [0, 1]) {
        expect(error([...own[i]], [...expected[i]])).toBeLessThan(1e-4);
        expect(error([...without[i]], [...expected[i]])).toBeGreaterThan(1e-3);
      }
    }
    const scores = await model.score([3, 4, 5], [[6, 7]], { adapter });
    const [expected] = await whole.score([3, 4, 5], [[6, 7]]);
    expect(error([...scores[0].logprobs], [...expected.logprobs])).toBeLessThan(1e-4);
    const held = model.embed(texts, { adapter });
    adapter.dispose();
    expect(await held).toHaveLength(2);
    await expect(model.embed(texts, { adapter })).rejects.toMatchObject({ code: "ERR_INHOUSE_DISPOSED" });
    await whole.dispose();
  });

  it("leaves requests with others, or with none, as they are", async () => {
    const one = await model.loadAdapter(write(ggufAdapter(pairs, 8)), { name: "one" });
    const two = await model.loadAdapter(write(ggufAdapter(tinyPairs(99, 7), 8)), { name: "two" });
    const choices = [undefined, one, two, { adapter: one, scale: 0.5 }, undefined, two];
    const run = async (adapter: (typeof choices)[number]) =>
      (await model.complete(text, { ...greedy, adapter, logprobs: 3 }).result()).logprobs;
    const alone = [];
    for (const choice of choices) alone.push(await run(choice));
    expect(await Promise.all(choices.map(run))).toEqual(alone);
    expect(alone[0]).toEqual(alone[4]);
    expect(new Set(alone.map((logprobs) => JSON.stringify(logprobs))).size).toBe(4);
    one.dispose();
    two.dispose();
  });

  it("share prefixes with requests of the same adapter at the same scale alone", async () => {
    const wide = await loadModel(join(folder, "tiny.gguf"), { device, contextLength: 256 });
    const other = await wide.loadAdapter(write(ggufAdapter(tinyPairs(99, 7), 8)));
    const adapter = await wide.loadAdapter(write(ggufAdapter(pairs, 8)));
    const prompt = Array.from({ length: 100 }, (_, i) => 3 + (i % 26));
    const run = async (choice?: Adapter | { adapter: Adapter; scale: number }, cacheScope = "") => {
      const options = { ...greedy, adapter: choice, cacheScope, logprobs: 2 };
      const { usage, logprobs } = await wide.complete(prompt, options).result();
      return { cached: usage.cachedTokens, logprobs };
    };
    const choices = [undefined, adapter, { adapter, scale: 0.5 }, other];
    const first = [];
    for (const choice of choices) first.push(await run(choice));
    expect(first.map(({ cached }) => cached)).toEqual([0, 0, 0, 0]);
    for (const [i, choice] of choices.entries()) {
      const again = await run(choice);
      expect(again.cached).toBeGreaterThanOrEqual(64);
      expect(again.logprobs).toEqual(first[i].logprobs);
      expect((await run(choice, "apart")).cached).toBe(0);
    }
    // Loaded anew, it is another: what the first one computed may be of another file.
    adapter.dispose();
    expect((await run(await wide.loadAdapter(write(ggufAdapter(pairs, 8))))).cached).toBe(0);
    await wide.dispose();
  });

  it("can be half precision", async () => {
    const half = (values: Uint8Array): Uint8Array => {
      const floats = new Float32Array(values.slice().buffer);
      return new Uint8Array(Uint16Array.from(new Uint32Array(floats.buffer), (bits) => bits >>> 16).buffer);
    };
    const tensors = Object.entries(peftTensors(pairs)).map(([name, tensor]): [string, SafetensorsTensor] => [
      name,
      { ...tensor, dtype: "BF16", data: half(tensor.data) },
    ]);
    const wide = await model.loadAdapter(peft());
    const narrow = await model.loadAdapter(peft({}, safetensors(Object.fromEntries(tensors))));
    expect(error(await rows(model, narrow), await rows(model, wide))).toBeLessThan(0.05);
    expect(narrow.bytes).toBe(wide.bytes / 2);
    wide.dispose();
    narrow.dispose();
  });
});

describe("PEFT's own numbers", () => {
  // scripts/golden/adapter.py; the adapter reaches every linear layer, q and k among them, which GGUF has in an order
  // of their own.
  it.each(["reference", "cpu"] as const)("are ours, on the device %s", async (on) => {
    const golden = join(import.meta.dirname, "golden");
    const file = join(golden, "random-llama.gguf");
    const header = await readHeader(file);
    const numbers = (key: string): number[] =>
      (header.metadata.get(`inhouse.golden.${key}`)!.value as MetadataArray).toArray().map(Number);
    const [tokens, logits, adapted] = [numbers("tokens"), numbers("logits"), numbers("adapted")];
    const random = await loadModel(file, { device: on });
    const adapter = await random.loadAdapter(join(golden, "random-llama-lora"));
    expect(adapter).toMatchObject({ name: "random-llama-lora", rank: 6 });
    const vocabulary = random.info.vocabularySize;
    for (const [expected, choice] of [
      [logits, undefined],
      [adapted, adapter],
    ] as const) {
      const given: number[] = [];
      await random.evaluate(tokens, { adapter: choice, onRows: ({ rows }) => void given.push(...rows) });
      const logprobs = expected.map((logit, at) => {
        const row = expected.slice(at - (at % vocabulary), at - (at % vocabulary) + vocabulary);
        return logit - Math.log(row.reduce((sum, x) => sum + Math.exp(x), 0));
      });
      // The cache of the CPU's rounds to half precision, the matrices of the model are in it.
      expect(error(given, logprobs)).toBeLessThan(on === "reference" ? 1e-5 : 1e-3);
    }
    expect(error(adapted, logits)).toBeGreaterThan(0.1);
    await random.dispose();
  });
});

describe("the life of an adapter", () => {
  it("is known by name, listed while it is loaded, and frozen", async () => {
    const file = write(ggufAdapter(pairs, 8));
    expect(model.adapters).toEqual([]);
    const first = await model.loadAdapter(file);
    const { loadAdapter } = model;
    const second = await loadAdapter(file, { name: "my own" });
    expect([first.name, second.name]).toEqual([basename(file), "my own"]);
    expect(model.adapters).toEqual([first, second]);
    expect(Object.isFrozen(first)).toBe(true);
    expect(first.bytes).toBe(4 * pairs.reduce((sum, pair) => sum + pair.a.length + pair.b.length, 0));
    const { dispose } = first;
    dispose();
    dispose();
    expect(model.adapters).toEqual([second]);
    second[Symbol.dispose]();
    expect(model.adapters).toEqual([]);
  });

  it("is over for new requests after dispose, and goes on for those that run", async () => {
    const adapter = await model.loadAdapter(write(ggufAdapter(pairs, 8)));
    const expected = await model.complete(text, { ...greedy, adapter }).text();
    const running = model.complete(text, { ...greedy, adapter });
    // One whose prompt is still being encoded.
    const long = await loadModel(join(folder, "tiny.gguf"), { device, contextLength: 16_384 });
    const other = await long.loadAdapter(write(ggufAdapter(pairs, 8)));
    const encoding = long.complete("ab ".repeat(4000), { ...greedy, adapter: other });
    adapter.dispose();
    other.dispose();
    expect(await running.text()).toBe(expected);
    expect((await encoding.result()).tokens).toHaveLength(12);
    await long.dispose();
    const disposed = "ERR_INHOUSE_DISPOSED";
    for (const call of [
      () => model.complete(text, { adapter }),
      () => model.chat([{ role: "user", content: "hello" }], { adapter: { adapter, scale: 2 } }),
      () => model.evaluate([1, 2], { adapter }),
    ]) {
      expect(await errorOf(call)).toMatchObject({
        code: disposed,
        message: expect.stringContaining("adapter"),
      });
    }
  });

  it("ends with its model", async () => {
    const other = await loadModel(join(folder, "tiny.gguf"), { device });
    const adapter = await other.loadAdapter(write(ggufAdapter(pairs, 8)));
    expect((await errorOf(() => model.complete(text, { adapter }))).message).toMatch(/another model/);
    expect((await errorOf(() => model.complete(text, { adapter }))).code).toBe(
      "ERR_INHOUSE_INVALID_ARGUMENT",
    );
    const generation = other.complete(text, { maxTokens: 40, ignoreStopTokens: true, adapter });
    const loading = other.loadAdapter(peft());
    const failed = errorOf(() => loading);
    await other.dispose();
    expect(["cancelled", "length"]).toContain((await generation.result()).finishReason);
    expect((await failed).code).toBe("ERR_INHOUSE_DISPOSED");
    expect(other.adapters).toEqual([]);
    adapter.dispose();
    expect((await errorOf(() => other.loadAdapter(peft()))).code).toBe("ERR_INHOUSE_DISPOSED");
  });

  it("can be loaded and unloaded many times while generations run", async () => {
    const file = write(ggufAdapter(pairs, 8));
    const plain = await model.complete(text, greedy).text();
    await Promise.all(
      Array.from({ length: 30 }, async (_, i) => {
        const adapter = await model.loadAdapter(i % 2 ? file : peft());
        const generation = model.complete(text, { ...greedy, adapter });
        const without = model.complete(text, greedy);
        if (i % 3 === 0) adapter.dispose();
        if (i % 5 === 0) generation.cancel();
        await generation.result();
        expect(await without.text()).toBe(plain);
        adapter.dispose();
      }),
    );
    expect(model.adapters).toEqual([]);
  });

  it("rejects with the reason of an aborted signal, before and during the load", async () => {
    const reason = new Error("enough");
    const file = write(ggufAdapter(pairs, 8));
    await expect(model.loadAdapter(file, { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
    const controller = new AbortController();
    const loading = model.loadAdapter(file, { signal: controller.signal });
    controller.abort(reason);
    await expect(loading).rejects.toBe(reason);
    expect(model.adapters).toEqual([]);
  });
});

describe("wrong arguments", () => {
  it.each([
    ["a number", 5],
    ["a path", "adapter.gguf"],
    ["an object of another kind", { name: "one", rank: 4 }],
    ["nothing in an object", { scale: 1 }],
    ["a list", []],
    ["null", null],
  ])("%s for an adapter", async (_, adapter) => {
    const { code, message } = await errorOf(() => model.complete(text, { adapter: adapter as never }));
    expect(code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    expect(message).toMatch(/^complete: option 'adapter' is .*; expected what loadAdapter gave/);
  });

  it.each([NaN, Infinity, 1e39, "1", null])("scale %s", async (scale) => {
    const adapter = await model.loadAdapter(write(ggufAdapter(pairs, 8)));
    const choice = { adapter, scale: scale as number };
    for (const call of [
      () => model.complete(text, { adapter: choice }),
      () => model.evaluate([1], { adapter: choice }),
    ])
      expect((await errorOf(call)).code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    adapter.dispose();
  });

  it("unknown options and files that are none", async () => {
    const load = (file: unknown, options?: object) =>
      errorOf(() => model.loadAdapter(file as string, options));
    expect((await load("a", { nam: "a" })).message).toMatch(/loadAdapter: unknown option 'nam'.*'name'/);
    expect((await load(5)).code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    expect((await load(join(folder, "absent.gguf"))).code).toBe("ERR_INHOUSE_FILE_NOT_FOUND");
    expect((await load(join(folder, "absent.safetensors"))).code).toBe("ERR_INHOUSE_FILE_NOT_FOUND");
    expect((await load(folder)).code).toBe("ERR_INHOUSE_FILE_NOT_FOUND");
    expect((await load("/dev/null")).code).toBe("ERR_INHOUSE_FILE_READ");
    const site = await load(join(folder, "absent.gguf"));
    expect(site.stack).toContain("adapter.test.ts");
  });
});

const invalid = "ERR_INHOUSE_ADAPTER_INVALID";
type Entries = Record<string, { dtype: unknown; shape: unknown; data_offsets: unknown }>;
const q = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight";
const header = (change: (entries: Entries) => void): Buffer =>
  safetensors(peftTensors(pairs), (entries) => {
    change(entries as Entries);
    return entries;
  });
const tensors = (change: (tensors: Record<string, SafetensorsTensor>) => void): Buffer => {
  const all = peftTensors(pairs);
  change(all);
  return safetensors(all);
};
const rename = (to: string): Buffer =>
  tensors((all) => {
    all[to] = all[q];
    delete all[q];
  });

const badFiles: [what: string, file: () => string, message: RegExp, code?: InhouseErrorCode][] = [
  ["a model", () => join(folder, "tiny.gguf"), /general\.type is missing; expected "adapter"/],
  ["no file of ours", () => write(Buffer.from("hello")), /./, "ERR_INHOUSE_GGUF_MAGIC"],
  ["half a file", () => write(ggufAdapter(pairs, 8).subarray(0, 4000)), /./, "ERR_INHOUSE_GGUF_TRUNCATED"],
  [
    "an adapter of wider layers",
    () => write(ggufAdapter([{ ...pairs[0], in: 16, rank: 4, a: new Float32Array(64) }], 8)),
    /attn_q.*\[4, 16\]; expected \[4, 32\]/,
  ],
  [
    "a configuration that is no JSON",
    () => writePeft(path(), safetensors({}), "{"),
    /adapter_config\.json is not JSON/,
  ],
  ["a configuration that is a list", () => writePeft(path(), safetensors({}), "[]"), /expected an object/],
  [
    "a huge configuration",
    () => writePeft(path(), safetensors({}), `"${"a".repeat(2 ** 20)}"`),
    /at most 1048576/,
  ],
  ["deep JSON", () => writePeft(path(), safetensors({}), "[".repeat(2 ** 20)), /not JSON/],
  ["another method", () => peft({ peft_type: "IA3" }), /peft_type is 'IA3'; expected "LORA"/],
  ["DoRA", () => peft({ use_dora: true }), /use_dora is true; expected none/],
  ["trained biases", () => peft({ bias: "all" }), /bias is 'all'; expected "none"/],
  ["whole modules", () => peft({ modules_to_save: ["lm_head"] }), /modules_to_save/],
  ["transposed weights", () => peft({ fan_in_fan_out: true }), /fan_in_fan_out/],
  ["replicated layers", () => peft({ layer_replication: [[0, 1]] }), /layer_replication/],
  ["a base that was changed", () => peft({ init_lora_weights: "pissa_niter_16" }), /init_lora_weights/],
  ["rank 0", () => peft({ r: 0 }), /r is 0; expected a whole number from 1/],
  ["no rank", () => peft({ r: null }), /r is null/],
  ["alpha that is no number", () => peft({ lora_alpha: "8" }), /lora_alpha is '8'/],
  ["a pattern", () => peft({ rank_pattern: { ".*q_proj": 8 } }), /rank_pattern .* no patterns/],
  ["an alpha_pattern of texts", () => peft({ alpha_pattern: { q_proj: "8" } }), /alpha_pattern/],
  ["another rank", () => peft({ r: 8 }), /q_proj\.lora_A\.weight" has rank 4; expected 8/],
  ["a rank of one module", () => peft({ rank_pattern: { q_proj: 5 } }), /q_proj.* has rank 4; expected 5/],
  ["an empty tensors' file", () => peft({}, Buffer.alloc(0)), /ends inside its header/],
  [
    "a huge header",
    () => peft({}, Buffer.concat([Buffer.alloc(7, 255), Buffer.alloc(100)])),
    /header of \d+ bytes/,
  ],
  [
    "a header cut short",
    () => peft({}, safetensors(peftTensors(pairs)).subarray(0, 100)),
    /ends inside its header/,
  ],
  [
    "a header that is no JSON",
    () =>
      peft(
        {},
        safetensors({}, () => "{]"),
      ),
    /header is not JSON/,
  ],
  [
    "a header that is a number",
    () =>
      peft(
        {},
        safetensors({}, () => "5"),
      ),
    /expected an object/,
  ],
  ["no tensors", () => peft({}, safetensors({})), /holds no LoRA matrices/],
  [
    "a file cut short",
    () => peft({}, safetensors(peftTensors(pairs)).subarray(0, -4)),
    /ends after the file/,
  ],
  [
    "a file with more behind",
    () => peft({}, Buffer.concat([safetensors(peftTensors(pairs)), Buffer.alloc(4)])),
    /where the last tensor ends/,
  ],
  [
    "a null tensor",
    () =>
      peft(
        {},
        header((all) => (all[q] = null as never)),
      ),
    /dtype undefined/,
  ],
  [
    "a type without weights",
    () =>
      peft(
        {},
        header((all) => (all[q].dtype = "I32")),
      ),
    /dtype 'I32'; expected F32/,
  ],
  [
    "an inherited type",
    () =>
      peft(
        {},
        header((all) => (all[q].dtype = "toString")),
      ),
    /dtype 'toString'/,
  ],
  [
    "a shape that is a text",
    () =>
      peft(
        {},
        header((all) => (all[q].shape = "4")),
      ),
    /shape '4'/,
  ],
  [
    "a shape below zero",
    () =>
      peft(
        {},
        header((all) => (all[q].shape = [-4, -32])),
      ),
    /shape/,
  ],
  [
    "a shape beyond counting",
    () =>
      peft(
        {},
        header((all) => (all[q].shape = [2 ** 52, 2 ** 52])),
      ),
    /expected .* bytes/,
  ],
  [
    "three dimensions",
    () =>
      peft(
        {},
        header((all) => (all[q].shape = [4, 16, 2])),
      ),
    /expected two sizes/,
  ],
  [
    "another shape",
    () =>
      peft(
        {},
        header((all) => (all[q].shape = [16, 8])),
      ),
    /has rank 16; expected 4/,
  ],
  [
    "offsets that are none",
    () =>
      peft(
        {},
        header((all) => (all[q].data_offsets = [0])),
      ),
    /data_offsets/,
  ],
  [
    "offsets the wrong way",
    () =>
      peft(
        {},
        header((all) => (all[q].data_offsets = [512, 0])),
      ),
    /data_offsets/,
  ],
  [
    "offsets far away",
    () =>
      peft(
        {},
        header((all) => (all[q].data_offsets = [2 ** 53 - 513, 2 ** 53 - 1])),
      ),
    /data_offsets/,
  ],
  [
    "an overlap",
    () =>
      peft(
        {},
        header((all) => (all[q].data_offsets = [512, 1024])),
      ),
    /begins at byte/,
  ],
  [
    "a gap, from a name given twice",
    () =>
      peft(
        {},
        header((all) => delete all[q]),
      ),
    /begins at byte/,
  ],
  [
    "half a pair",
    () =>
      peft(
        {},
        tensors((all) => delete all[q]),
      ),
    /q_proj\.lora_A\.weight" is missing/,
  ],
  [
    "a layer too many",
    () =>
      peft(
        {},
        tensors((all) => {
          for (const half of ["A", "B"]) {
            const name = `base_model.model.model.layers.0.self_attn.q_proj.lora_${half}.weight`;
            all[name.replace(".0.", ".1.")] = all[name];
            delete all[name];
          }
        }),
      ),
    /layer 1; expected one of the model's 1/,
  ],
  ["embeddings", () => peft({}, rename("base_model.model.model.embed_tokens.lora_embedding_A")), /no place/],
  [
    "a copy of a layer without a pair",
    () => peft({}, rename(q.replace("self_attn.q_proj.lora_A", "mlp.x_proj.base_layer"))),
    /no place/,
  ],
  [
    "a copy of another shape",
    () =>
      peft(
        {},
        tensors((all) => {
          all[q.replace("lora_A", "base_layer")] = { dtype: "F32", shape: [1, 1], data: new Uint8Array(4) };
        }),
      ),
    /base_layer.* has no place/,
  ],
  ["whole weights", () => peft({}, rename("base_model.model.lm_head.weight")), /no place/],
  ["magnitudes", () => peft({}, rename(q.replace("lora_A.weight", "lora_magnitude_vector"))), /no place/],
  [
    "an inherited name",
    () => peft({}, rename(q.replace("self_attn.q_proj", "constructor.name"))),
    /no place/,
  ],
  ["experts", () => peft({}, rename(q.replace("self_attn.q_proj", "mlp.experts.0.up_proj"))), /no place/],
];

describe("files that are no adapter", () => {
  it.each(badFiles)("%s", async (_, file, message, code = invalid) => {
    const refused = await errorOf(() => model.loadAdapter(file()));
    expect(refused.message).toMatch(message);
    expect(refused.code).toBe(code);
    expect(model.adapters).toEqual([]);
  });

  it("that were cut while they were read", async () => {
    const file = write(ggufAdapter(pairs, 8));
    const loading = errorOf(() => model.loadAdapter(file).then((adapter) => adapter.dispose()));
    truncateSync(file, 4000);
    const refused = await loading.catch((nothing: Error) => nothing);
    if (InhouseError.is(refused)) {
      expect(["ERR_INHOUSE_FILE_CHANGED", "ERR_INHOUSE_GGUF_TRUNCATED"]).toContain(refused.code);
    }
  });
});

describe("a real model", () => {
  it("answers with an adapter and without, in one batch", async () => {
    const real = await loadModel(modelPath(smollm2), { device, contextLength: 512 });
    const random = tinyPairs(3, 4)[0];
    const [width, ffn, rank] = [576, 1536, 4];
    const values = (n: number, size: number): Float32Array =>
      Float32Array.from({ length: n }, (_, i) => size * Math.sin(i * i + 1));
    const make = (weight: string, into: number, out: number) => ({
      ...random,
      weight,
      rank,
      in: into,
      out,
      a: values(rank * into, 0.02),
      b: values(out * rank, 0.05),
    });
    const all = Array.from({ length: 30 }, (_, l) => [
      make(`blk.${l}.attn_q.weight`, width, width),
      make(`blk.${l}.attn_v.weight`, width, 192),
      make(`blk.${l}.ffn_down.weight`, ffn, width),
    ]);
    const adapter = await real.loadAdapter(write(ggufAdapter(all.flat(), 8)));
    const options = { temperature: 0, maxTokens: 16, logprobs: true } as const;
    const plain = real.complete("The capital of France is", options);
    const adapted = real.complete("The capital of France is", { ...options, adapter });
    const scaled = real.complete("The capital of France is", { ...options, adapter: { adapter, scale: 0 } });
    const [one, two, three] = await Promise.all([plain.result(), adapted.result(), scaled.result()]);
    expect(one.text).toContain("Paris");
    expect(three.logprobs).toEqual(one.logprobs);
    expect(two.logprobs).not.toEqual(one.logprobs);
    const alone = await real.complete("The capital of France is", { ...options, adapter }).result();
    expect(alone.logprobs).toEqual(two.logprobs);
    await real.dispose();
  });
});
