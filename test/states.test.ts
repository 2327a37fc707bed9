// Every state of a model against every way to end; see test/lifetimes/states.mjs. INHOUSE_STATE_ROUNDS sets how many times
// each pair runs in its process (default 1), at another moment each time.
import { spawn, spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { ggufAdapter, type Pair } from "./support/adapters.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const script = join(import.meta.dirname, "lifetimes/states.mjs");
const table = JSON.parse(spawnSync(process.execPath, [script, "list"], { encoding: "utf8" }).stdout) as [
  string,
  string[],
][];
const rounds = Number(process.env.INHOUSE_STATE_ROUNDS ?? 1);
const timeout = 60_000 + 20_000 * rounds;
const folder = mkdtempSync(join(tmpdir(), "inhouse-states-"));
const draft = join(folder, "draft.gguf");
const adapter = join(folder, "adapter.gguf");

beforeAll(() => {
  const cut = join(import.meta.dirname, "../bench/cut-model.mjs");
  spawnSync(process.execPath, [cut, modelPath(smollm2), "1", draft]);
  // Large enough to take its time.
  const rank = 128;
  const pairs = Array.from({ length: 30 }, (_, layer): Pair => {
    const [a, b] = [new Float32Array(rank * 576).fill(1e-3), new Float32Array(rank * 576).fill(1e-3)];
    return { weight: `blk.${layer}.attn_q.weight`, module: "", rank, in: 576, out: 576, a, b };
  });
  writeFileSync(adapter, ggufAdapter(pairs, rank));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function run(...args: string[]): Promise<{ code: number | null; signal: string | null; out: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--expose-gc", script, ...args], { timeout: timeout - 10_000 });
    let out = "";
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (out += data));
    child.on("close", (code, signal) => resolve({ code, signal, out }));
  });
}

describe.each(table)("a model that is %s", (state, endings) => {
  it.each(endings)("%s", { timeout }, async (ending) => {
    const files = [modelPath(smollm2), draft, adapter, folder];
    expect(await run(state, ending, String(rounds), device, ...files)).toEqual({
      code: 7,
      signal: null,
      out: "",
    });
  });
});
