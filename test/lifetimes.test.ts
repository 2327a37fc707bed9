// Processes and workers that end while a model works; see test/lifetimes. INHOUSE_ROUNDS sets how many workers are
// terminated in each phase (default 200).
import { spawn, spawnSync } from "node:child_process";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { device, modelPath, smollm2 } from "./support/models.js";

const folder = join(import.meta.dirname, "lifetimes");
const rounds = process.env.INHOUSE_ROUNDS ?? "200";

function run(
  script: string,
  ...args: string[]
): Promise<{ code: number | null; signal: string | null; out: string }> {
  return new Promise((resolve) => {
    const child = spawn(process.execPath, ["--expose-gc", join(folder, script), ...args]);
    let out = "";
    child.stdout.on("data", (data) => (out += data));
    child.stderr.on("data", (data) => (out += data));
    child.on("close", (code, signal) => resolve({ code, signal, out }));
  });
}

const codes: Record<string, number> = { idle: 0, "idle after a generation": 0, "throw in decoding": 1 };
const cases = JSON.parse(
  spawnSync(process.execPath, [join(folder, "exit.mjs"), "list"], { encoding: "utf8" }).stdout,
) as string[];

describe("a process ends", () => {
  it.each(cases)("%s", { timeout: 120_000 }, async (name) => {
    const { code, signal, out } = await run("exit.mjs", name, modelPath(smollm2), device);
    expect({ code, signal, out: code === (codes[name] ?? 7) ? "" : out }).toEqual({
      code: codes[name] ?? 7,
      signal: null,
      out: "",
    });
  });
});

describe("a worker is terminated", () => {
  it.each(["load", "prompt", "decode"])("at %s", { timeout: 300_000 }, async (phase) => {
    const { code, signal, out } = await run("workers.mjs", modelPath(smollm2), phase, rounds, device);
    expect({ code, signal, out: code === 0 ? "" : out }).toEqual({ code: 0, signal: null, out: "" });
    const { thirds } = JSON.parse(out) as { thirds: [number, number, number] };
    // Megabytes. What stays behind of each round would add up over a third of them: a cache of one request, some
    // 10 MB, to hundreds, a model to thousands.
    expect(thirds[2] - thirds[1], out).toBeLessThan(40);
  });
});
