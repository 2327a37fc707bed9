// How streams are timed, what there is room for, and what figures say of it. Engines are made up, with a clock of their own.
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";

import { type Case, casesOf, fitting, leastTokens, nameOf } from "../lib/cli/bench/cases.ts";
import { figuresOf, limitNoiseOf, noiseOf, untimedOf } from "../lib/cli/bench/figures.ts";
import { measureRound, type Open, promptSource, type Samples } from "../lib/cli/bench/measure.ts";
import type { ModelWork } from "../lib/cli/bench/work.ts";

const stepMs = 10;
let clock = 0;
beforeEach(() => {
  clock = 0;
  vi.spyOn(performance, "now").mockImplementation(() => clock);
});
afterEach(() => vi.restoreAllMocks());

/**
 * An engine that gives every stream a token in each step, one stream after the other; stream i writes its first in step
 * `begins[i]`. It remembers how it was opened.
 */
function engine(begins: readonly number[]) {
  const opened: Parameters<Open>[0][] = [];
  const open: Open = async (settings) => {
    opened.push(settings);
    await Promise.resolve();
    let [step, made, running] = [0, 0, false];
    let waiting: { until: number; go: () => void }[] = [];
    const until = (wanted: number) =>
      new Promise<void>((resolve) => {
        waiting.push({ until: wanted, go: resolve });
        if (!running) void run();
      });
    async function run() {
      running = true;
      await new Promise(setImmediate);
      while (waiting.length > 0) {
        clock = ++step * stepMs;
        const now = waiting.filter((one) => one.until <= step);
        waiting = waiting.filter((one) => one.until > step);
        for (const { go } of now) {
          go();
          await new Promise(setImmediate);
          clock += 0.01; // the next stream hears of the step a little later
        }
      }
      running = false;
    }
    return {
      async *generate(_prompt, tokens) {
        const first = step + 1 + (begins[made++ % begins.length] ?? 0);
        for (let i = 0; i < tokens; ++i) {
          await until(first + i);
          yield 1;
        }
      },
      close: () => Promise.resolve(),
    };
  };
  return { open, opened };
}

const streams = (count: number, tokens: number): Case => ({
  kind: "decode",
  streams: count,
  depth: 64,
  tokens,
});

describe("measureRound", () => {
  test("streams in step count every one of their tokens", async () => {
    const { open, opened } = engine([0, 0, 0, 0]);
    const one = streams(4, 8);
    const { rates } = await measureRound(open, [one], promptSource(1000), 500);
    expect(rates[nameOf(one)]).toBeCloseTo(4 * (1000 / stepMs), 6);
    expect(opened).toEqual([
      { streams: 1, contextLength: 500 },
      { streams: 4, contextLength: 64 + 8 + 1 },
    ]);
  });

  test("streams are timed while all of them write", async () => {
    const one = streams(3, 8);
    const { rates } = await measureRound(engine([0, 2, 5]).open, [one], promptSource(1000), 500);
    expect(rates[nameOf(one)]).toBeCloseTo(3 * (1000 / stepMs), 6);
  });

  test("one stream", async () => {
    const one = streams(1, 5);
    const { rates } = await measureRound(engine([0]).open, [one], promptSource(1000), 500);
    expect(rates[nameOf(one)]).toBeCloseTo(1000 / stepMs, 6);
  });

  test("what cannot be timed is left out, and the rest is kept", async () => {
    const cases = [streams(1, 5), streams(2, 5)];
    const { rates } = await measureRound(engine([0, 20, 0, 20]).open, cases, promptSource(1000), 500);
    expect(Object.keys(rates)).toEqual(["decode at depth 64"]);
  });
});

describe("fitting", () => {
  test.each([
    [1, 64, 512, 2],
    [8, 64, 512, 2],
    [9, 64, 512, 3], // the last begins a step later
    [32, 64, 512, 6],
    [2, 64, 8, 12],
  ])("%d streams at depth %d in steps of %d tokens need %d tokens each", (count, depth, batch, least) => {
    expect(leastTokens(count, depth, batch)).toBe(least);
  });

  test("says what each case lacks", () => {
    const lists = { prompts: [16], depths: [1024], streams: [1, 2, 16], tokens: 4 };
    const { fit, misfits } = fitting(casesOf(lists), { contextLength: 600, maxBatchTokens: 8 });
    expect(fit.map(nameOf)).toEqual(["prompt of 16", "decode at depth 64"]);
    expect(misfits).toEqual([
      { name: "decode at depth 1024", reason: expect.stringMatching(/needs a context of 1029 .* the 600/) },
      { name: "2 streams at depth 64", reason: expect.stringMatching(/need at least 12 tokens .* the 4/) },
      { name: "16 streams at depth 64", reason: expect.stringMatching(/need steps of 16 .* the 8/) },
    ]);
  });

  test("one stream of one token is no rate, and a prompt is its first token's", () => {
    const lists = { prompts: [1], depths: [1024], streams: [], tokens: 1 };
    const { fit, misfits } = fitting(casesOf(lists), { contextLength: 2000 });
    expect(fit.map(nameOf)).toEqual(["prompt of 1"]);
    expect(misfits.map(({ reason }) => reason)).toEqual([
      expect.stringMatching(/^decode at depth 1024 needs at least 2 tokens .* the 1 to be written/),
    ]);
  });

  test("steps grow with the streams where no option says how long they are", () => {
    const lists = { prompts: [], depths: [], streams: [1024], tokens: 600 };
    expect(fitting(casesOf(lists), { contextLength: 1000 }).misfits).toEqual([]);
  });
});

describe("figures", () => {
  const limits = { readBytes: 100, dotMultiplyAdds: 100, floatMultiplyAdds: 100, bf16MultiplyAdds: 100 };

  test("a round without a peak of memory", () => {
    const work = { weightBytes: 1, prompt: () => [], decode: () => [] } as unknown as ModelWork;
    const round: Samples = { loadMs: 1, firstTokenMs: 2, peakBytes: 30, rates: {} };
    const figures = figuresOf([round, { ...round, loadMs: 3, peakBytes: undefined }], [], work, limits, 512);
    expect(figures.map(({ name, rounds }) => [name, rounds])).toEqual([
      ["load", [1, 3]],
      ["load to first token", [2, 2]],
      ["peak memory", [30]],
    ]);
  });

  test("cases that not every round could time are named with their reason", () => {
    const round = (rates: Samples["rates"]): Samples => ({ loadMs: 1, firstTokenMs: 2, rates });
    const cases = [streams(1, 5), streams(2, 5), streams(3, 5)];
    const whole = { "decode at depth 64": 1, "3 streams at depth 64": 1 };
    expect(untimedOf([round(whole), round(whole), round({ "3 streams at depth 64": 1 })], cases)).toEqual([
      "decode at depth 64: timed in 2 of 3 rounds, in the others its tokens came all together (more --decode-tokens help)",
      "2 streams at depth 64: not timed, its streams never wrote at once (more --decode-tokens help)",
    ]);
  });

  test("figures beyond their floor are named", () => {
    const figure = {
      name: "prompt of 64",
      unit: "tokens/s" as const,
      value: 1,
      low: 1,
      high: 1,
      rounds: [1],
    };
    const floor = { value: 1, by: "reading" as const };
    expect(noiseOf([{ ...figure, floor, share: 1.04 }])).toEqual([]);
    expect(noiseOf([{ ...figure, floor, share: 1.14 }])).toEqual([
      expect.stringMatching(/^prompt of 64: 114% of the floor/),
    ]);
  });

  test("limits that differ are named with their threads", () => {
    expect(limitNoiseOf([limits, { ...limits, readBytes: 50 }], 2)).toEqual([
      expect.stringMatching(/^limit readBytes with 2 threads: rounds differ by \d+%/),
    ]);
    expect(limitNoiseOf([limits, limits], 1)).toEqual([]);
  });
});

test("prompts of a tiny vocabulary stay within it", () => {
  expect(promptSource(1)(3)).toEqual([0, 0, 0]);
  const prompt = promptSource(1000)(400);
  expect(new Set(prompt).size).toBe(400);
  expect(Math.min(...prompt)).toBeGreaterThanOrEqual(125);
  expect(Math.max(...prompt)).toBeLessThan(625);
});
