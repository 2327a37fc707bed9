import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

import { InhouseError } from "../lib/errors.js";
import { nearest } from "../lib/options.js";
import {
  parseSamplingFlag,
  resolveSampling,
  samplingAliases,
  samplingFlag,
  samplingFromMetadata,
  samplingNames,
  samplingSettings,
  type SamplingName,
  type SamplingOptions,
} from "../lib/sampling.js";

function refusal(f: () => unknown): { code: string; message: string } {
  try {
    f();
  } catch (error) {
    if (InhouseError.is(error)) return { code: error.code, message: error.message };
    throw error;
  }
  throw new Error("nothing thrown");
}
const refused = (options: unknown): string => {
  const { code, message } = refusal(() => resolveSampling(options as SamplingOptions));
  expect(code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
  return message;
};
const metadata = (entries: Record<string, unknown>): ReadonlyMap<string, { value: unknown }> =>
  new Map(Object.entries(entries).map(([key, value]) => [key, { value }]));

const snake = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
const numbers = samplingNames.flatMap((name) => {
  const setting = samplingSettings[name];
  return "min" in setting ? [{ name, ...setting }] : [];
});

describe("resolveSampling", () => {
  it("gives every setting its default", () => {
    const resolved = resolveSampling({ seed: 5 });
    expect(resolved).toMatchObject({
      temperature: 0.8,
      topK: 40,
      topP: 0.95,
      minP: 0.05,
      typicalP: 1,
      seed: 5,
    });
    expect(Object.keys(resolved)).toEqual(samplingNames);
    expect(resolved.logitBias).toEqual([]);
    expect(resolved.dryBreakers).toEqual(["\n", ":", '"', "*"]);
  });

  it("prefers options over the file's values over defaults, and treats undefined as absent", () => {
    const file = { temperature: 0.6, topK: 20 };
    const resolved = resolveSampling({ temperature: 0, topK: undefined }, file);
    expect([resolved.temperature, resolved.topK, resolved.topP]).toEqual([0, 20, 0.95]);
  });

  it("draws a seed of 32 bits where none is given", () => {
    const seeds = new Set(Array.from({ length: 20 }, () => resolveSampling().seed));
    expect(seeds.size).toBeGreaterThan(15);
    for (const seed of seeds) expect(Number.isInteger(seed) && seed >= 0 && seed < 2 ** 32).toBe(true);
  });

  it("takes the ends of every range and nothing beyond", () => {
    for (const { name, kind, min, max } of numbers) {
      for (const value of [min, max]) expect(resolveSampling({ [name]: value })[name]).toBe(value);
      const step = kind === "integer" ? 1 : 1e-6;
      const beyond = max === Number.MAX_SAFE_INTEGER ? 2 ** 53 : max + step;
      for (const value of [min - step, beyond, NaN, Infinity, -Infinity, "1", null, true, [1], {}, 1n]) {
        const message = refused({ [name]: value });
        expect(message).toMatch(
          new RegExp(`^option '${name}' is .*; expected a (whole )?number from .* to .*`),
        );
      }
      if (kind === "integer") expect(refused({ [name]: 1.5 })).toContain("expected a whole number from");
    }
    expect(refused({ topP: 1.5 })).toBe("option 'topP' is 1.5; expected a number from 0 to 1");
    expect(refused({ topK: "40" })).toBe(
      "option 'topK' is '40'; expected a whole number from 0 to 2147483647",
    );
  });

  it("takes logit bias as object or Map", () => {
    expect(resolveSampling({ logitBias: { 5: 1.5, 7: -Infinity } }).logitBias).toEqual([[5, 1.5], [7, -Infinity]]); // prettier-ignore
    expect(resolveSampling({ logitBias: new Map([[9, -2]]) }).logitBias).toEqual([[9, -2]]);
    for (const logitBias of [
      null,
      5,
      "x",
      [1, 2],
      { a: 1 },
      { "-1": 1 },
      { 1.5: 1 },
      { "": 1 },
      { "0x1": 1 },
    ]) {
      expect(refused({ logitBias })).toContain("logitBias");
    }
    for (const bias of [NaN, Infinity, 1e7, "1", null]) {
      expect(refused({ logitBias: { 5: bias } })).toContain(
        "-Infinity or a number from -1e6 to 1e6; that of token 5 is",
      );
    }
    expect(refused({ logitBias: new Map([["5", {}]]) })).toContain("token 5");
    expect(refused({ logitBias: new Map([[2 ** 31, 1]]) })).toContain("no token id");
  });

  it("checks breakers and copies them", () => {
    const dryBreakers = ["\n"];
    const resolved = resolveSampling({ dryBreakers });
    dryBreakers.push("x");
    expect(resolved.dryBreakers).toEqual(["\n"]);
    for (const value of ["x", [""], [1], {}, null, new Array<string>(65).fill("x"), ["x".repeat(1025)]]) {
      expect(refused({ dryBreakers: value })).toContain("option 'dryBreakers' is");
    }
  });

  it("has names that other programs use beside its own", () => {
    const meant: [string, SamplingName][] = [
      ["top_p", "topP"], ["topp", "topP"], ["top-k", "topK"], ["temp", "temperature"],
      ["tempurature", "temperature"], ["temperatur", "temperature"], ["repetition_penalty", "repeatPenalty"],
      ["min_p", "minP"], ["typical", "typicalP"], ["top_n_sigma", "topNSigma"], ["Seed", "seed"],
    ]; // prettier-ignore
    for (const [name, expected] of meant) {
      expect(nearest(name, samplingNames, samplingAliases)).toBe(expected);
    }
    for (const other of ["maxTokens", "signal", "logprobs", "template", "toString", "__proto__"]) {
      expect(nearest(other, samplingNames, samplingAliases)).toBeUndefined();
    }
  });
});

describe("samplingFromMetadata", () => {
  it("reads a file's recommendations", () => {
    const file = samplingFromMetadata(
      metadata({
        "general.sampling.temp": Math.fround(0.7),
        "general.sampling.top_p": Math.fround(0.95),
        "general.sampling.top_k": 64,
        "general.sampling.penalty_repeat": Math.fround(1.05),
        "general.sampling.penalty_last_n": 256n,
        "general.sampling.mirostat": 2,
        "general.name": "x",
      }),
    );
    expect(file).toEqual({ temperature: 0.7, topP: 0.95, topK: 64, repeatPenalty: 1.05, penaltyLastN: 256 });
    expect(samplingFromMetadata(metadata({ "general.sampling.top_k": -1 }))).toEqual({ topK: 0 });
    expect(samplingFromMetadata(metadata({}))).toEqual({});
  });

  it("refuses bad ones by their key", () => {
    for (const value of [-1, NaN, Infinity, "0.7", true, { length: 3 }, 101n]) {
      const { code, message } = refusal(() =>
        samplingFromMetadata(metadata({ "general.sampling.temp": value })),
      );
      expect(code).toBe("ERR_INHOUSE_GGUF_INVALID");
      expect(message).toContain("general.sampling.temp is ");
    }
  });
});

describe("flags", () => {
  it("are spelled with dashes", () => {
    expect(samplingFlag("topNSigma")).toBe("top-n-sigma");
    expect(samplingFlag("seed")).toBe("seed");
  });

  it("parse to values that resolve", () => {
    expect(parseSamplingFlag("topP", ["0.5", "1e-1"])).toBe(0.1);
    expect(parseSamplingFlag("penaltyLastN", ["-1"])).toBe(-1);
    expect(parseSamplingFlag("dryBreakers", ["a", "b"])).toEqual(["a", "b"]);
    expect(parseSamplingFlag("logitBias", ["3=1.5", "4=-inf"])).toEqual(new Map([[3, 1.5], [4, -Infinity]])); // prettier-ignore
    const bad: [SamplingName, string][] = [
      ["topP", "2"], ["topP", ""], ["topP", "0x1"], ["topK", "1.5"], ["topK", " 4"], ["seed", "many"],
      ["logitBias", "3"], ["logitBias", "a=1"], ["logitBias", "3=x"], ["logitBias", "3=inf"], ["dryBreakers", ""],
    ]; // prettier-ignore
    for (const [name, text] of bad) {
      const { code, message } = refusal(() => parseSamplingFlag(name, [text]));
      expect(code).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
      expect(message).toContain(`--${samplingFlag(name)}`);
    }
  });
});

describe("the native core", () => {
  const read = (path: string): string =>
    readFileSync(new URL(`../native/engine/${path}`, import.meta.url), "utf8");

  it("has the same defaults", () => {
    const header = read("sampling.h");
    for (const { name, default: value } of numbers) {
      if (name === "seed") continue;
      const [, text] = new RegExp(`${snake(name)} = (-?[\\d.]+)f?;`).exec(header) ?? [];
      expect(Number(text), name).toBe(value);
    }
  });

  it("has the same ranges", () => {
    const source = read("sampling_params.cpp");
    for (const { name, kind, min, max } of numbers) {
      if (name === "seed") continue;
      const call = new RegExp(
        `check(_integer)?\\("${name}", params\\.${snake(name)}, (-?[\\d.]+)f?(?:, ([\\d.]+))?\\);`,
      );
      const [, integer, low, high] = call.exec(source) ?? [];
      expect(integer !== undefined, name).toBe(kind === "integer");
      expect(Number(low), name).toBe(min);
      expect(integer === undefined ? Number(high) : 2 ** 31 - 1, name).toBe(max);
    }
  });
});
