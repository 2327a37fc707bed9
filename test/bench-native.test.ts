// The executables of bench/native that measure: what they print, and what they refuse.
import { spawnSync } from "node:child_process";
import { closeSync, existsSync, mkdtempSync, openSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";

import { kernelTable } from "../bench/tables.mjs";
import { modelPath, smollm2 } from "./support/models.ts";

const start = (name: string, ...args: string[]) =>
  spawnSync(join(import.meta.dirname, "../build/bench/native", name), args, { encoding: "utf8" });

interface Kernels {
  isa: string;
  runs: {
    threads: number;
    readGB: number;
    dotGMAC: number;
    fmaGMAC: number;
    bf16GMAC: number;
    products: { type: string; vectorGB: number }[];
  }[];
}

describe("inhouse_kernels_bench", () => {
  test("--json", () => {
    const args = ["--type", "Q4_K,mxfp4", "--threads", "1", "--best", "--json"];
    const { status, stdout, stderr } = start("inhouse_kernels_bench", ...args);
    expect([status, stderr]).toEqual([0, ""]);
    const { runs } = JSON.parse(stdout) as Kernels;
    expect(runs.map(({ threads }) => threads)).toEqual([1]);
    expect(runs[0].products.map(({ type }) => type)).toEqual(["Q4_K", "Q4_K", "MXFP4"]);
    for (const { vectorGB } of runs[0].products) expect(vectorGB).toBeGreaterThan(0);
    expect(kernelTable(runs[0]).split("\n")).toHaveLength(2 + 3);
  });

  test("--list: instruction sets, the best first", () => {
    const names = start("inhouse_kernels_bench", "--list").stdout.trim().split("\n");
    expect(names.at(-1)).toBe("baseline");
    const args = ["--type", "MXFP4", "--threads", "1", "--best", "--json"];
    expect((JSON.parse(start("inhouse_kernels_bench", ...args).stdout) as Kernels).isa).toBe(names[0]);
  });

  test("numbers of threads: powers of two, and the most itself", () => {
    const args = ["--type", "MXFP4", "--threads", "3", "--best", "--json"];
    const { runs } = JSON.parse(start("inhouse_kernels_bench", ...args).stdout) as Kernels;
    expect(runs.map(({ threads }) => threads)).toEqual([1, 2, 3]);
  });

  test.each([
    [["--jsn"], "no such option: --jsn"],
    [["Q4_K"], "no such option: Q4_K"],
    [["--type", "Q4_K,Q9"], "no such type: Q9"],
    [["--type", ""], "no such type"],
    [["--threads", "two"], "--threads: expected a whole number"],
    [["--threads"], "--threads: expected a value"],
    [["--isa", "mmx"], 'instruction set "mmx" is not here'],
  ])("refuses %j", (args, words) => {
    const { status, stdout, stderr } = start("inhouse_kernels_bench", ...args);
    expect([status, stdout, stderr]).toEqual([2, "", expect.stringContaining(words)]);
  });
});

test.each(["profile", "kernels_bench", "evaluate", "sampler", "make_model", "product_count", "cuda_bench"])(
  "inhouse_%s says how it is used",
  (name) => {
    const { status, stdout, stderr } = start(`inhouse_${name}`, "--help");
    expect([status, stdout, stderr]).toEqual([0, expect.stringMatching(`^usage: inhouse_${name} `), ""]);
  },
);

test.runIf(process.platform === "linux")("output that is lost is an error", () => {
  const full = openSync("/dev/full", "w");
  const program = join(import.meta.dirname, "../build/bench/native/inhouse_kernels_bench");
  const { status, stderr } = spawnSync(program, ["--list"], { stdio: ["ignore", full, "pipe"] });
  closeSync(full);
  expect([status, String(stderr)]).toEqual([1, "the output could not be written\n"]);
});

describe("inhouse_profile", () => {
  const model = modelPath(smollm2);

  test("ops of a step beside their floors", () => {
    const args = ["--threads", "1", "--rounds", "1", "--streams", "2", "--kv", "q8_0", "--depth", "33"];
    const { status, stdout } = start("inhouse_profile", model, ...args);
    expect(status).toBe(0);
    expect(stdout).toContain("2 x 1 rows at depth 33\n");
    expect(stdout).toMatch(/^attention +30 +[\d.]+ +[\d.]+ +\d+%$/m);
    expect(stdout).toMatch(/^[\d.]+ tokens\/s; [\d.]+ over all rounds$/m);
  });

  test("--json", () => {
    const { stdout } = start("inhouse_profile", model, "--threads", "1", "--rounds", "1", "--json");
    const step = JSON.parse(stdout) as Record<string, number> & { ops: Record<string, unknown>[] };
    const sum = step.ops.reduce((all, { floorMs }) => all + Number(floorMs), 0);
    expect(step.floorMs).toBeCloseTo(sum, 2);
    expect(step.stepMs).toBeGreaterThan(step.floorMs / 2);
    expect(step.ops.find(({ op }) => op === "attention")).toMatchObject({ calls: 30 });
  });

  test.each([
    [[], "the model is missing; --help"],
    [[model, "--kv", "q4"], "--kv: expected f32, f16, q8_0 or q4_0"],
    [[model, "--deph", "1"], "no such option: --deph"],
    [[model, "--rows", "1.5"], "--rows: expected a whole number from 1"],
    [[model, model], "one model is profiled"],
  ])("refuses %j", (args, words) => {
    const { status, stdout, stderr } = start("inhouse_profile", ...args);
    expect([status, stdout, stderr]).toEqual([2, "", expect.stringContaining(words)]);
  });
});

describe("inhouse_evaluate", () => {
  const model = modelPath(smollm2);
  const folder = mkdtempSync(join(tmpdir(), "inhouse-evaluate-"));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));
  const program = join(import.meta.dirname, "../build/bench/native/inhouse_evaluate");
  const evaluate = (ids: string, ...args: string[]) => {
    const { status, stdout, stderr } = spawnSync(program, args, { input: ids, encoding: "utf8" });
    return [status, stdout, stderr];
  };

  test("log-probabilities", () => {
    const out = join(folder, "out");
    const told = evaluate("1 2 3\n", model, "--threads", "1", "--logprobs", out);
    const lines = [/^2 tokens, mean negative/, / MB of weights\n/].map((words): unknown =>
      expect.stringMatching(words),
    );
    expect(told).toEqual([0, ...lines]);
    expect(statSync(out).size).toBe(3 * 49152 * 4);
  });

  test.each([
    ["1", [], "the model is missing; --help"],
    ["1 x", [model], 'token ids: expected a whole number from 0 to 2147483647, got "x"'],
    ["1.5", [model], 'got "1.5"'],
    ["", [model], "token ids: expected some"],
    ["1", [model, "--foo"], "no such option: --foo"],
    ["1", [model, "--device", "gpu"], "--device: expected cpu or reference"],
    ["1", [model, "--greedy", "0"], "--greedy: expected a whole number from 1"],
    ["1", [model, "--threads"], "--threads: expected a value"],
    ["1", [model, model], "one model is run"],
  ])("refuses %j %j", (ids, args, words) => {
    expect(evaluate(ids, ...args)).toEqual([2, "", expect.stringContaining(words)]);
  });

  test("a file that cannot be written", () => {
    const out = join(folder, "nowhere/out");
    expect(evaluate("1", model, "--logprobs", out)).toEqual([1, "", expect.stringMatching(/^--logprobs: /)]);
  });

  test.skipIf(!existsSync("/dev/full"))("a full disk", () => {
    const told = evaluate("1 2", model, "--threads", "1", "--logprobs", "/dev/full");
    expect(told).toEqual([1, "", expect.stringContaining("/dev/full cannot be written")]);
  });
});
