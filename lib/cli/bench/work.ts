// What a model must read and multiply, and how long that takes at the machine's limits: the floor under every figure.
// Only what must be done counts: no padding, no second plane of activations, no expert that is not used, nothing of
// the last layer but keys and values for tokens whose logits nobody wants.
import type { ModelHeader } from "../../header.js";
import { textOf } from "../../metadata.js";
import type { NativeAttention, NativeLimits } from "../../native.js";
import type { KvType } from "../../types.js";

/** One sequence's part of a step: `count` tokens from `position` on. */
export interface Span {
  position: number;
  count: number;
  /** Are the logits of its last token wanted? */
  output: boolean;
}

/** What one step must do. */
export interface Work {
  bytes: number;
  dotMultiplyAdds: number;
  floatMultiplyAdds: number;
  bf16MultiplyAdds: number;
}

export interface Floor {
  seconds: number;
  by: "reading" | "multiplying";
}

/** A tensor by when it is used: for every token, for tokens with output alone, or a row for each token. */
interface Weight {
  use: "token" | "output" | "row";
  bytes: number;
  /** Rows of a lookup table; 1 otherwise. */
  rows: number;
  multiplyAdds: number;
  /** Which of the work's multiply-adds they are. */
  kind: "dotMultiplyAdds" | "floatMultiplyAdds" | "bf16MultiplyAdds";
  /** The share of it that one token uses: less than 1 for experts. */
  share: number;
}

const floatTypes = new Set(["F32", "F16", "F64"]);
const kvBytes: Record<KvType, number> = { f32: 4, f16: 2, q8_0: 34 / 32, q4_0: 18 / 32 };

/** What steps of one model cost. */
export class ModelWork {
  /** Of all weights in the file. */
  readonly weightBytes: number;
  readonly #weights: Weight[];
  readonly #attention: NativeAttention;
  /** Of one token's key and value in one layer. */
  readonly #kvBytes: number;

  constructor(
    header: Pick<ModelHeader, "metadata" | "tensors">,
    attention: NativeAttention,
    kvType: { k: KvType; v: KvType },
  ) {
    const { metadata, tensors } = header;
    const architecture = textOf(header, "general.architecture");
    const expertsUsed = Number(metadata.get(`${architecture}.expert_used_count`)?.value ?? 0);
    const tied = !tensors.some(({ name }) => name === "output.weight");
    const lastLayer = `blk.${attention.windows.length - 1}.`;
    const useOf = (name: string): Weight["use"] => {
      if (name === "token_embd.weight") return tied ? "output" : "row";
      if (name.startsWith("output")) return "output";
      return name.startsWith(lastLayer) && !/\.attn_(norm|k|v|qkv|k_norm)\./.test(name) ? "output" : "token";
    };
    this.#weights = tensors.map(({ name, type, shape, bytes }) => {
      const use = useOf(name);
      const matrix = shape.length > 1 && use !== "row";
      const elements = shape.reduce((product, length) => product * length, 1);
      return {
        use,
        bytes,
        rows: use === "row" ? shape[1]! : 1,
        multiplyAdds: matrix ? elements : 0,
        kind: floatTypes.has(type)
          ? "floatMultiplyAdds"
          : type === "BF16"
            ? "bf16MultiplyAdds"
            : "dotMultiplyAdds",
        share: name.includes("_exps.") ? expertsUsed / shape.at(-1)! : 1,
      };
    });
    this.weightBytes = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
    this.#attention = attention;
    const { kvHeads, keyLength, valueLength } = attention;
    this.#kvBytes = kvHeads * (keyLength * kvBytes[kvType.k] + valueLength * kvBytes[kvType.v]);
  }

  step(spans: readonly Span[]): Work {
    const tokens = spans.reduce((sum, { count }) => sum + count, 0);
    const outputs = spans.filter(({ output }) => output).length;
    const work: Work = { bytes: 0, dotMultiplyAdds: 0, floatMultiplyAdds: 0, bf16MultiplyAdds: 0 };
    for (const weight of this.#weights) {
      const rows = weight.use === "output" ? outputs : tokens;
      // Of experts, as many differ as do when each token's are drawn at random.
      const read = weight.use === "row" ? tokens / weight.rows : 1 - (1 - weight.share) ** rows;
      work.bytes += weight.bytes * Math.min(1, read);
      work[weight.kind] += weight.multiplyAdds * weight.share * rows;
    }
    const { heads, keyLength, valueLength, windows } = this.#attention;
    for (const [layer, window] of windows.entries()) {
      const last = layer === windows.length - 1;
      for (const span of spans) {
        if (last && !span.output) continue;
        const first = last ? span.position + span.count - 1 : span.position;
        work.bytes += Math.min(span.position, window > 0 ? window - 1 : Infinity) * this.#kvBytes;
        for (let position = first; position < span.position + span.count; ++position) {
          const seen = window > 0 ? Math.min(position + 1, window) : position + 1;
          work.floatMultiplyAdds += heads * (keyLength + valueLength) * seen;
        }
      }
    }
    return work;
  }

  /** Reading a prompt in steps of at most `batch` tokens, up to its first token. */
  prompt(tokens: number, batch: number): Work[] {
    return Array.from({ length: Math.ceil(tokens / batch) }, (_, i) => {
      const count = Math.min(batch, tokens - i * batch);
      return this.step([{ position: i * batch, count, output: i * batch + count === tokens }]);
    });
  }

  /** Writing `tokens` tokens after `depth`, in `streams` sequences at once. */
  decode(streams: number, depth: number, tokens: number): Work[] {
    return Array.from({ length: tokens }, (_, i) =>
      this.step(Array.from({ length: streams }, () => ({ position: depth + i, count: 1, output: true }))),
    );
  }
}

/** The least time that steps can take, one after the other. */
export function floorOf(steps: readonly Work[], limits: NativeLimits): Floor {
  const floor = { seconds: 0, reading: 0, multiplying: 0 };
  for (const { bytes, dotMultiplyAdds, floatMultiplyAdds, bf16MultiplyAdds } of steps) {
    const reading = bytes / limits.readBytes;
    const multiplying =
      dotMultiplyAdds / limits.dotMultiplyAdds +
      floatMultiplyAdds / limits.floatMultiplyAdds +
      bf16MultiplyAdds / limits.bf16MultiplyAdds;
    floor.seconds += Math.max(reading, multiplying);
    floor.reading += reading;
    floor.multiplying += multiplying;
  }
  return { seconds: floor.seconds, by: floor.reading > floor.multiplying ? "reading" : "multiplying" };
}
