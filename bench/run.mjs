// The bench suite: kernels (native executables), then models beside their peers, then the TypeScript parts.
//
//   npm run bench -- [MODEL.gguf …] [--only kernels,models,typescript] [--peer node-llama-cpp] [--rounds 3]
//                    [--threads 1,N] [--prompt 64,512] [--depth 1024] [--streams 1,4,16] [--decode-tokens 64]
//                    [--machine NAME] [--json OUT]
//
// Without models, those in INHOUSE_MODELS or .cache/models are measured. Needs `npm run build`, and `npm install` in
// bench/peers for `--peer`. The result of a whole run goes to bench/results/MACHINE.speed.json, which docs/performance.md
// and its pictures are made from (node scripts/performance-doc.mjs).
import { execFileSync } from "node:child_process";
import { readdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, totalmem } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";

import { measureModel } from "./models.mjs";
import { kernelTable, modelTable, plural, typescriptTable } from "./tables.mjs";
import { measureTypescript } from "./typescript.mjs";

const root = join(import.meta.dirname, "..");
const cores = availableParallelism();
const text = (value) => ({ type: "string", default: value });
const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    only: text("kernels,models,typescript"),
    peer: { type: "string", multiple: true, default: [] },
    rounds: text("3"),
    threads: text(cores > 1 ? `1,${cores}` : "1"),
    prompt: text("64,512"),
    depth: text("1024"),
    streams: text("1,4,16"),
    "decode-tokens": text("64"),
    machine: { type: "string" },
    json: { type: "string" },
  },
});
const numbers = (list) => list.split(",").map(Number);
const say = (line) => process.stderr.write(`${line}\n`);
const only = new Set(options.only.split(","));

const processor = cpus()[0]?.model.trim() ?? "unknown processor";
const slug = (name) => name.toLowerCase().replace(/[^a-z0-9]+/g, "-");
const machine = options.machine ?? `${slug(processor)}-${cores}core`;

function models() {
  if (positionals.length > 0) return positionals;
  const folder = process.env.INHOUSE_MODELS ?? join(root, ".cache/models");
  const names = readdirSync(folder).filter((name) => name.endsWith(".gguf"));
  return names.sort().map((name) => join(folder, name));
}

function kernels() {
  say("kernels");
  const program = join(root, "build/bench/native/inhouse_kernels_bench");
  return JSON.parse(execFileSync(program, ["--json", "--threads", String(cores)], { encoding: "utf8" }));
}

// Only a whole run is kept as the machine's result.
const parts = ["kernels", "models", "typescript"];
const whole = positionals.length === 0 && parts.every((part) => only.has(part));
const out = options.json ?? (whole ? join(root, `bench/results/${machine}.speed.json`) : undefined);

const engines = ["inhouse", ...options.peer];
const result = {
  machine: { name: machine, processor, cores, memoryBytes: totalmem(), platform: process.platform },
  date: new Date().toISOString(),
  versions: { node: process.versions.node },
};
for (const engine of engines) {
  const { version } = await import(`./peers/${engine}.mjs`);
  result.versions[engine] = version;
}
if (only.has("kernels")) {
  result.kernels = kernels();
  for (const run of result.kernels.runs)
    console.log(`\n${plural(run.threads, "thread")}\n\n${kernelTable(run)}`);
}
if (only.has("models")) {
  const plan = {
    engines,
    threads: numbers(options.threads),
    rounds: Number(options.rounds),
    lists: {
      prompts: numbers(options.prompt),
      depths: numbers(options.depth),
      streams: numbers(options.streams),
      tokens: Number(options["decode-tokens"]),
    },
  };
  result.models = [];
  for (const path of models()) {
    const model = await measureModel(path, plan, say);
    result.models.push(model);
    for (const warning of model.warnings) say(warning);
    console.log(`\n${model.file}\n\n${modelTable(model)}`);
  }
}
if (only.has("typescript")) {
  say("TypeScript");
  result.typescript = await measureTypescript(models()[0]);
  console.log(`\n${typescriptTable(result.typescript)}`);
}
if (out !== undefined) {
  writeFileSync(out, `${JSON.stringify(result, null, 1)}\n`);
  say(`written to ${out}`);
}
