// The bench suite: kernels (native executables), then models beside their peers, then models of known shapes with random
// weights, for sizes and types beyond the files at hand, then the TypeScript parts.
//
//   npm run bench -- [MODEL.gguf …] [--only kernels,models,shapes,typescript] [--peer node-llama-cpp] [--rounds 3]
//                    [--threads N,…] [--prompt 64,512] [--depth 1024,4096] [--streams 1,4,16,32] [--decode-tokens 64]
//                    [--kv-type f16] [--machine NAME] [--json OUT]
//
// Without models, those in INHOUSE_MODELS or .cache/models are measured. Without --threads, the engines run with one
// thread, with as many as inhouse takes by itself, and with half and all of the processors. Needs `npm run build`, and
// `npm install` in bench/peers for `--peer`.
//
// The result of a whole run beside a peer, without models or lists of one's own, goes to
// bench/results/MACHINE.speed.json, which docs/performance.md and its pictures are made from
// (node scripts/performance-doc.mjs). Other results go there where --machine says so, and to OUT.
import { existsSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { availableParallelism, cpus, tmpdir, totalmem } from "node:os";
import { join } from "node:path";

import { outputOf } from "./child.mjs";
import { ResultFile, start, UsageError } from "./start.mjs";

start(import.meta.filename, "bench");
const { default: machineLimits } = await import("../dist/cli/bench/limits.js");
const { measureModel, ownThreads, threadCounts } = await import("./models.mjs");
const { readOptions } = await import("./options.mjs");
const { kernelTable, modelTable, plural, profileTable, typescriptTable } = await import("./tables.mjs");
const { measureTypescript } = await import("./typescript.mjs");

const root = join(import.meta.dirname, "..");
const cores = availableParallelism();
const say = (line) => process.stderr.write(`${line}\n`);

const options = readOptions(process.argv.slice(2));
const { only } = options;

const processor = cpus()[0]?.model.trim() ?? "unknown processor";
const slug = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
const machine = options.machine ?? `${slug(processor)}-${cores}core`;

function modelPaths() {
  if (options.models.length > 0) return options.models;
  const folder = process.env.INHOUSE_MODELS ?? join(root, ".cache/models");
  const names = (existsSync(folder) ? readdirSync(folder) : []).filter((name) => name.endsWith(".gguf"));
  return names.sort().map((name) => join(folder, name));
}

const program = join(root, "build/bench/native/inhouse_kernels_bench");
const profiler = join(root, "build/bench/native/inhouse_profile");
const maker = join(root, "build/bench/native/inhouse_make_model");
const most = Math.max(...(options.threads ?? [cores]));

/** All types on the best instruction set, some on the others. */
async function kernels() {
  const measure = async (...args) => {
    say(`kernels ${args.join(" ")}`);
    const all = ["--json", "--threads", String(most), ...args];
    return JSON.parse(await outputOf(program, all));
  };
  const [, ...others] = (await outputOf(program, ["--list"])).trim().split("\n");
  const some = ["--type", "Q4_K,Q6_K,Q8_0,Q4_1,IQ4_XS,BF16"];
  const fast = others.filter((isa) => isa !== "baseline");
  const result = { ...(await measure()), others: [] };
  for (const isa of fast) result.others.push(await measure("--isa", isa, ...some));
  return result;
}

/** Few layers stand for many: what a layer costs does not depend on their number. */
const shapes = [
  ["llama-3.2-1b", 16, "Q4_K"],
  ["llama-3.1-8b", 6, "Q4_K"],
  ["qwen3-30b-a3b", 4, "Q4_K"],
  ...[
    "F16",
    "BF16",
    "IQ1_S",
    "IQ1_M",
    "IQ2_XXS",
    "IQ2_XS",
    "IQ2_S",
    "IQ3_XXS",
    "IQ3_S",
    "TQ1_0",
    "TQ2_0",
  ].map((type) => ["llama-3.2-1b", 6, type]),
];

/** Calls `measure` with the files of the shapes, one after the other. */
async function eachShape(measure) {
  const folder = mkdtempSync(join(tmpdir(), "inhouse-shapes-"));
  process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
  for (const [shape, layers, type] of shapes) {
    const path = join(folder, `${shape}, ${plural(layers, "layer")}, ${type}.gguf`);
    const embedding = type.endsWith("16") ? type : "Q6_K";
    await outputOf(maker, [
      ...["--shape", shape, "--layers", String(layers)],
      ...["--type", type, "--embedding-type", embedding, path],
    ]);
    await measure(path);
    rmSync(path);
  }
}

const outs = [options.json, options.keep ? join(root, `bench/results/${machine}.speed.json`) : undefined];
const kept = outs.filter((path) => path !== undefined);
if (kept.length === 0)
  say(
    "this run's result is not kept: it is no whole run beside a peer (--json FILE or --machine NAME keeps it)",
  );

const paths = only.has("models") || only.has("typescript") ? modelPaths() : [];
if (paths.length === 0 && (only.has("models") || only.has("typescript")))
  throw new UsageError("no models; name some, or fetch the tests' (node scripts/fetch-models.mjs --all)");
for (const [part, needed] of [
  ["kernels", program],
  ["shapes", maker],
  ["models", profiler],
])
  if (only.has(part) && !existsSync(needed)) throw new UsageError(`${needed} is not built: npm run build`);
for (const path of paths) await machineLimits.readShape(path);
const files = kept.map((out) => new ResultFile(out));

const engines = ["inhouse", ...options.peers];
const result = {
  machine: { name: machine, processor, cores, memoryBytes: totalmem(), platform: process.platform },
  date: new Date().toISOString(),
  versions: { node: process.versions.node },
};
for (const engine of engines) {
  const { version } = await import(`./peers/${engine}.mjs`);
  result.versions[engine] = version;
}
const document = () => `${JSON.stringify(result, null, 1)}\n`;
// What was measured so far is kept, should a later part fail.
const save = () => files.forEach((file) => file.keep(document()));
if (only.has("kernels")) {
  result.kernels = await kernels();
  save();
  for (const { isa, runs } of [result.kernels, ...result.kernels.others])
    for (const run of runs) console.log(`\n${isa}, ${plural(run.threads, "thread")}\n\n${kernelTable(run)}`);
}
/** Where the time of steps goes, op by op. */
async function profile(path) {
  const cases = {
    "a token at depth 64": ["--depth", "64", "--rounds", "40"],
    "a token at depth 4096": ["--depth", "4096", "--rounds", "20"],
    "a token at depth 4096, cache q8_0": ["--depth", "4096", "--kv", "q8_0", "--rounds", "20"],
    "16 tokens of 16 streams": ["--streams", "16", "--rounds", "20"],
    "a prompt of 64": ["--rows", "64", "--depth", "0", "--rounds", "20"],
    "a prompt of 512": ["--rows", "512", "--depth", "0", "--rounds", "10"],
  };
  const steps = [];
  for (const [name, args] of Object.entries(cases)) {
    const all = [path, "--threads", String(most), "--json", ...args];
    steps.push({ name, ...JSON.parse(await outputOf(profiler, all)) });
  }
  return steps;
}

/** Measures a model and keeps it among `results`. */
async function measured(results, path, threads, lists) {
  const { rounds, kvType } = options;
  const model = await measureModel(path, { engines, threads, rounds, kvType, lists }, say);
  if (model === undefined) return;
  say(`${model.file}: op by op`);
  model.profile = { threads: most, steps: await profile(path) };
  results.push(model);
  save();
  for (const warning of model.warnings) say(warning);
  console.log(`\n${model.file}\n\n${modelTable(model)}\n\n${profileTable(model.profile)}`);
}
if (only.has("models")) {
  const threads = options.threads ?? threadCounts(await ownThreads(paths[0]), cores);
  result.models = [];
  for (const path of paths) await measured(result.models, path, threads, options.lists);
}
if (only.has("shapes")) {
  const lists = { prompts: [512], depths: [], streams: [1], tokens: 64 };
  result.shapes = [];
  await eachShape((path) => measured(result.shapes, path, [most], lists));
}
if (only.has("typescript")) {
  say("TypeScript");
  result.typescript = await measureTypescript(paths[0]);
  console.log(`\n${typescriptTable(result.typescript)}`);
}
for (const file of files) {
  file.finish(document());
  say(`written to ${file.path}`);
}
