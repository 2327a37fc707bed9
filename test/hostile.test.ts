// Files that lie, through the whole library: each is refused with a documented code and a message that names what is
// wrong, and the process goes on serving. The header alone has more cases in C++ (test/native/gguf_hostile_test.cpp).
import { mkdtempSync, renameSync, rmSync, statSync, truncateSync, utimesSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";

import { InhouseError, type InhouseErrorCode, loadModel, type Model } from "../lib/index.js";
import {
  type Contents,
  type Field,
  ggufBytes,
  type Tensor,
  tinyModel,
  writeGguf,
} from "./support/gguf-writer.js";
import { device } from "./support/models.js";

let folder: string;
let served: Model;
const path = (): string => join(folder, "hostile.gguf");

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-"));
  served = await loadModel(writeGguf(join(folder, "sound.gguf"), tinyModel()), { device });
});
afterEach(async () => {
  const { tokens } = await served.complete("abc", { maxTokens: 3, ignoreStopTokens: true }).result();
  expect(tokens).toHaveLength(3);
});
afterAll(async () => {
  await served.dispose();
  rmSync(folder, { recursive: true });
});

async function refusal(file: string): Promise<InhouseError> {
  const loaded = await loadModel(file, { device }).catch((error: unknown) => error);
  if (InhouseError.is(loaded)) return loaded;
  if (loaded instanceof Error) throw loaded;
  await (loaded as Model).dispose();
  throw new Error("the file was accepted");
}

type Sound = ReturnType<typeof tinyModel>;
const set =
  (key: string, field: Field) =>
  (model: Sound): Contents => ({
    ...model,
    fields: [...model.fields.filter(([name]) => name !== key), [key, field] as const],
  });
const without =
  (key: string) =>
  (model: Sound): Contents => ({ ...model, fields: model.fields.filter(([name]) => name !== key) });
const tensor =
  (name: string, change: Partial<Tensor>) =>
  (model: Sound): Contents => ({
    ...model,
    tensors: model.tensors.map((entry) => (entry.name === name ? { ...entry, ...change } : entry)),
  });
const raw = (...parts: (number | bigint | string)[]): Field => ({
  raw: Buffer.concat(
    parts.map((part) => {
      if (typeof part === "string") return Buffer.from(part);
      const bytes = Buffer.alloc(typeof part === "bigint" ? 8 : 4);
      if (typeof part === "bigint") bytes.writeBigUInt64LE(part);
      else bytes.writeUInt32LE(part);
      return bytes;
    }),
  ),
});

const heads = "llama.attention.head_count";
const tokens = "tokenizer.ggml.tokens";
const bytes = (size: number): Uint8Array => new Uint8Array(size);

// prettier-ignore
const cases: [what: string, change: (model: Sound) => Contents, code: string, message: RegExp][] = [
  ["another magic", (m) => ({ ...m, magic: "GGML" }), "GGUF_MAGIC", /GGUF/],
  ["version 1", (m) => ({ ...m, version: 1 }), "GGUF_VERSION", /1/],
  ["version 4", (m) => ({ ...m, version: 4 }), "GGUF_VERSION", /4/],
  ["a big-endian version", (m) => ({ ...m, version: 0x03000000 }), "GGUF_VERSION", /big-endian/],
  ["2^63 tensors", (m) => ({ ...m, tensorCount: 2n ** 63n }), "GGUF_", /tensor/],
  ["2^32 tensors", (m) => ({ ...m, tensorCount: 2n ** 32n }), "GGUF_", /tensor/],
  ["one tensor more than there is", (m) => ({ ...m, tensorCount: 12n }), "GGUF_", /tensor/],
  ["2^63 fields", (m) => ({ ...m, fieldCount: 2n ** 63n }), "GGUF_", /metadata|key/],
  ["a text of 2^63 bytes", set("x", raw(8, 2n ** 63n)), "GGUF_", /x/],
  ["a text of 2^31 bytes", set("x", raw(8, 2n ** 31n)), "GGUF_", /x/],
  ["an array of 2^62 numbers", set("x", raw(9, 4, 2n ** 62n)), "GGUF_", /x/],
  ["an unknown value type", set("x", raw(77, 0)), "GGUF_", /x/],
  ["no architecture", without("general.architecture"), "GGUF_INVALID", /general\.architecture/],
  ["an unknown architecture", set("general.architecture", { text: "abacus" }), "UNSUPPORTED_ARCHITECTURE", /abacus/],
  ["an architecture that is a number", set("general.architecture", { u32: 3 }), "GGUF_INVALID", /general\.architecture/],
  ["no layers given", without("llama.block_count"), "GGUF_INVALID", /llama\.block_count/],
  ["no layers", set("llama.block_count", { u32: 0 }), "", /llama\.block_count|layer/],
  ["2^31 layers", set("llama.block_count", { u32: 2 ** 31 }), "", /llama\.block_count/],
  ["more layers than tensors", set("llama.block_count", { u32: 2 }), "MODEL_INVALID", /blk\.1\./],
  ["layers as text", set("llama.block_count", { text: "1" }), "GGUF_INVALID", /llama\.block_count/],
  ["no width", set("llama.embedding_length", { u32: 0 }), "", /embedding_length/],
  ["another width", set("llama.embedding_length", { u32: 64 }), "MODEL_INVALID", /\[?32|64/],
  ["no heads", set(heads, { u32: 0 }), "", /head_count/],
  ["heads that do not divide the width", set(heads, { u32: 3 }), "", /head/],
  ["more KV heads than heads", set("llama.attention.head_count_kv", { u32: 4 }), "", /head/],
  ["an epsilon of NaN", set("llama.attention.layer_norm_rms_epsilon", { f32: NaN }), "GGUF_INVALID", /epsilon/],
  ["rope of more dimensions than a head", set("llama.rope.dimension_count", { u32: 64 }), "", /rope/],
  ["a negative rope base", set("llama.rope.freq_base", { f32: -1 }), "", /freq_base|rope/],
  ["an infinite rope base", set("llama.rope.freq_base", { f32: Infinity }), "", /freq_base|rope/],
  ["a context of 0", set("llama.context_length", { u32: 0 }), "", /context_length/],
  ["no tokenizer", without("tokenizer.ggml.model"), "UNSUPPORTED_TOKENIZER", /tokenizer\.ggml\.model/],
  ["an unknown tokenizer", set("tokenizer.ggml.model", { text: "abacus" }), "UNSUPPORTED_TOKENIZER", /abacus/],
  ["an unknown pre-tokenizer", set("tokenizer.ggml.pre", { text: "abacus" }), "UNSUPPORTED_TOKENIZER", /abacus/],
  ["no tokens given", without(tokens), "", /tokenizer\.ggml\.tokens|vocab/],
  ["an empty vocabulary", set(tokens, { texts: [] }), "", /tokens|vocab/],
  ["tokens that are numbers", set(tokens, { ints: [1, 2] }), "GGUF_INVALID", /tokens/],
  ["fewer tokens than embeddings", set(tokens, { texts: ["a", "b"] }), "", /tokens|token_embd|vocab|token_type/],
  ["a merge of unknown pieces", set("tokenizer.ggml.merges", { texts: ["qq ww"] }), "TOKENIZER_INVALID", /merges/],
  ["a merge of one piece", set("tokenizer.ggml.merges", { texts: ["ab"] }), "TOKENIZER_INVALID", /merges/],
  ["a token type out of range", set("tokenizer.ggml.token_type", { ints: [99] }), "TOKENIZER_INVALID", /token_type/],
  ["a BOS outside the vocabulary", set("tokenizer.ggml.bos_token_id", { u32: 999 }), "TOKENIZER_INVALID", /bos_token_id/],
  ["an EOS that is a text", set("tokenizer.ggml.eos_token_id", { text: "</s>" }), "GGUF_INVALID", /eos_token_id/],
  ["a template that is a number", set("tokenizer.chat_template", { u32: 1 }), "GGUF_INVALID", /chat_template/],
  ["a recommended temperature of -1", set("general.sampling.temp", { f32: -1 }), "GGUF_INVALID", /general\.sampling\.temp/],
  ["a tensor past the end", tensor("blk.0.ffn_down.weight", { offset: 2n ** 20n }), "GGUF_", /blk\.0\.ffn_down/],
  ["a tensor at 2^63", tensor("blk.0.ffn_down.weight", { offset: 2n ** 63n }), "GGUF_", /blk\.0\.ffn_down/],
  ["a tensor that is not aligned", tensor("blk.0.ffn_down.weight", { offset: 7n }), "GGUF_INVALID", /blk\.0\.ffn_down/],
  ["a tensor over another", tensor("blk.0.ffn_down.weight", { offset: 0n }), "GGUF_INVALID", /ffn_down|token_embd/],
  ["a dimension of 2^63", tensor("output_norm.weight", { shape: [2n ** 63n] }), "GGUF_", /output_norm/],
  ["dimensions whose product overflows", tensor("output_norm.weight", { shape: [2n ** 32n, 2n ** 32n] }), "GGUF_", /output_norm/],
  ["a dimension of 0", tensor("output_norm.weight", { shape: [0] }), "", /output_norm/],
  ["five dimensions", tensor("output_norm.weight", { shape: [2, 2, 2, 2, 2] }), "GGUF_INVALID", /output_norm/],
  ["an unknown tensor type", tensor("output_norm.weight", { type: 200 }), "UNSUPPORTED_TYPE", /200/],
  ["a shape that does not fit", tensor("blk.0.attn_q.weight", { shape: [32, 16], data: bytes(4 * 32 * 16) }), "MODEL_INVALID", /attn_q/],
  ["a row that is no whole number of blocks", tensor("blk.0.ffn_up.weight", { type: 12, shape: [32, 64] }), "", /ffn_up/],
  ["a missing tensor", (m) => ({ ...m, tensors: m.tensors.filter(({ name }) => name !== "blk.0.ffn_up.weight") }), "MODEL_INVALID", /ffn_up/],
  ["a missing embedding", (m) => ({ ...m, tensors: m.tensors.slice(1) }), "MODEL_INVALID", /token_embd/],
  ["a tensor twice", (m) => ({ ...m, tensors: [...m.tensors, m.tensors[2]] }), "GGUF_INVALID", /attn_norm/],
  ["a key twice", (m) => ({ ...m, fields: [...m.fields, m.fields[2]] }), "GGUF_INVALID", /context_length/],
  ["a tensor nobody asked for", (m) => ({ ...m, tensors: [...m.tensors, { name: "blk.7.odd", shape: [1], data: new Float32Array(1) }] }), "MODEL_INVALID", /blk\.7\.odd/],
  ["no tensors", (m) => ({ ...m, tensors: [] }), "", /tensor|token_embd/],
];

describe("a file is refused with", () => {
  it.each(cases)("%s", async (_, change, code, message) => {
    const error = await refusal(writeGguf(path(), change(tinyModel())));
    expect(error.code).toContain(`ERR_INHOUSE_${code}`);
    expect(error.message).toMatch(message);
    expect(error.stack).toContain("hostile.test.ts");
    expect(error.message.length).toBeLessThan(1000);
  });

  it("a header cut anywhere", async () => {
    const all = ggufBytes(tinyModel());
    for (let cut = 0; cut < 1400; cut += 37) {
      writeFileSync(path(), all.subarray(0, cut));
      expect((await refusal(path())).code).toMatch(/ERR_INHOUSE_GGUF_(TRUNCATED|MAGIC)/);
    }
  });

  it("weights cut off", async () => {
    const all = ggufBytes(tinyModel());
    for (const cut of [1, 32, 5000]) {
      writeFileSync(path(), all.subarray(0, all.length - cut));
      const { code } = await refusal(path());
      expect(code satisfies InhouseErrorCode).toBe("ERR_INHOUSE_GGUF_TRUNCATED");
    }
  });

  it("a folder, an empty file, and parts of a split model that are not there", async () => {
    expect((await refusal(folder)).code).toMatch(/FILE_READ|GGUF_MAGIC|GGUF_TRUNCATED/);
    writeFileSync(path(), "");
    expect((await refusal(path())).code).toMatch(/GGUF_(TRUNCATED|MAGIC)/);
    const first = join(folder, "part-00001-of-00003.gguf");
    writeGguf(first, set("split.count", { u32: 3 })(tinyModel()));
    expect((await refusal(first)).code).toMatch(/GGUF_(SPLIT|INVALID)|FILE_NOT_FOUND/);
  });
});

describe("a model with damaged weights", () => {
  it.each([NaN, Infinity])("of %d fails its own generations alone", async (value) => {
    const model = tinyModel();
    (model.tensors[1].data as Float32Array).fill(value);
    const damaged = await loadModel(writeGguf(path(), model), { device });
    const failure = await damaged
      .complete("abc", { maxTokens: 2 })
      .result()
      .catch((error: unknown) => error);
    expect(InhouseError.is(failure, "ERR_INHOUSE_NUMERIC")).toBe(true);
    expect((failure as Error).stack).toContain("hostile.test.ts");
    await damaged.dispose();
  });

  it.each([true, false])("fails where its file is overwritten and mapped: %s", async (mapped) => {
    const file = writeGguf(path(), tinyModel());
    const loaded = await loadModel(file, { device, repack: !mapped });
    const { size } = statSync(file);
    writeFileSync(file, Buffer.alloc(size, 0x7f), { flag: "r+" });
    utimesSync(file, new Date(), new Date(Date.now() + 1000)); // whatever the clock of the file system
    const end = loaded.complete("abc", { maxTokens: 2, ignoreStopTokens: true }).result();
    if (!mapped) expect((await end).tokens).toHaveLength(2);
    else await expect(end).rejects.toMatchObject({ code: "ERR_INHOUSE_FILE_CHANGED" });
    await loaded.dispose();
  });

  it("goes on where another file takes its file's name", async () => {
    const file = writeGguf(path(), tinyModel());
    const loaded = await loadModel(file, { device, repack: false });
    writeFileSync(`${file}.new`, "another");
    renameSync(`${file}.new`, file);
    const { tokens } = await loaded.complete("abc", { maxTokens: 2, ignoreStopTokens: true }).result();
    expect(tokens).toHaveLength(2);
    await loaded.dispose();
  });

  it("goes on, or says so, when its mapped file shrinks", async () => {
    const file = writeGguf(path(), tinyModel());
    const mapped = await loadModel(file, { device, repack: false });
    truncateSync(file, 2000);
    const end = await mapped
      .complete("abc", { maxTokens: 2, ignoreStopTokens: true })
      .result()
      .catch((e: unknown) => e);
    if (end instanceof Error) expect(InhouseError.is(end, "ERR_INHOUSE_FILE_CHANGED")).toBe(true);
    await mapped.dispose();
  });
});
