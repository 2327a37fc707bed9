// How long the event loop is held up while a model works: percentiles of its delay, in milliseconds, at rest, at load,
// at a long prompt and with eight streams. The delay of a 1 ms timer is measured, which is what monitorEventLoopDelay
// does as well, but without its histogram's lower bound of one timer. And how fast the model writes, tokens per second,
// while the event loop is idle and while its thread is fully busy with JavaScript.
//
//   node bench/event-loop.mjs MODEL [DEVICE]     prints one JSON document; needs `npm run build`
import { monitorEventLoopDelay } from "node:perf_hooks";
import { setTimeout as sleep } from "node:timers/promises";
import { parseArgs } from "node:util";

import { onlyModel, start, UsageError } from "./start.mjs";

start(import.meta.filename);
const { loadModel } = await import("../dist/index.mjs");
const { positionals } = parseArgs({ allowPositionals: true });
const [, device = "cpu"] = positionals;
const file = onlyModel(import.meta.filename, positionals.slice(0, 1));
if (positionals.length > 2) throw new UsageError(`expected MODEL and DEVICE, got also ${positionals[2]}`);
const resolution = 1;

/** Percentiles of the delay beyond the timer's own millisecond, while `action` runs. */
async function measure(action) {
  const histogram = monitorEventLoopDelay({ resolution });
  histogram.enable();
  const start = performance.now();
  await action();
  const seconds = (performance.now() - start) / 1000;
  histogram.disable();
  const ms = (value) => Math.round(Math.max(0, value / 1e6 - resolution) * 1000) / 1000;
  return {
    p50: ms(histogram.percentile(50)),
    p99: ms(histogram.percentile(99)),
    max: ms(histogram.max),
    samples: histogram.count,
    seconds: Math.round(seconds * 100) / 100,
  };
}

const results = {};
results.rest = await measure(() => sleep(2000));
let model;
results.load = await measure(async () => {
  for (let i = 0; i < 5; i++) {
    await model?.dispose();
    model = await loadModel(file, { device });
  }
});
const text = "The quick brown fox jumps over the lazy dog. ".repeat(400);
results.prompt = await measure(() => model.complete(text, { maxTokens: 1 }).result());
results.streams = await measure(async () => {
  const read = async (seed) => {
    for await (const _ of model.complete("Once upon a time", {
      seed,
      maxTokens: 60,
      ignoreStopTokens: true,
    }));
  };
  await Promise.all(Array.from({ length: 8 }, (_, i) => read(i)));
});
/** Tokens per second of one answer. */
async function writingRate() {
  const { timings } = await model
    .complete("Once upon a time", {
      maxTokens: 100,
      ignoreStopTokens: true,
      temperature: 0,
      speculation: "off", // what it writes repeats itself, which guesses would be too good at
    })
    .result();
  return timings.decodeTokensPerSecond;
}
/** The same while JavaScript keeps the event loop's thread busy, 20 ms at a time. */
async function busyRate() {
  let writing = true;
  const rate = writingRate().finally(() => (writing = false));
  while (writing) {
    const end = performance.now() + 20;
    while (performance.now() < end);
    await new Promise((resolve) => setImmediate(resolve));
  }
  return rate;
}
const median = (list) => list.toSorted((a, b) => a - b)[list.length >> 1];
const pairs = [];
for (let i = 0; i < 5; i++) pairs.push({ idle: await writingRate(), busy: await busyRate() });
const share = pairs.map(({ idle, busy }) => Math.round((busy / idle) * 1000) / 1000);
results.writing = {
  idle: median(pairs.map(({ idle }) => idle)),
  busy: median(pairs.map(({ busy }) => busy)),
  share: median(share),
  low: Math.min(...share),
  high: Math.max(...share),
};
await model.dispose();
console.log(JSON.stringify(results, null, 2));
