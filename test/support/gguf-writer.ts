// Writes small GGUF files for tests: well-formed ones, and ones that lie about anything.
import { writeFileSync } from "node:fs";

/** A metadata value with its type; `raw` bytes stand for themselves. */
export type Field =
  | { u32: number }
  | { f32: number }
  | { bool: boolean }
  | { text: string }
  | { texts: readonly string[] }
  | { floats: readonly number[] }
  | { ints: readonly number[] }
  | { raw: Uint8Array };

export interface Tensor {
  name: string;
  /** GGUF type number; 0 is F32. */
  type?: number;
  shape: readonly (number | bigint)[];
  /** Where it says it is; by default the next aligned place. */
  offset?: bigint;
  data: Float32Array | Uint8Array;
}

export interface Contents {
  magic?: string;
  version?: number;
  /** What the header says there is; by default the truth. */
  tensorCount?: bigint;
  fieldCount?: bigint;
  fields: readonly (readonly [string, Field])[];
  tensors: readonly Tensor[];
}

class Bytes {
  readonly parts: Uint8Array[] = [];
  length = 0;

  add(bytes: Uint8Array): this {
    this.parts.push(bytes);
    this.length += bytes.length;
    return this;
  }
  u32(value: number): this {
    const bytes = Buffer.alloc(4);
    bytes.writeUInt32LE(value);
    return this.add(bytes);
  }
  u64(value: number | bigint): this {
    const bytes = Buffer.alloc(8);
    bytes.writeBigUInt64LE(BigInt(value));
    return this.add(bytes);
  }
  text(value: string): this {
    const bytes = Buffer.from(value);
    return this.u64(bytes.length).add(bytes);
  }
  field(field: Field): this {
    if ("u32" in field) return this.u32(4).u32(field.u32);
    if ("f32" in field) return this.u32(6).add(new Uint8Array(Float32Array.of(field.f32).buffer));
    if ("bool" in field) return this.u32(7).add(Uint8Array.of(field.bool ? 1 : 0));
    if ("text" in field) return this.u32(8).text(field.text);
    if ("raw" in field) return this.add(field.raw);
    if ("texts" in field) {
      this.u32(9).u32(8).u64(field.texts.length);
      for (const text of field.texts) this.text(text);
      return this;
    }
    const [type, values] =
      "floats" in field ? [6, Float32Array.from(field.floats)] : [5, Int32Array.from(field.ints)];
    return this.u32(9).u32(type).u64(values.length).add(new Uint8Array(values.buffer));
  }
  pad(to: number): this {
    return this.add(new Uint8Array((to - (this.length % to)) % to));
  }
}

/** The bytes of a file. */
export function ggufBytes(contents: Contents): Buffer {
  const { magic = "GGUF", version = 3, fields, tensors } = contents;
  const out = new Bytes().add(Buffer.from(magic)).u32(version);
  out.u64(contents.tensorCount ?? tensors.length).u64(contents.fieldCount ?? fields.length);
  for (const [key, field] of fields) out.text(key).field(field);
  const data = new Bytes();
  for (const tensor of tensors) {
    out.text(tensor.name).u32(tensor.shape.length);
    for (const size of tensor.shape) out.u64(size);
    out.u32(tensor.type ?? 0).u64(tensor.offset ?? data.length);
    data.add(new Uint8Array(tensor.data.buffer, tensor.data.byteOffset, tensor.data.byteLength)).pad(32);
  }
  out.pad(32);
  return Buffer.concat([...out.parts, ...data.parts]);
}

const width = 32;
const words = ["<unk>", "<s>", "</s>", ..."abcdefghijklmnopqrstuvwxyz \n.,"];

/** A llama model of one layer with random weights: sound, tiny, and a basis for unsound ones. */
export function tinyModel(): Contents & { fields: [string, Field][]; tensors: Tensor[] } {
  let state = 1;
  const random = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return (state / 2 ** 32 - 0.5) / 2;
    });
  const tensor = (name: string, ...shape: number[]): Tensor => ({
    name,
    shape,
    data: random(shape.reduce((product, size) => product * size, 1)),
  });
  return {
    fields: [
      ["general.architecture", { text: "llama" }],
      ["llama.block_count", { u32: 1 }],
      ["llama.context_length", { u32: 64 }],
      ["llama.embedding_length", { u32: width }],
      ["llama.feed_forward_length", { u32: 64 }],
      ["llama.attention.head_count", { u32: 2 }],
      ["llama.attention.head_count_kv", { u32: 2 }],
      ["llama.attention.layer_norm_rms_epsilon", { f32: 1e-5 }],
      ["llama.rope.dimension_count", { u32: 16 }],
      ["tokenizer.ggml.model", { text: "gpt2" }],
      ["tokenizer.ggml.pre", { text: "smollm" }],
      [
        "tokenizer.ggml.tokens",
        { texts: words.map((word) => (word === " " ? "Ġ" : word === "\n" ? "Ċ" : word)) },
      ],
      ["tokenizer.ggml.token_type", { ints: words.map((_, i) => (i < 3 ? 3 : 1)) }],
      ["tokenizer.ggml.merges", { texts: [] }],
      ["tokenizer.ggml.bos_token_id", { u32: 1 }],
      ["tokenizer.ggml.eos_token_id", { u32: 2 }],
    ],
    tensors: [
      tensor("token_embd.weight", width, words.length),
      tensor("output_norm.weight", width),
      tensor("blk.0.attn_norm.weight", width),
      tensor("blk.0.attn_q.weight", width, width),
      tensor("blk.0.attn_k.weight", width, width),
      tensor("blk.0.attn_v.weight", width, width),
      tensor("blk.0.attn_output.weight", width, width),
      tensor("blk.0.ffn_norm.weight", width),
      tensor("blk.0.ffn_gate.weight", width, 64),
      tensor("blk.0.ffn_up.weight", width, 64),
      tensor("blk.0.ffn_down.weight", 64, width),
    ],
  };
}

export function writeGguf(path: string, contents: Contents): string {
  writeFileSync(path, ggufBytes(contents));
  return path;
}
