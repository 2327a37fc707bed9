// The bench suite: kernels (native executables), then models beside their peers, then the TypeScript parts.
//
//   npm run bench -- [MODEL.gguf …] [--only kernels,models,typescript] [--peer node-llama-cpp] [--rounds 3]
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
import { execFileSync } from "node:child_process";
import { existsSync, readdirSync, renameSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";

import { checkWritable, start, UsageError } from "./start.mjs";

start(import.meta.filename, "bench");
const { default: machineLimits } = await import("../dist/cli/bench/limits.js");
const { measureModel, ownThreads, threadCounts } = await import("./models.mjs");
const { readOptions } = await import("./options.mjs");
const { kernelTable, modelTable, plural, typescriptTable } = await import("./tables.mjs");
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

function kernels() {
  say("kernels");
  const most = Math.max(...(options.threads ?? [cores]));
  return JSON.parse(execFileSync(program, ["--json", "--threads", String(most)], { encoding: "utf8" }));
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
if (only.has("kernels") && !existsSync(program))
  throw new UsageError(`${program} is not built: npm run build`);
for (const path of paths) await machineLimits.readShape(path);
for (const out of kept) checkWritable(out);

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
// What was measured so far is kept beside its place, should a later part fail.
const partial = (out) => `${out}.partial`;
const save = () => kept.forEach((out) => writeFileSync(partial(out), `${JSON.stringify(result, null, 1)}\n`));
if (only.has("kernels")) {
  result.kernels = kernels();
  save();
  for (const run of result.kernels.runs)
    console.log(`\n${plural(run.threads, "thread")}\n\n${kernelTable(run)}`);
}
if (only.has("models")) {
  const { rounds, kvType, lists } = options;
  const threads = options.threads ?? threadCounts(await ownThreads(paths[0]), cores);
  result.models = [];
  for (const path of paths) {
    const model = await measureModel(path, { engines, threads, rounds, kvType, lists }, say);
    if (model === undefined) continue;
    result.models.push(model);
    save();
    for (const warning of model.warnings) say(warning);
    console.log(`\n${model.file}\n\n${modelTable(model)}`);
  }
}
if (only.has("typescript")) {
  say("TypeScript");
  result.typescript = await measureTypescript(paths[0]);
  console.log(`\n${typescriptTable(result.typescript)}`);
}
save();
for (const out of kept) {
  renameSync(partial(out), out);
  say(`written to ${out}`);
}
