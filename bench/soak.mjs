// Thousands of requests of mixed sizes on one model, of which a fifth is cancelled: each answer must be what its request
// gets alone, all blocks must come back, and memory must not grow.
//
//   node bench/soak.mjs MODEL [--requests N] [--concurrent N]      exits with 1 where something is wrong
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { count, onlyModel, start } from "./start.mjs";

start(import.meta.filename);
const { loadModel } = await import("../dist/index.mjs");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: "string", default: "10000" },
    concurrent: { type: "string", default: "32" },
  },
});
const path = onlyModel(import.meta.filename, positionals);
const requests = count("requests", values.requests, 1e8);
const concurrent = count("concurrent", values.concurrent, 1024);
const distinct = 200;

/** The same numbers in every run (a linear congruential generator, constants of Numerical Recipes). */
let state = 1;
const below = (n) => {
  state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
  return Math.floor((state / 2 ** 32) * n);
};

const model = await loadModel(path, {
  contextLength: 512,
  maxConcurrent: concurrent,
  maxQueue: 4 * concurrent,
  kvTokens: 8192,
});
const { vocabularySize } = model.info;
const prefixes = Array.from({ length: 5 }, () =>
  Array.from({ length: 30 + below(120) }, () => 100 + below(vocabularySize - 100)),
);
const jobs = Array.from({ length: distinct }, (_, seed) => ({
  prompt: [
    ...(below(2) ? prefixes[below(5)] : []),
    ...Array.from({ length: 1 + below(60) }, () => 100 + below(vocabularySize - 100)),
  ],
  options: { seed, maxTokens: 1 + below(24), ignoreStopTokens: true, temperature: seed % 3 ? 0.9 : 0 },
}));
const alone = [];
for (const { prompt, options } of jobs)
  alone.push((await model.complete(prompt, { ...options, cachePrompt: false }).result()).tokens.join());

const problems = [];
let [started, cancelled] = [0, 0];
const memory = [];
const begin = performance.now();

async function worker() {
  while (started < requests) {
    const number = started++;
    const which = below(distinct);
    const cancel = below(5) === 0;
    const { prompt, options } = jobs[which];
    const generation = model.complete(prompt, options);
    if (cancel) {
      cancelled++;
      if (below(2)) await sleep(below(40));
      generation.cancel();
    }
    const { tokens, finishReason } = await generation.result();
    const text = tokens.join();
    const right = finishReason === "cancelled" ? alone[which].startsWith(text) : text === alone[which];
    if (!right) problems.push(`request ${number} (job ${which}) got ${text}, alone ${alone[which]}`);
    if (number % Math.ceil(requests / 20) === 0) {
      globalThis.gc?.();
      memory.push(process.memoryUsage.rss());
      console.error(`${number} of ${requests}, ${Math.round(memory.at(-1) / 1e6)} MB`);
    }
  }
}
await Promise.all(Array.from({ length: 2 * concurrent }, worker));

const { running, waiting, paused, kv, setAside } = model.stats();
if (running + waiting + paused + kv.held !== 0)
  problems.push(`left behind: ${JSON.stringify(model.stats())}`);
// The first quarter warms up: the cache fills, and so do the heaps.
const [warm, last] = [Math.max(...memory.slice(0, 6)), Math.max(...memory.slice(-5))];
if (last > 1.01 * warm) problems.push(`memory grew from ${warm} to ${last} bytes`);
await model.dispose();
const seconds = (performance.now() - begin) / 1000;
console.log(
  JSON.stringify({
    requests,
    cancelled,
    setAside,
    seconds: Math.round(seconds),
    memory: { warm, last, growth: Math.round((last / warm - 1) * 1e4) / 1e4 },
    wrong: problems.length,
  }),
);
for (const problem of problems.slice(0, 10)) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
