// inhouse itself, measured in the same way as its peers. Build the project first.
//
// Usage: node inhouse.mjs COMMAND MODEL.gguf [--threads N] [--context 2048] [--repeat 3] [--isa NAME]
//   speed   JSON of speeds, time to first token and peak memory (each from a process of its own)
//   first   JSON of the time to the first token and peak memory

import { execFileSync } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import { decodeTokens, measure, prompt } from "./workload.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1" },
    context: { type: "string", default: "2048" },
    repeat: { type: "string", default: "3" },
    isa: { type: "string" },
  },
});
const [command, modelPath] = positionals;
const threads = Number(options.threads);

async function open() {
  const { loadModel } = await import("../../dist/index.mjs");
  const start = performance.now();
  const load = { threads, contextLength: Number(options.context), instructionSet: options.isa };
  return { model: await loadModel(modelPath, load), start };
}

/** Milliseconds for the prompt up to its first token, and for `decodeTokens` more after it. */
async function generate(model, length) {
  const begin = performance.now();
  const settings = { temperature: 0, maxTokens: decodeTokens + 1, ignoreStopTokens: true };
  const generation = model.complete(prompt(length), settings);
  let first;
  for await (const _ of generation) first ??= performance.now();
  const { tokens } = await generation.result();
  if (tokens.length !== decodeTokens + 1) throw new Error("stopped early");
  return { prompt: first - begin, decode: performance.now() - first };
}

async function first() {
  const { model, start } = await open();
  const loaded = performance.now();
  await model.complete(prompt(64), { temperature: 0, maxTokens: 1, ignoreStopTokens: true }).result();
  return {
    contextTokens: Number(options.context),
    promptTokens: 64,
    loadMs: loaded - start,
    firstTokenMs: performance.now() - start, // from before the load, without Node's own start
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function speed() {
  const argv = [fileURLToPath(import.meta.url), "first", ...process.argv.slice(3)];
  const fresh = JSON.parse(execFileSync(process.execPath, argv, { encoding: "utf8" }));
  const { model } = await open();
  const tokensPerSecond = await measure((length) => generate(model, length), Number(options.repeat));
  return { engine: "inhouse", threads, device: model.info.deviceDescription, tokensPerSecond, fresh };
}

const commands = { speed, first };
if (!Object.hasOwn(commands, command ?? "") || modelPath === undefined) {
  console.error("usage: node inhouse.mjs speed|first MODEL.gguf [options]");
  process.exit(2);
}
console.log(JSON.stringify(await commands[command]()));
process.exit(0);
