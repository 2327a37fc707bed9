// Thousands of requests of mixed sizes on one model, of which a fifth is cancelled: each answer must be what its request
// gets alone, all blocks of the cache must come back, and once warm the process must not grow by more than 1%.
//
//   node bench/soak.mjs MODEL [--requests N] [--warm-up N] [--concurrent N]
//
// To warm up, the cache is filled to its last block, and then come requests like those that count; they are checked as
// well. Memory is what the process has resident at rest, with all garbage collected. V8 keeps the room of its young
// generation once it has grown, up to 48 MB: the soak runs in a process where that is held small. Prints a JSON document
// with the verdict, and exits with 1 where something is wrong.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { endWithThis } from "./child.mjs";
import { count, onlyModel, start } from "./start.mjs";

start(import.meta.filename);
const { loadModel } = await import("../dist/index.mjs");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    requests: { type: "string", default: "10000" },
    "warm-up": { type: "string", default: "2500" },
    concurrent: { type: "string", default: "32" },
  },
});
const path = onlyModel(import.meta.filename, positionals);
const requests = count("requests", values.requests, 1e8);
const warmUp = count("warm-up", values["warm-up"], 1e8);
const concurrent = count("concurrent", values.concurrent, 1024);
const distinct = 200;
const mostGrowth = 0.01;

const flags = ["--expose-gc", "--max-semi-space-size=1"];
if (!flags.every((flag) => process.execArgv.includes(flag))) {
  const again = [...flags, import.meta.filename, ...process.argv.slice(2)];
  const child = spawn(process.execPath, again, { stdio: "inherit" });
  endWithThis(child);
  const [code] = await once(child, "exit");
  process.exit(code ?? 1);
}

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
/** What each job gets when it has the model for itself, and shares nothing. */
const alone = [];
for (const { prompt, options } of jobs)
  alone.push(await model.complete(prompt, { ...options, cachePrompt: false }).result());

const problems = [];
let ended = {};
let askedToCancel = 0;

/** One request: of a fifth of them, half are cancelled at once and half a little later. */
async function ask(number) {
  const which = below(distinct);
  const cancelled = below(5) === 0;
  const afterMs = below(2) * below(40);
  const { prompt, options } = jobs[which];
  const generation = model.complete(prompt, options);
  if (cancelled) {
    askedToCancel++;
    if (afterMs > 0) await sleep(afterMs);
    generation.cancel();
  }
  const { tokens, text, finishReason } = await generation.result();
  const wanted = alone[which];
  const whole = finishReason === "length" && text === wanted.text && tokens.length === wanted.tokens.length;
  const cut = cancelled && finishReason === "cancelled";
  if (!(whole || cut) || tokens.some((token, i) => token !== wanted.tokens[i]))
    problems.push(
      `request ${number} (job ${which}) got ${tokens.join()} (${finishReason}), alone ${wanted.tokens.join()}`,
    );
  ended[finishReason] = (ended[finishReason] ?? 0) + 1;
}

/** So many requests, twice as many at once as have a place. */
async function serve(total, name) {
  let started = 0;
  const worker = async () => {
    while (started < total) {
      const number = started++;
      if (number % Math.ceil(total / 20) === 0)
        console.error(`${name}: ${number} of ${total}, ${megabytes(process.memoryUsage.rss())}`);
      await ask(number).catch((error) => problems.push(`request ${number}: ${error.message}`));
    }
  };
  await Promise.all(Array.from({ length: 2 * concurrent }, worker));
}

const megabytes = (bytes) => `${Math.round(bytes / 1e6)} MB`;

/** The least of what is resident in a second at rest: garbage goes in several rounds. */
async function memoryAtRest() {
  let least = Infinity;
  for (let i = 0; i < 10; i++) {
    globalThis.gc();
    await sleep(100);
    least = Math.min(least, process.memoryUsage.rss());
  }
  return least;
}

function checkReturned() {
  const stats = model.stats();
  const { running, waiting, paused, kv } = stats;
  if (running + waiting + paused + kv.held !== 0) problems.push(`left behind: ${JSON.stringify(stats)}`);
}

/** Uses every block of the cache once, so that its memory is resident. */
async function fillCache() {
  const { contextLength, kvTokens } = model.info;
  const length = contextLength - 32; // whole blocks
  for (let i = 0; i * length < kvTokens; i++) {
    const prompt = Array.from({ length }, () => 100 + below(vocabularySize - 100));
    await model.complete(prompt, { maxTokens: 0, cacheScope: "fill" }).result();
  }
  const { kept, tokens } = model.stats().kv;
  if (kept < tokens) problems.push(`${kept} of the cache's ${tokens} tokens could be filled`);
}

const begin = performance.now();
await fillCache();
await serve(warmUp, "warm-up");
const warm = await memoryAtRest();
checkReturned();
const before = model.stats();
[ended, askedToCancel] = [{}, 0]; // what is told is of the requests that count
await serve(requests, "soak");
const last = await memoryAtRest();
checkReturned();
const growth = last / warm - 1;
if (growth > mostGrowth)
  problems.push(
    `memory grew by ${(100 * growth).toFixed(2)}%: from ${megabytes(warm)} at rest to ${megabytes(last)}`,
  );
const { setAside, cachedTokens, kv } = model.stats();
await model.dispose();
console.log(
  JSON.stringify({
    verdict: problems.length === 0 ? "right" : "wrong",
    requests,
    cancelled: askedToCancel,
    warmUp,
    ended,
    setAside: setAside - before.setAside,
    cachedTokens: cachedTokens - before.cachedTokens,
    blocksHeld: kv.held / 32,
    seconds: Math.round((performance.now() - begin) / 1000),
    memory: { warm, last, growth: Math.round(growth * 1e4) / 1e4 },
    problems: problems.length,
  }),
);
for (const problem of problems.slice(0, 10)) console.error(problem);
process.exitCode = problems.length > 0 ? 1 : 0;
