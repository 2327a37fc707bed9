// Many requests at once, beside peers: how long a burst of streams takes, streams that share a long prefix, and, of
// inhouse alone, how streams keep their pace while a long prompt arrives and what a token costs the event loop: the time
// that its thread computes (…CpuMicroseconds…), and the time until it waits again, with what other threads take meanwhile.
//
//   node bench/serving.mjs MODEL [--peer NAME] [--rounds N] [--threads N] [--streams N,…] [--json FILE]
//
// Needs `npm run build`, and `npm install` in bench/peers for peers. Every measurement has a process of its own, the
// engines in turn; medians are shown. Prompts are token ids without repetition, and every stream writes all its tokens.
import { readFileSync, writeFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import { performance } from "node:perf_hooks";
import { parseArgs } from "node:util";

import { outputOf } from "./child.mjs";
import { checkWritable, count, onlyModel, start, UsageError } from "./start.mjs";

start(import.meta.filename);
const { default: machine } = await import("../dist/cli/bench/limits.js");
const { default: measuring } = await import("../dist/cli/bench/measure.js");
const { loadModel } = await import("../dist/index.mjs");
const { readPeers } = await import("./options.mjs");

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];
const quantile = (values, q) => values.toSorted((a, b) => a - b)[Math.floor(q * (values.length - 1))];
const round = (value, digits = 2) => Math.round(value * 10 ** digits) / 10 ** digits;
/** Of what could be measured; null where nothing could. */
function roundedMedian(values, digits) {
  const known = values.filter(Number.isFinite); // JSON has null for NaN
  return known.length > 0 ? round(median(known), digits) : null;
}

async function drain(stream) {
  for await (const _ of stream);
}

/** Microseconds that this thread has computed, which others' share of the processor does not change; NaN if unknown. */
function threadMicroseconds() {
  if (process.threadCpuUsage) {
    const { user, system } = process.threadCpuUsage();
    return user + system;
  }
  if (process.platform !== "linux") return NaN;
  return Number(readFileSync("/proc/thread-self/schedstat", "utf8").split(" ")[0]) / 1000;
}

const burstContext = ({ shared, own, tokens }) => Math.ceil((shared + own + tokens + 1) / 256) * 256;
const paceContext = (long) => long + 64;

/** Streams that begin together: seconds until the last one ends. */
async function burst({ engine, path, settings, streams, shared, own, tokens, vocabularySize }) {
  const { opener } = await import(`./peers/${engine}.mjs`);
  const contextLength = burstContext({ shared, own, tokens });
  const session = await opener(path, settings)({ streams, contextLength });
  const prompts = measuring.promptSource(vocabularySize);
  await drain(session.generate(prompts(32), 2)); // all is loaded and warm
  const prefix = shared > 0 ? prompts(shared) : [];
  const all = Array.from({ length: streams }, () => [...prefix, ...prompts(own)]);
  const start = performance.now();
  const idle = performance.eventLoopUtilization();
  const computed = threadMicroseconds();
  await Promise.all(all.map((prompt) => drain(session.generate(prompt, tokens))));
  const seconds = (performance.now() - start) / 1000;
  const { active } = performance.eventLoopUtilization(idle);
  return {
    seconds,
    eventLoopMicroseconds: (active * 1000) / (streams * tokens),
    eventLoopCpuMicroseconds: (threadMicroseconds() - computed) / (streams * tokens),
  };
}

/** Gaps between tokens of 8 streams, before and while a prompt of `long` tokens is computed. */
async function pace({ path, settings, long, vocabularySize }) {
  const streams = 8;
  const model = await loadModel(path, {
    device: "cpu",
    ...settings,
    contextLength: paceContext(long),
    maxConcurrent: streams + 1,
  });
  const prompts = measuring.promptSource(vocabularySize);
  const options = { temperature: 0, ignoreStopTokens: true, speculation: "off" };
  const start = performance.now();
  await model.complete(prompts(long), { ...options, maxTokens: 1 }).result();
  const alone = (performance.now() - start) / 1000;
  const gaps = { before: [], during: [] };
  let phase = "warm";
  const running = Array.from({ length: streams }, async () => {
    let last = 0;
    for await (const _ of model.complete(prompts(64), options)) {
      const now = performance.now();
      if (last > 0) gaps[phase]?.push(now - last);
      last = now;
      if (phase === "over") break;
    }
  });
  const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
  await sleep(3000);
  phase = "before";
  await sleep(3000);
  phase = "during";
  const arrived = performance.now();
  await model.complete(prompts(long), { ...options, maxTokens: 1 }).result();
  const beside = (performance.now() - arrived) / 1000;
  phase = "over";
  await Promise.all(running);
  await model.dispose();
  const [before, during] = [quantile(gaps.before, 0.95), quantile(gaps.during, 0.95)];
  return { before, during, gapRatio: during / before, promptShare: alone / beside };
}

const measurements = { burst, pace };

if (process.argv[2] === "--measure") {
  const job = JSON.parse(process.argv[3]);
  console.log(JSON.stringify(await measurements[job.kind](job)));
  process.exit(0);
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    peer: { type: "string", multiple: true, default: [] },
    rounds: { type: "string", default: "1" },
    threads: { type: "string", default: String(availableParallelism()) },
    streams: { type: "string", default: "8,16,32" },
    json: { type: "string" },
  },
});
const path = onlyModel(import.meta.filename, positionals);
const rounds = count("rounds", values.rounds, 1000);
const threads = count("threads", values.threads, 512);
const streamCounts = values.streams.split(",").map((text) => count("streams", text, 1024));
const peers = readPeers(values.peer);
for (const peer of peers) await import(`./peers/${peer}.mjs`);
if (values.json !== undefined) checkWritable(values.json);
const cases = [
  ...streamCounts.map((streams) => ({
    name: `${streams} streams of 64 + 64 tokens`,
    streams,
    shared: 0,
    own: 64,
    tokens: 64,
  })),
  { name: "16 streams of 1000 shared + 64 + 32 tokens", streams: 16, shared: 1000, own: 64, tokens: 32 },
];
const long = 4096;
const needed = Math.max(...cases.map(burstContext), paceContext(long));
const { trainedContextLength } = await machine.readShape(path);
if (trainedContextLength < needed)
  throw new UsageError(
    `${path}: this bench needs a context of ${needed} tokens, more than the ${trainedContextLength} the model was trained for`,
  );
const model = await loadModel(path, { contextLength: 64 });
const { vocabularySize } = model.info;
await model.dispose();
const settings = { threads, kvType: "f16" };
const engines = ["inhouse", ...peers];

async function run(job) {
  const text = JSON.stringify({ path, settings, vocabularySize, ...job });
  return JSON.parse(await outputOf(process.execPath, [import.meta.filename, "--measure", text]));
}

const results = [];
for (const { name, ...one } of cases) {
  const seconds = Object.fromEntries(engines.map((engine) => [engine, []]));
  const crossing = { active: [], cpu: [] };
  for (let i = 0; i < rounds; i++) {
    for (const engine of engines) {
      const result = await run({ kind: "burst", engine, ...one });
      seconds[engine].push(result.seconds);
      if (engine !== "inhouse") continue;
      crossing.active.push(result.eventLoopMicroseconds);
      crossing.cpu.push(result.eventLoopCpuMicroseconds);
    }
  }
  const ours = median(seconds.inhouse);
  const result = {
    name,
    seconds: round(ours),
    tokensPerSecond: round((one.streams * (one.own + one.tokens)) / ours, 1),
    eventLoopMicrosecondsPerToken: roundedMedian(crossing.active, 1),
    eventLoopCpuMicrosecondsPerToken: roundedMedian(crossing.cpu, 1),
    peers: Object.fromEntries(
      peers.map((peer) => [
        peer,
        { seconds: round(median(seconds[peer])), ratio: round(median(seconds[peer]) / ours) },
      ]),
    ),
  };
  results.push(result);
  console.log(JSON.stringify(result));
}
const paces = [];
for (let i = 0; i < rounds; i++) paces.push(await run({ kind: "pace", long }));
const ofPaces = (name, digits) =>
  roundedMedian(
    paces.map((one) => one[name]),
    digits,
  );
const steady = {
  name: `8 streams while a prompt of ${long} tokens arrives`,
  gapBeforeMs: ofPaces("before", 1),
  gapDuringMs: ofPaces("during", 1),
  gapRatio: ofPaces("gapRatio"),
  promptShareOfItsRateAlone: ofPaces("promptShare"),
};
console.log(JSON.stringify(steady));
if (values.json !== undefined) {
  const document = {
    model: path.split("/").at(-1),
    settings,
    rounds,
    cases: results,
    pace: steady,
  };
  writeFileSync(values.json, JSON.stringify(document, null, 2) + "\n");
}
