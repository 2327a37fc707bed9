// LoRA adapters for `tinyModel`: with random numbers, as GGUF files, as PEFT folders, and merged into the model.
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

import { type Contents, ggufBytes, type Tensor, tinyModel } from "./gguf-writer.ts";

const headDim = 16;
const layer = "model.layers.0.";
const modules: Readonly<Record<string, string>> = {
  "blk.0.attn_q.weight": `${layer}self_attn.q_proj`,
  "blk.0.attn_k.weight": `${layer}self_attn.k_proj`,
  "blk.0.attn_v.weight": `${layer}self_attn.v_proj`,
  "blk.0.attn_output.weight": `${layer}self_attn.o_proj`,
  "blk.0.ffn_gate.weight": `${layer}mlp.gate_proj`,
  "blk.0.ffn_up.weight": `${layer}mlp.up_proj`,
  "blk.0.ffn_down.weight": `${layer}mlp.down_proj`,
};

/** One pair: a [rank, in], b [out, rank], in the order of rows that GGUF files of llama have. */
export interface Pair {
  weight: string;
  module: string;
  rank: number;
  in: number;
  out: number;
  a: Float32Array;
  b: Float32Array;
}

export function tinyPairs(seed: number, rank = 4): Pair[] {
  let state = seed;
  const random = (count: number): Float32Array =>
    Float32Array.from({ length: count }, () => {
      state = (Math.imul(state, 1103515245) + 12345) >>> 0;
      return state / 2 ** 32 - 0.5;
    });
  return tinyModel().tensors.flatMap(({ name, shape }) => {
    const module = modules[name];
    if (module === undefined) return [];
    const [columns, rows] = shape.map(Number);
    const pair = { weight: name, module, rank, in: columns, out: rows };
    return [{ ...pair, a: random(rank * columns), b: random(rows * rank) }];
  });
}

/** The tiny model with `scale` times what the pairs stand for in its weights. */
export function merged(pairs: readonly Pair[], scale: number): Contents {
  const model = tinyModel();
  const add = (tensor: Tensor): Tensor => {
    const pair = pairs.find(({ weight }) => weight === tensor.name);
    if (!pair) return tensor;
    const data = (tensor.data as Float32Array).map((weight, at) => {
      const [row, column] = [Math.floor(at / pair.in), at % pair.in];
      let sum = 0;
      for (let r = 0; r < pair.rank; r++) sum += pair.b[row * pair.rank + r] * pair.a[r * pair.in + column];
      return weight + scale * sum;
    });
    return { ...tensor, data };
  };
  return { ...model, tensors: model.tensors.map(add) };
}

export function ggufAdapter(pairs: readonly Pair[], alpha: number): Buffer {
  return Buffer.from(
    ggufBytes({
      fields: [
        ["general.type", { text: "adapter" }],
        ["general.architecture", { text: "llama" }],
        ["adapter.type", { text: "lora" }],
        ["adapter.lora.alpha", { f32: alpha }],
      ],
      tensors: pairs.flatMap((pair) => [
        { name: `${pair.weight}.lora_a`, shape: [pair.in, pair.rank], data: pair.a },
        { name: `${pair.weight}.lora_b`, shape: [pair.rank, pair.out], data: pair.b },
      ]),
    }),
  );
}

export interface SafetensorsTensor {
  dtype: string;
  shape: number[];
  data: Uint8Array;
}

/** A safetensors file; `header` changes what it says before it is written. */
export function safetensors(
  tensors: Readonly<Record<string, SafetensorsTensor>>,
  header: (entries: Record<string, unknown>) => unknown = (entries) => entries,
): Buffer {
  let at = 0;
  const entries: Record<string, unknown> = { __metadata__: { format: "pt" } };
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    entries[name] = { dtype, shape, data_offsets: [at, (at += data.length)] };
  }
  const given = header(entries);
  const text = Buffer.from(typeof given === "string" ? given : JSON.stringify(given));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(text.length));
  return Buffer.concat([length, text, ...Object.values(tensors).map(({ data }) => data)]);
}

/** Rows of each head as PEFT has them: the halves that rope rotates one after the other. */
function inHalves({ b, rank }: Pair): Float32Array {
  const out = new Float32Array(b.length);
  for (let row = 0; row < b.length / rank; row++) {
    const d = row % headDim;
    const to = row - d + (d % 2) * (headDim / 2) + Math.floor(d / 2);
    out.set(b.subarray(row * rank, (row + 1) * rank), to * rank);
  }
  return out;
}

const bytes = (values: Float32Array): Uint8Array => new Uint8Array(values.buffer.slice(0));

export function peftTensors(pairs: readonly Pair[]): Record<string, SafetensorsTensor> {
  return Object.fromEntries(
    pairs.flatMap((pair) => {
      const rotated = /[qk]_proj/.test(pair.module);
      const name = (half: string) => `base_model.model.${pair.module}.lora_${half}.weight`;
      const b = bytes(rotated ? inHalves(pair) : pair.b);
      return [
        [name("A"), { dtype: "F32", shape: [pair.rank, pair.in], data: bytes(pair.a) }],
        [name("B"), { dtype: "F32", shape: [pair.out, pair.rank], data: b }],
      ];
    }),
  );
}

/** As PEFT writes it, as far as it matters. */
export const peftConfig = {
  peft_type: "LORA",
  task_type: "CAUSAL_LM",
  base_model_name_or_path: "tiny",
  r: 4,
  lora_alpha: 8,
  lora_dropout: 0.05,
  target_modules: ["q_proj", "down_proj"],
  bias: "none",
  fan_in_fan_out: false,
  use_dora: false,
  use_rslora: false,
  modules_to_save: null,
  rank_pattern: {},
  alpha_pattern: {},
  init_lora_weights: true,
  peft_version: "0.17.0",
};

/** Writes a PEFT folder and returns its path. */
export function writePeft(folder: string, tensors: Uint8Array, config: unknown = peftConfig): string {
  mkdirSync(folder, { recursive: true });
  const text = typeof config === "string" ? config : JSON.stringify(config);
  writeFileSync(join(folder, "adapter_config.json"), text);
  writeFileSync(join(folder, "adapter_model.safetensors"), tensors);
  return folder;
}
