// The arithmetic of floors: what a step must read and multiply.
import { describe, expect, test } from "vitest";

import { floorOf, ModelWork } from "../lib/cli/bench/work.ts";
import type { ModelHeader } from "../lib/header.ts";

const kvType = { k: "f16", v: "f16" } as const;
const attention = { heads: 4, kvHeads: 2, keyLength: 16, valueLength: 16, windows: [0, 0] };

type Rows = [name: string, type: string, shape: number[], bytes: number][];
function header(rows: Rows, metadata: Record<string, string | number> = {}) {
  const entries = Object.entries({ "general.architecture": "llama", ...metadata });
  return {
    metadata: new Map(entries.map(([key, value]) => [key, { key, value }])),
    tensors: rows.map(([name, type, shape, bytes]) => ({ name, type, shape, bytes })),
  } as unknown as Pick<ModelHeader, "metadata" | "tensors">;
}

const work = (bytes: number, dotMultiplyAdds: number, floatMultiplyAdds: number, bf16MultiplyAdds = 0) => ({
  bytes,
  dotMultiplyAdds,
  floatMultiplyAdds,
  bf16MultiplyAdds,
});
const token = { position: 0, count: 1, output: true };
// Multiply-adds of attention over `seen` keys in one layer, and bytes of one cached token in one layer.
const over = (seen: number) => 4 * 32 * seen;
const cached = 2 * 32 * 2;

describe("ModelWork", () => {
  test("one token reads every weight once, with the output head where embeddings are tied", () => {
    const tied = new ModelWork(
      header([
        ["token_embd.weight", "Q8_0", [64, 200], 13600],
        ["blk.0.attn_norm.weight", "F32", [64], 256],
        ["blk.0.ffn_up.weight", "Q4_0", [64, 96], 3456],
        ["blk.1.ffn_up.weight", "F16", [64, 96], 12288],
        ["blk.1.ffn_gate.weight", "BF16", [64, 48], 6144],
      ]),
      attention,
      kvType,
    );
    expect(tied.weightBytes).toBe(35744);
    expect(tied.step([token])).toEqual(work(35744, 64 * 200 + 64 * 96, 64 * 96 + 2 * over(1), 64 * 48));
  });

  test("an embedding that is not the output costs its rows alone", () => {
    const apart = new ModelWork(
      header([
        ["token_embd.weight", "Q8_0", [64, 200], 13600],
        ["output.weight", "Q8_0", [64, 200], 13600],
      ]),
      attention,
      kvType,
    );
    expect(apart.step([token])).toEqual(work(13600 + 13600 / 200, 64 * 200, 2 * over(1)));
  });

  test("tokens without output need nothing of the last layer but keys and values", () => {
    const rows = ["attn_q", "attn_k", "attn_v", "attn_output", "ffn_up"];
    const tensors = [0, 1].flatMap((layer) =>
      rows.map((name): Rows[0] => [`blk.${layer}.${name}.weight`, "Q8_0", [64, 64], 4352]),
    );
    const model = new ModelWork(header(tensors), attention, kvType);
    const silent = model.step([{ position: 0, count: 3, output: false }]);
    expect(silent).toEqual(work(7 * 4352, 3 * 7 * 64 * 64, over(1 + 2 + 3)));
    const spoken = model.step([{ position: 0, count: 3, output: true }]);
    expect(spoken.dotMultiplyAdds).toBe((3 * 7 + 3) * 64 * 64);
    expect(spoken.floatMultiplyAdds).toBe(over(1 + 2 + 3) + over(3));
  });

  test("cached tokens are read as far as the window goes, in the cache's type", () => {
    const windows = { ...attention, windows: [8, 0] };
    const far = { position: 100, count: 1, output: true };
    expect(new ModelWork(header([]), windows, kvType).step([far])).toEqual(
      work((7 + 100) * cached, 0, over(8) + over(101)),
    );
    const q8 = new ModelWork(header([]), windows, { k: "q8_0", v: "q8_0" });
    expect(q8.step([far]).bytes).toBe(((7 + 100) * cached * 34) / 64);
    const q4 = new ModelWork(header([]), windows, { k: "q4_0", v: "q4_0" });
    expect(q4.step([far]).bytes).toBe(((7 + 100) * cached * 18) / 64);
  });

  test("of experts, each token uses a few, and tokens share some", () => {
    const experts: Rows = [["blk.0.ffn_up_exps.weight", "Q8_0", [64, 32, 8], 16384]];
    const metadata = { "general.architecture": "qwen3moe", "qwen3moe.expert_used_count": 2 };
    const model = new ModelWork(header(experts, metadata), { ...attention, windows: [0, 0] }, kvType);
    expect(model.step([token])).toMatchObject({ bytes: 16384 / 4, dotMultiplyAdds: 64 * 32 * 2 });
    const two = model.step([token, token]);
    expect(two).toMatchObject({ bytes: 16384 * (1 - 0.75 ** 2), dotMultiplyAdds: 64 * 32 * 4 });
  });

  test("prompts go in steps, of which the last alone has an output; streams share the weights", () => {
    const model = new ModelWork(header([["token_embd.weight", "Q8_0", [64, 200], 13600]]), attention, kvType);
    const steps = model.prompt(1100, 512);
    expect(steps.map(({ dotMultiplyAdds }) => dotMultiplyAdds)).toEqual([0, 0, 64 * 200]);
    expect(steps.at(-1)!.bytes).toBe(13600 + 2 * 1024 * cached);
    const [first, ...rest] = model.decode(4, 10, 3);
    expect(rest).toHaveLength(2);
    expect(first).toEqual(work(13600 + 4 * 2 * 10 * cached, 4 * 64 * 200, 4 * 2 * over(11)));
  });
});

test("floorOf takes the longer of reading and multiplying in each step", () => {
  const limits = { readBytes: 100, dotMultiplyAdds: 10, floatMultiplyAdds: 1, bf16MultiplyAdds: 2 };
  expect(floorOf([work(100, 5, 0)], limits)).toEqual({ seconds: 1, by: "reading" });
  expect(floorOf([work(100, 5, 1)], limits)).toEqual({ seconds: 1.5, by: "multiplying" });
  expect(floorOf([work(100, 5, 1, 1)], limits)).toEqual({ seconds: 2, by: "multiplying" });
  expect(floorOf([work(300, 0, 0), work(0, 20, 0)], limits)).toEqual({ seconds: 5, by: "reading" });
});
