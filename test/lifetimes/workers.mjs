// Loads the addon in worker threads alone and terminates them at a phase: `load`, `prompt` or `decode`.
//
//   node test/lifetimes/workers.mjs MODEL PHASE ROUNDS [DEVICE]
//
// Passes if the process survives, ends by itself, and does not go on growing. Prints one line of JSON with the median
// memory of each third of the rounds; the first third fills caches.
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";

const sideBySide = 2;

function residentMegabytes() {
  globalThis.gc?.();
  return process.memoryUsage.rss() / 2 ** 20;
}

/** One worker; resolves with the thread after it has reported the phase. */
function start(data) {
  const worker = new Worker(new URL(import.meta.url), { workerData: data });
  const reached = new Promise((resolve, reject) => {
    worker.once("message", resolve);
    worker.once("error", reject);
    worker.once("exit", (code) => reject(new Error(`a worker ended by itself with ${code}`)));
  });
  return { worker, reached };
}

async function round(data, random) {
  const { worker, reached } = start(data);
  await reached;
  worker.removeAllListeners("exit");
  await sleep(random * data.spread);
  await worker.terminate();
}

function thirds(samples) {
  const at = [0, 1, 2, 3].map((i) => Math.round((i * samples.length) / 3));
  return [0, 1, 2].map((i) => {
    const part = samples.slice(at[i], at[i + 1]).sort((a, b) => a - b);
    return Math.round(part[part.length >> 1]);
  });
}

async function main([model, phase, rounds, device = "auto"]) {
  // Milliseconds over which terminations are spread after the phase was reached.
  const spread = { load: 40, prompt: 20, decode: 20 }[phase];
  const data = { model, phase, device, spread };
  // Except at load, where each worker reads the file, one worker keeps the weights in memory for the others.
  const holder = phase === "load" ? undefined : start({ ...data, phase: "hold" });
  await holder?.reached;
  const started = performance.now();
  let next = 0;
  const samples = [];
  const lane = async () => {
    while (next < rounds) {
      const i = next++;
      await round(data, ((i * 7919) % 101) / 101);
      samples.push(residentMegabytes());
    }
  };
  await Promise.all(Array.from({ length: sideBySide }, lane));
  await holder?.worker.terminate();
  const seconds = (performance.now() - started) / 1000;
  console.log(JSON.stringify({ phase, rounds: Number(rounds), seconds, thirds: thirds(samples) }));
}

async function work({ model, phase, device }) {
  const { loadModel } = createRequire(import.meta.url)("../../dist/index.js");
  const loading = loadModel(model, { device, contextLength: 2048, threads: 2, maxBatchTokens: 64 });
  if (phase === "load") return parentPort.postMessage("loading");
  const loaded = await loading;
  if (phase === "hold") {
    parentPort.postMessage("held");
    parentPort.on("message", () => {});
    return;
  }
  const prompt = new Array(phase === "prompt" ? 1500 : 3).fill(100);
  const generations = [1, 2].map((seed) => loaded.complete(prompt, { seed, ignoreStopTokens: true }));
  if (phase === "prompt") return parentPort.postMessage("in the prompt");
  for await (const _ of generations[0]) parentPort.postMessage("decoding");
}

if (isMainThread) await main(process.argv.slice(2));
else await work(workerData);
