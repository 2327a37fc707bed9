// `inhouse bench serving`: requests are a function of the seed, figures add up, and what is asked wrongly is refused.
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { leastSteps, levelOf, percentilesOf } from "../lib/cli/bench/serving.ts";
import type { Span } from "../lib/cli/bench/work.ts";
import { parseLengths, plan, type Workload } from "../lib/cli/bench/workload.ts";
import type { ServingResult } from "../lib/cli/commands/bench-serving.ts";
import { ggufAdapter, tinyPairs } from "./support/adapters.ts";
import { tinyModel, writeGguf } from "./support/gguf-writer.ts";
import { device, modelPath, smollm2 } from "./support/models.ts";

const program = join(import.meta.dirname, "../dist/cli/main.js");
const model = modelPath(smollm2);
const workload: Workload = {
  rate: 50,
  amount: { requests: 5000 },
  promptTokens: parseLengths("32-256"),
  answerTokens: parseLengths("lognormal:128,64"),
  sharedTokens: 0,
  cancelled: 0.2,
  seed: 1,
};
const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-bench-serving-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

function run(command: string, args: string[]): Promise<Ended> {
  const child = spawn(command, args);
  let [stdout, stderr] = ["", ""];
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  return new Promise((resolve) => child.on("close", (code) => resolve({ code, stdout, stderr })));
}

const inhouse = (args: string[]): Promise<Ended> =>
  run(process.execPath, [program, "bench", "serving", ...args, "--device", device]);

async function measured(...args: string[]): Promise<ServingResult> {
  const { code, stdout, stderr } = await inhouse([...args, "--json"]);
  expect([code, stderr]).toEqual([0, ""]);
  return JSON.parse(stdout) as ServingResult;
}

describe("a workload", () => {
  test("is a function of its seed", () => {
    expect(plan(workload)).toEqual(plan({ ...workload }));
    const other = plan({ ...workload, seed: 2 });
    expect(other.map(({ at }) => at)).not.toEqual(plan(workload).map(({ at }) => at));
    // Fewer requests are the first of more, and whether some are cancelled changes nothing else.
    expect(plan({ ...workload, amount: { requests: 10 } })).toEqual(plan(workload).slice(0, 10));
    const whole = plan(workload).map(({ cancelAfter: _, ...rest }) => rest);
    expect(plan({ ...workload, cancelled: 0 })).toEqual(whole);
  });

  test("has the rate, the lengths and the share of cancelled requests that were asked for", () => {
    const requests = plan(workload);
    expect(requests).toHaveLength(5000);
    const gaps = requests.map(({ at }, i) => at - (requests[i - 1]?.at ?? 0));
    expect(Math.min(...gaps)).toBeGreaterThanOrEqual(0);
    expect(mean(gaps)).toBeCloseTo(20, -0.3);
    expect(mean(gaps.map((gap) => (gap - 20) ** 2)) ** 0.5 / 20).toBeCloseTo(1, 1); // as of a Poisson process
    const prompts = requests.map(({ promptTokens }) => promptTokens);
    expect([Math.min(...prompts), Math.max(...prompts)]).toEqual([32, 256]);
    const answers = requests.map(({ answerTokens }) => answerTokens);
    expect(Math.abs(mean(answers) - 128)).toBeLessThan(4);
    expect(Math.abs(mean(answers.map((n) => (n - mean(answers)) ** 2)) ** 0.5 - 64)).toBeLessThan(6);
    const cancelled = requests.filter(({ cancelAfter }) => cancelAfter !== undefined);
    expect(Math.abs(cancelled.length / 5000 - 0.2)).toBeLessThan(0.02);
    for (const { cancelAfter, answerTokens } of cancelled) expect(cancelAfter).toBeLessThan(answerTokens);
  });

  test("lasts as long as it is to, or comes at once", () => {
    const timed = plan({ ...workload, amount: { seconds: 10 } });
    expect(timed.at(-1)!.at).toBeLessThan(10_000);
    expect(plan(workload).slice(0, timed.length)).toEqual(timed);
    expect(plan(workload)[timed.length].at).toBeGreaterThanOrEqual(10_000);
    const atOnce = plan({ ...workload, rate: "max" });
    expect(atOnce.every(({ at }) => at === 0)).toBe(true);
  });

  test.each(["0", "-1", "3-2", "0-4", "lognormal:0,1", "lognormal:5", "normal:5,1", "1e3", "", "2000000"])(
    "has no lengths %j",
    (text) => expect(() => parseLengths(text)).toThrow(/N, N-M or lognormal:MEAN,SD/),
  );

  test("of one length has that length alone", () => {
    const lengths = plan({
      ...workload,
      promptTokens: parseLengths("64"),
      answerTokens: parseLengths("lognormal:7,0"),
    });
    expect(
      new Set(lengths.map(({ promptTokens, answerTokens }) => `${promptTokens} ${answerTokens}`)),
    ).toEqual(new Set(["64 7"]));
  });
});

describe("figures", () => {
  test("are values that were measured", () => {
    expect(percentilesOf([])).toBeNull();
    expect(percentilesOf([7])).toEqual({ count: 1, mean: 7, p50: 7, p90: 7, p95: 7, p99: 7, max: 7 });
    const hundred = Array.from({ length: 100 }, (_, i) => 100 - i);
    expect(percentilesOf(hundred)).toEqual({
      count: 100,
      mean: 50.5,
      p50: 50,
      p90: 90,
      p95: 95,
      p99: 99,
      max: 100,
    });
  });

  test("fewer than three looks are no level", () => {
    expect([levelOf([]), levelOf([1, 2])]).toEqual([null, null]);
    expect(levelOf([1, 2, 6])).toEqual({ mean: 3, max: 6 });
  });

  test("the least steps do all that was done, in full batches", () => {
    const steps: Span[][] = [];
    const work = { step: (spans: readonly Span[]) => (steps.push([...spans]), {}) as never };
    const usage = (promptTokens: number, cachedTokens: number, completionTokens: number) => ({
      usage: { promptTokens, cachedTokens, completionTokens },
    });
    const served = [usage(10, 0, 3), usage(10, 8, 2), usage(5, 0, 1), usage(9, 0, 0), {}];
    leastSteps(served, work, { maxConcurrent: 2, maxBatchTokens: 8 });
    expect(steps).toEqual([
      [{ position: 0, count: 8, output: false }],
      [
        { position: 8, count: 2, output: true },
        { position: 8, count: 2, output: true },
      ],
      [
        { position: 10, count: 1, output: true },
        { position: 10, count: 1, output: true },
      ],
      [
        { position: 11, count: 1, output: true },
        { position: 0, count: 5, output: true },
      ],
    ]);
  });
});

describe("inhouse bench serving", () => {
  const small = [model, "--prompt-tokens", "8-40", "--answer-tokens", "2-12"];

  test("prints a document whose figures add up", async () => {
    const args = [
      "--requests",
      "12",
      "--rate",
      "200",
      "--shared-tokens",
      "64",
      "--max-concurrent",
      "3",
      "--seed",
      "5",
    ];
    const result = await measured(...small, ...args);
    expect(result.workload).toEqual({
      rate: 200,
      amount: { requests: 12 },
      promptTokens: "8-40",
      answerTokens: "2-12",
      sharedTokens: 64,
      cancelled: 0,
      seed: 5,
    });
    const planned = plan({
      ...workload,
      ...result.workload,
      promptTokens: parseLengths("8-40"),
      answerTokens: parseLengths("2-12"),
    });
    const sum = (of: (one: (typeof planned)[number]) => number) =>
      planned.reduce((all, one) => all + of(one), 0);
    const { figures, settings, limits } = result;
    expect(figures.requests).toEqual({ finished: 12, cancelled: 0, refused: 0, failed: 0 });
    expect(figures.errors).toEqual({});
    expect(figures.tokens.prompt).toBe(sum(({ promptTokens }) => 64 + promptTokens));
    expect(figures.tokens.answer).toBe(sum(({ answerTokens }) => answerTokens));
    expect(figures.tokens.cached).toBeGreaterThanOrEqual(9 * 64); // of all but those that began at once
    expect(figures.tokens.cached % 32).toBe(0);
    expect([figures.queueMs, figures.timeToFirstTokenMs, figures.totalMs].map((one) => one?.count)).toEqual([
      12, 12, 12,
    ]);
    expect(figures.timeBetweenTokensMs!.count).toBe(figures.tokens.answer - 12);
    for (const one of [
      figures.queueMs!,
      figures.timeToFirstTokenMs!,
      figures.timeBetweenTokensMs!,
      figures.totalMs!,
    ]) {
      const rising = [0, one.p50, one.p90, one.p95, one.p99, one.max];
      expect(rising).toEqual(rising.toSorted((a, b) => a - b));
    }
    const { rates, engine } = figures;
    expect(rates.requestsPerSecond * figures.seconds).toBeCloseTo(12, 6);
    expect(rates.answerTokensPerSecond * figures.seconds).toBeCloseTo(figures.tokens.answer, 6);
    expect(settings.maxConcurrent).toBe(3);
    expect(engine.running?.max ?? 0).toBeLessThanOrEqual(3);
    expect(engine.steps * engine.stepTokens).toBeGreaterThanOrEqual(
      figures.tokens.prompt - figures.tokens.cached + figures.tokens.answer - 12 - 1e-6,
    );
    expect(engine.batchTokens.counts.reduce((sum, count) => sum + count)).toBe(engine.steps);
    expect(engine.kv).toMatchObject({ tokens: settings.kvTokens });
    expect(figures.share).toBeCloseTo(figures.floor.seconds / engine.busySeconds, 9);
    expect(figures.floor.seconds).toBeGreaterThan(0);
    expect(limits.readBytes).toBeGreaterThan(0);
  });

  test("counts what is cancelled, and what finds the queue full", async () => {
    // Long answers: none ends before it is cancelled, or before all have come.
    const long = [...small, "--answer-tokens", "200"];
    const cancelled = await measured(...long, "--requests", "6", "--cancel", "1", "--seed", "171");
    expect(cancelled.figures.requests).toEqual({ finished: 0, cancelled: 6, refused: 0, failed: 0 });
    expect(cancelled.figures.totalMs).toBeNull();
    expect(cancelled.figures.tokens.answer).toBeLessThan(6 * 200);
    const full = await measured(...long, "--requests", "9", "--max-concurrent", "1", "--max-queue", "2");
    expect(full.figures.requests).toEqual({ finished: 3, cancelled: 0, refused: 6, failed: 0 });
    expect(full.figures.errors).toEqual({ ERR_INHOUSE_QUEUE_FULL: 6 });
  });

  test("prints a table, and serves with an adapter", async () => {
    const file = writeGguf(join(folder, "tiny.gguf"), tinyModel());
    const adapter = join(folder, "adapter.gguf");
    writeFileSync(adapter, ggufAdapter(tinyPairs(7), 8));
    const args = ["--prompt-tokens", "4", "--answer-tokens", "3", "--requests", "2", "--context", "16"];
    const { code, stdout, stderr } = await inhouse([file, ...args, "--adapter", adapter]);
    expect([code, stderr]).toEqual([0, ""]);
    for (const words of [
      "finished 2, cancelled 0",
      "p50",
      "time to first token",
      "time between tokens",
      "busy",
    ])
      expect(stdout).toContain(words);
    expect(stdout).not.toMatch(/NaN|undefined|null/);
    expect(await inhouse([file, ...args, "--adapter", file])).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("ERR_INHOUSE_ADAPTER_INVALID") as string,
    });
  });

  test.each([
    [["--rate", "-1"], "--rate: expected a number from 0 to 10000 or max"],
    [["--rate", "fast"], "--rate: expected a number"],
    [["--cancel", "1.5"], "--cancel: expected a number from 0 to 1"],
    [["--prompt-tokens", "5-2"], "--prompt-tokens: expected tokens"],
    [["--requests", "0"], "--requests: expected a whole number from 1"],
    [["--duration", "5"], "--duration wants a --rate"],
    [["--duration", "5", "--requests", "5", "--rate", "1"], "either --requests or --duration"],
    [["--duration", "80000", "--rate", "1000"], "more than 1000000 requests"],
    [["--duration", "0", "--rate", "1"], "no request comes within --duration"],
    [["--prompt-tokens", "100", "--context", "128"], "needs a context of 165 tokens, more than the 128"],
    [["--prompt-tokens", "9000"], "more than the 8192 there are"],
    [["--kv-tokens", "32"], "--kv-tokens is 32; expected at least"],
    [["--streams", "4"], "unknown flag --streams"],
  ])("refuses %j", async (args, words) => {
    const { code, stdout, stderr } = await inhouse([model, ...args]);
    expect([code, stdout, stderr]).toEqual([2, "", expect.stringContaining(words)]);
  });

  test.skipIf(process.platform === "win32")("shows progress on a terminal, and Ctrl-C ends it", async () => {
    const python = join(import.meta.dirname, "support/terminal.py");
    const steps = JSON.stringify([["serving ", "\x03"]]);
    const args = [model, "--rate", "2", "--duration", "600", "--device", device];
    const { code, stdout } = await run("python3", [
      python,
      steps,
      process.execPath,
      program,
      "bench",
      "serving",
      ...args,
    ]);
    expect(code).toBe(130);
    expect(stdout).toMatch(/serving ░+ +0% \d+ of \d+ requests/);
    expect(stdout).not.toMatch(/Error|p50/);
  });
});
