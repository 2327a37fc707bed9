// Models that bench/native/make_model.cpp writes load and run, whatever their shape and types.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { loadModel } from "../dist/index.js";
import { device } from "./support/models.ts";

const program = join(import.meta.dirname, "../build/bench/native/inhouse_make_model");
const small = ["--layers", "2", "--vocabulary", "500", "--ffn-width", "512"];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-make-model-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const make = (...args: string[]) => spawnSync(program, args, { encoding: "utf8" });

describe("make_model", () => {
  test.each([
    ["llama-3.2-1b", "llama", ["--type", "q4_k", "--embedding-type", "q6_k"]],
    ["llama-3.1-8b", "llama", ["--type", "iq4_xs"]],
    ["qwen2.5-1.5b", "qwen2", ["--type", "bf16"]],
    ["gemma-3-1b", "gemma3", ["--type", "q8_0", "--window", "16"]],
    ["qwen3-30b-a3b", "qwen3moe", ["--type", "q4_k", "--experts", "16"]],
    ["smollm2-135m", "llama", ["--type", "q4_1"]],
  ])("%s", async (shape, architecture, options) => {
    const path = join(folder, `${shape}.gguf`);
    expect(make("--shape", shape, ...options, ...small, path)).toMatchObject({ status: 0, stderr: "" });
    const model = await loadModel(path, { device, contextLength: 64 });
    try {
      expect(model.info).toMatchObject({ architecture, layers: 2, vocabularySize: 500 });
      const text = "Grüße, \u{1f980}!\n";
      expect(model.tokenizer.decode(model.tokenizer.encode(text))).toBe(text);
      const settings = { maxTokens: 4, temperature: 0, ignoreStopTokens: true };
      const { tokens } = await model.complete([300, 301, 302], settings).result();
      expect(tokens).toHaveLength(4);
    } finally {
      await model.dispose();
    }
  });

  test.skipIf(process.platform === "win32")("leaves nothing behind where it is ended", async () => {
    const path = join(folder, "large.gguf");
    const child = spawn(program, ["--shape", "llama-3.2-1b", "--type", "f16", path]);
    const ended = once(child, "exit");
    while (!existsSync(`${path}.partial`)) await sleep(5);
    child.kill("SIGTERM");
    expect(await ended).toEqual([128 + 15, null]);
    expect(readdirSync(folder).filter((name) => name.startsWith("large"))).toEqual([]);
  });

  const smollm2 = ["--shape", "smollm2-135m"];
  test.each([
    [["--shape", "llama-9b", "--type", "q4_k"], 2, "llama-3.1-8b"],
    [["--shape", "llama-3.2-1b", "--type", "q9"], 2, "no such type: Q9; there are F32, F16"],
    [smollm2, 2, "--type is missing"],
    [["--type", "q8_0"], 2, "--shape: expected it first; --help"],
    [[...smollm2, "--type", "q8_0", "--layers", "3x"], 2, "--layers: expected a whole number from 1 to 1024"],
    [[...smollm2, "--type", "q8_0", "--heads", "-1"], 2, "--heads: expected a whole number"],
    [[...smollm2, "--type", "q8_0", "--width", "99999999999"], 2, "--width: expected a whole number"],
    [[...smollm2, "--type", "q8_0", "--kv-heads", "2"], 2, "--heads must be a multiple of --kv-heads"],
    [[...smollm2, "--type", "q8_0", "--experts", "8"], 2, "--experts: a llama model has none"],
    [[...smollm2, "--type", "q8_0", "--depth", "3"], 2, "no such option: --depth"],
    [[...smollm2, "--type", "q8_0", "other.gguf"], 2, "one file is written"],
    [[...smollm2, "--type", "q8_0", "--head-dim", "0"], 2, "--head-dim: expected a whole number from 2"],
    [
      [...smollm2, "--type", "q8_0", "--vocabulary", "0"],
      2,
      "--vocabulary: expected a whole number from 257",
    ],
    [[...smollm2, "--type", "q4_k"], 2, "--width: Q4_K needs a multiple of 256, not 576"],
    [[...smollm2, "--type", "q8_0", "--embedding-type", "iq4_xs"], 2, "or with --embedding-type a type of"],
    [[...smollm2, "--type", "q4_0", "--ffn-width", "16"], 2, "--ffn-width: Q4_0 needs a multiple of 32"],
    [[...smollm2, "--type", "tq1_0", "--width", "512"], 2, "--heads times --head-dim: TQ1_0 needs"],
  ])("refuses %j", (args, code, words) => {
    const { status, stderr } = make(...args, join(folder, "none.gguf"));
    expect([status, stderr]).toEqual([code, expect.stringContaining(words)]);
  });

  const tiny = [...smollm2, "--type", "q8_0", ...small];
  test("a file that cannot be written", () => {
    const nowhere = make(...tiny, join(folder, "nowhere/model.gguf"));
    expect([nowhere.status, nowhere.stderr]).toEqual([1, expect.stringContaining("cannot be written")]);
    for (const path of [folder, ...(process.platform === "win32" ? [] : ["/dev/null"])]) {
      const { status, stderr } = make(...tiny, path);
      expect([status, stderr]).toEqual([1, expect.stringContaining("is in the way")]);
    }
  });

  test.skipIf(process.platform === "win32")("a full disk leaves what was there", () => {
    const path = join(folder, "full.gguf");
    writeFileSync(path, "old");
    const limited = `trap '' XFSZ; ulimit -f 64; exec "$0" "$@"`;
    const { status, stderr } = spawnSync("bash", ["-c", limited, program, ...tiny, path], {
      encoding: "utf8",
    });
    expect([status, stderr]).toEqual([1, expect.stringContaining("File too large")]);
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).not.toContain("full.gguf.partial");
  });

  test("needs a file to write", () => {
    const { status, stderr } = make(...smollm2, "--type", "q8_0");
    expect([status, stderr]).toEqual([2, expect.stringContaining("the file to write is missing")]);
  });
});
