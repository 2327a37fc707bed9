// The suite behind `npm run bench`: its options, a small measurement of a model, and the pages and pictures of results.
import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { describe, expect, test } from "vitest";

import { engineSection } from "../bench/engine-pages.mjs";
import { measureModel, ownThreads, threadCounts } from "../bench/models.mjs";
import { readOptions } from "../bench/options.mjs";
import { performancePage, summary } from "../bench/pages.mjs";
import { picture } from "../bench/picture.mjs";
import { modelTable, profileTable } from "../bench/tables.mjs";
import { modelPath, smollm2 } from "./support/models.ts";

const engine = (value: number, share: number) => ({ value, share, settings: { threads: 2 } });
const result = {
  machine: { name: "test", processor: 'A <fast> & "new" one', cores: 2 },
  models: [
    {
      file: "a<b>.gguf",
      figures: [
        {
          name: "prompt of 64",
          unit: "tokens/s",
          engines: { inhouse: engine(100, 0.5), peer: engine(50, 1.2) },
        },
        { name: "load", unit: "ms", engines: { inhouse: engine(1, 0.5), peer: engine(2, 0.2) } },
      ],
    },
  ],
};

/** Names of elements in order; throws where tags do not match or a text holds what belongs to markup. */
function elements(xml: string): string[] {
  const open: string[] = [];
  const names: string[] = [];
  for (const [, text, tag] of xml.matchAll(/([^<]*)(?:<([^<>]*)>)?/g)) {
    expect(text).not.toMatch(/>|&(?!#\d+;)/);
    if (tag === undefined) continue;
    expect(tag).toMatch(/^\/?[a-z]+(\s[\w:-]+="[^"<>]*")*\s*\/?$/i);
    const name = /\w+/.exec(tag)![0];
    if (tag.startsWith("/")) expect(open.pop()).toBe(name);
    else {
      names.push(name);
      if (!tag.endsWith("/")) open.push(name);
    }
  }
  expect(open).toEqual([]);
  return names;
}

test("a result as SVG", () => {
  const svg = picture(result);
  const names = elements(svg);
  expect(names[0]).toBe("svg");
  // The background, a legend of two, and a bar of each engine for the one figure that is a speed.
  expect(names.filter((name) => name === "rect")).toHaveLength(1 + 2 + 2);
  expect(svg).toContain("A &#60;fast&#62; &#38; &#34;new&#34; one");
  expect(svg).not.toMatch(/href|<script|<image|NaN|undefined/);
  const widths = [...svg.matchAll(/<rect x="230" y="\d+" width="([\d.]+)" height="12"/g)].map(([, w]) =>
    Number(w),
  );
  expect(widths[0] * 2).toBeCloseTo(widths[1], 0); // shares above 1 end at the edge
});

test("a model measured in two rounds", async () => {
  const lists = { prompts: [16], depths: [8], streams: [1, 2], tokens: 8 };
  const plan = { engines: ["inhouse"], threads: [1], rounds: 2, lists };
  const said: string[] = [];
  const model = (await measureModel(modelPath(smollm2), plan, (line: string) => said.push(line)))!;
  expect(said).toHaveLength(2);
  expect(model).toMatchObject({ file: smollm2, architecture: "llama", settings: { contextLength: 73 } });
  expect(model.figures.map(({ name }) => name as string)).toEqual([
    "prompt of 16",
    "decode at depth 8",
    "decode at depth 64",
    "2 streams at depth 64",
    "load",
    "load to first token",
    "peak memory",
  ]);
  for (const { name, engines, ratios } of model.figures) {
    expect(engines.inhouse, name).toMatchObject({ settings: { threads: 1 } });
    expect(engines.inhouse.rounds, name).toHaveLength(2);
    expect(engines.inhouse.share, name).toBeGreaterThan(0);
    expect(ratios).toEqual({});
  }
  expect(modelTable(model).split("\n")).toHaveLength(2 + 7);
});

test("a model that nothing fits is left out", async () => {
  const lists = { prompts: [10_000], depths: [9000], streams: [], tokens: 8 };
  const plan = { engines: ["inhouse"], threads: [1], rounds: 1, lists };
  const said: string[] = [];
  expect(await measureModel(modelPath(smollm2), plan, (line: string) => said.push(line))).toBeUndefined();
  expect(said).toEqual([
    expect.stringMatching(
      /left out: prompt of 10000 needs a context of 10001 tokens, more than the 8192/,
    ) as string,
    expect.stringContaining("left out: decode at depth 9000") as string,
  ]);
});

test("the TypeScript parts", () => {
  const url = pathToFileURL(join(import.meta.dirname, "../bench/typescript.mjs")).href;
  const program = `
    import { measureTypescript } from ${JSON.stringify(url)};
    const parts = await measureTypescript(process.argv[1], { time: 1, warmupTime: 0 });
    console.log(JSON.stringify(parts));`;
  const { stdout, stderr } = spawnSync(
    process.execPath,
    ["--input-type=module", "-e", program, modelPath(smollm2)],
    { encoding: "utf8" },
  );
  expect(stderr).toBe("");
  const parts = JSON.parse(stdout) as { name: string; value: number }[];
  expect(parts.map(({ name }) => name)).toContain("streaming to 16 readers, per token");
  for (const { name, value } of parts) expect(value, name).toBeGreaterThan(0);
}, 300_000);

test("numbers of threads to try", async () => {
  expect(threadCounts(4, 8)).toEqual([1, 4, 8]);
  expect(threadCounts(3, 16)).toEqual([1, 3, 8, 16]);
  expect(threadCounts(1, 1)).toEqual([1]);
  expect(await ownThreads(modelPath(smollm2))).toBeGreaterThan(0);
});

describe("options of the suite", () => {
  const peer = ["--peer", "node-llama-cpp"];

  test("defaults", () => {
    const { only, lists, rounds, kvType, threads, keep } = readOptions([]);
    expect([...only]).toEqual(["kernels", "models", "shapes", "typescript"]);
    const expected = { prompts: [64, 512], depths: [1024, 4096], streams: [1, 4, 16, 32], tokens: 64 };
    expect({ lists, rounds, kvType, threads, keep }).toEqual({
      lists: expected,
      rounds: 3,
      kvType: "f16",
      threads: undefined,
      keep: false,
    });
  });

  test.each([
    [[...peer], true],
    [[...peer, "--only", "models"], false],
    [[...peer, "--streams", "1"], false],
    [[...peer, "--rounds", "5"], false],
    [[...peer, "--kv-type", "q8_0"], false],
    [[...peer, modelPath(smollm2)], false],
    [["--only", "kernels", "--machine", "mine-2core"], true],
  ])("%j: kept as the machine's result: %s", (args, keep) => {
    expect(readOptions(args).keep).toBe(keep);
  });

  test.each([
    [["--only", "kernel"], "--only: expected kernels, models, shapes, typescript"],
    [["--rounds", "0"], "--rounds: expected a whole number from 1"],
    [["--threads", "1,x"], "--threads: expected a whole number from 1 to 512"],
    [["--depth", ""], "--depth: expected a whole number"],
    [["--kv-type", "q4"], "--kv-type: expected f32, f16, q8_0"],
    [["--peer", "divergence"], "--peer: expected node-llama-cpp"],
    [["--machine", "../x"], "--machine: expected a name"],
    [["--streems", "1"], "did you mean --streams?"],
    [["none.gguf"], "none.gguf: no such file"],
  ])("refuses %j", (args, words) => {
    expect(() => readOptions(args)).toThrow(words);
  });

  test("a wrong option ends the program before anything runs", () => {
    const run = join(import.meta.dirname, "../bench/run.mjs");
    const { status, stdout, stderr } = spawnSync(process.execPath, [run, "--rounds", "none"], {
      encoding: "utf8",
    });
    expect([status, stdout, stderr]).toEqual([2, "", expect.stringMatching(/^bench: --rounds: .*\n$/)]);
  });
});

describe("pages of results", () => {
  const figure = (name: string, value: number, engines = ["inhouse", "peer"]) => ({
    name,
    unit: "tokens/s",
    engines: Object.fromEntries(
      engines.map((of) => [
        of,
        {
          value,
          low: value,
          high: value,
          floor: { value, by: "reading" },
          share: 0.5,
          settings: { threads: 2 },
        },
      ]),
    ),
    ratios: engines.length > 1 ? { peer: 1 } : {},
  });
  const speed = (processor: string, figures: unknown[], more = {}) => ({
    machine: { name: processor, processor, cores: 2 },
    date: "2026-11-21T00:00:00Z",
    versions: { node: "20" },
    models: [
      {
        file: "a.gguf",
        architecture: "llama",
        quantization: "Q4_1",
        settings: { kvType: { k: "f16" }, contextLength: 9, rounds: 3 },
        limits: {},
        figures,
        warnings: ["load: rounds differ by 99%"],
      },
    ],
    ...more,
  });
  const kl = { file: "a.gguf", meanKl: 0.001, meanKlWithoutFirst: 0.001, top1Agreement: 0.97 };
  const accuracy = {
    machine: "mine",
    settings: { instructionSet: "avx2", cacheType: "f16" },
    reference: "float32",
    models: { a: kl },
  };
  const known = { engine: "peer 1", models: { a: kl } };

  test("the README shows the machine whose accuracy is known, and what it has", () => {
    const speeds = [
      ["other.speed.json", speed("Other", [figure("prompt of 512", 1)])],
      [
        "mine.speed.json",
        speed("Mine", [figure("prompt of 512", 7), figure("decode at depth 64", 3, ["inhouse"])]),
      ],
    ];
    const text = summary(speeds, [["mine.accuracy.json", accuracy]], known);
    expect(text).toContain("| a.gguf | 7.00 / 7.00 | 3.00 / – | – | – | 1.0e-3 / 1.0e-3 |");
    expect(text).toContain("Mine, 2 cores, 2026-11-21");
    expect(summary(speeds, [["third.accuracy.json", accuracy]], known)).toBe("");
    const peerless = summary(speeds, [["mine.accuracy.json", accuracy]], { engine: "peer 1", models: {} });
    expect(peerless).toContain("| 1.0e-3 / – |");
  });

  test("the engine's results, whole or in part", () => {
    const whole = {
      machine: { processor: "P", cores: 2 },
      versions: { node: "20", inhouse: "1", peer: "2" },
      model: "a.gguf",
      threads: 2,
      date: "2026-11-21T00:00:00Z",
      serving: {
        rounds: 1,
        cases: [
          {
            name: "8 streams",
            seconds: 2,
            tokensPerSecond: 512,
            eventLoopCpuMicrosecondsPerToken: 9,
            peers: { peer: { seconds: 12, ratio: 6 } },
          },
        ],
        pace: {
          name: "8 streams",
          gapBeforeMs: 30,
          gapDuringMs: 60,
          gapRatio: 2,
          promptShareOfItsRateAlone: 0.5,
        },
      },
      alone: { engine: 99, bare: 100, ratio: 0.99 },
      embeddings: [
        {
          texts: 10,
          textTokens: [3, 9],
          tokensPerSecond: 5,
          seconds: { inhouse: [1], peer: [7] },
          ratio: 7,
        },
      ],
      speculation: {
        results: [
          {
            case: "edit",
            repeats: true,
            way: "auto",
            ratio: 2,
            tokensPerSecond: 80,
            tokensPerSecondWithout: 40,
            draftTokens: 4,
            acceptedDraftTokens: 3,
          },
        ],
      },
      soak: {
        requests: 10,
        model: "b.gguf",
        cancelled: 2,
        warmUp: 5,
        problems: 0,
        blocksHeld: 0,
        memory: { warm: 1e8, last: 1e8, growth: 0 },
      },
    };
    const section = engineSection(["p.engine.json", whole]);
    for (const text of [
      "| 12.0 | 6.00x | 9.00 |",
      "2.00x), and the prompt keeps 50%",
      "99% (median",
      "7.00x |",
      "75% |",
    ])
      expect(section).toContain(text);
    expect(section).not.toMatch(/undefined|NaN/);
    const part = engineSection(["p.engine.json", { ...whole, serving: undefined, soak: undefined }]);
    expect(part).toContain("99% (median");
    expect(part).not.toMatch(/Bursts|undefined|NaN/);
  });

  test("results of a part of the suite", () => {
    const kernels = { isa: "avx2", runs: [{ threads: 2, readGB: 1, dotGMAC: 1, fmaGMAC: 1, products: [] }] };
    const speeds = [
      ["a.speed.json", speed("Models only", [figure("load", 1)])],
      ["b.speed.json", { ...speed("Kernels only", []), models: undefined, kernels }],
      ["c.speed.json", speed("Nothing fitted", [])],
    ];
    const small = {
      name: "small",
      version: "1.0.0",
      bytes: 6.2e6,
      packages: 4,
      installSeconds: 0.43,
      scripts: [],
    };
    const large = { ...small, name: "large", scripts: ["large", "other"], importMs: 222, loadMs: 496.4 };
    const installation = {
      machine: { processor: "Mine", cores: 2 },
      date: "2026-11-21T00:00:00Z",
      versions: { node: "20.1.0", npm: "11.0.0" },
      from: "build-prebuilds",
      rounds: 11,
      installs: 1,
      engines: [{ ...small, importMs: 29.3, loadMs: 30.9 }, large],
    };
    const speeds3 = { shipped: 99, "g++": 100, clang: 90 };
    const products = [
      { type: "Q4_K", rows: 2, cols: 256, vectorGB: speeds3, fourGB: speeds3, batch64GMAC: speeds3 },
    ].map((product) => ({ ...product, batch512GMAC: { shipped: 3, "g++": 2, clang: 2.5 } }));
    const compilation = {
      machine: { processor: "Mine", cores: 2 },
      date: "2026-11-21T00:00:00Z",
      versions: { "g++": "12.2.0", zig: "0.17.1" },
      isa: "avx2",
      rounds: 3,
      products,
    };
    const steps = [
      { name: "a token", readGB: 58.1, stepMs: 20, floorMs: 17, ops: [] as object[] },
      { name: "a prompt", readGB: 58.1, stepMs: 100, floorMs: 50, ops: [{ op: "add", ms: 0.5, floorMs: 0 }] },
    ];
    steps[0].ops.push({ op: "linear head", ms: 4, floorMs: 3 }, { op: "add", ms: 0.1, floorMs: 0 });
    expect(profileTable({ steps }).split("\n").slice(2)).toEqual([
      "| linear head | 4.00 (75%) | 0.00 |",
      "| **step** | 20.0 (85%) | 100 (50%) |",
      "| read bandwidth, GB/s | 58.1 | 58.1 |",
    ]);
    const page = performancePage({
      speeds,
      engines: [],
      accuracies: [["a.accuracy.json", accuracy]],
      counts: [],
      compilations: [["mine.compilers.json", compilation]],
      installations: [["mine.install.json", installation]],
      peer: { engine: "peer 1", models: {} },
    });
    expect(page).toContain("| small 1.0.0 | 6.20 | 4 | 0.43 | none | 29 | 31 |");
    expect(page).toContain("| large, other | 222 | 496 |");
    expect(page).toContain("medians of 1 installation and 11 imports, inhouse from `build-prebuilds`");
    expect(page).toContain("| Q4_K, 2 × 256 | 0.99 (g++) | 0.99 (g++) | 0.99 (g++) | 1.20 (clang) |");
    expect(page).toContain("- load: rounds differ by 99%");
    expect(page).toContain("2 threads, avx2:");
    expect(page).toContain("### Nothing fitted");
    expect(page).not.toMatch(/undefined|NaN/);
  });
});
