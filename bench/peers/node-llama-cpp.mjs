// The peer: llama.cpp through node-llama-cpp, on the CPU, with flash attention unless told otherwise.
//
// Usage: node node-llama-cpp.mjs COMMAND MODEL.gguf [--threads N] [--flash-attention on|off] …
//   speed     [--context 2048] [--repeat 3]        JSON of speeds (tokens per second, best and median
//             of the rounds), time to first token and peak memory (each from a process of its own)
//   first     [--context 2048]                     JSON of the time to the first token and peak memory
//   logprobs  --tokens IDS.json --out FILE.f32     log-probabilities, as scripts/golden/compare.py reads
//   encode    --text FILE                          JSON array of the text's token ids, without BOS

import { execFileSync } from "node:child_process";
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const DECODE_TOKENS = 64;
const BATCH = 512;

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1" },
    "flash-attention": { type: "string", default: "on" },
    context: { type: "string", default: "2048" },
    repeat: { type: "string", default: "3" },
    tokens: { type: "string" },
    out: { type: "string" },
    text: { type: "string" },
  },
});
const [command, modelPath] = positionals;
const threads = Number(options.threads);
const flashAttention = options["flash-attention"] === "on";

async function open(contextSize) {
  const { getLlama, LlamaLogLevel } = await import("node-llama-cpp");
  const start = performance.now();
  const llama = await getLlama({
    gpu: false,
    build: "never",
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const model = await llama.loadModel({ modelPath });
  const context = await model.createContext({ contextSize, batchSize: BATCH, threads, flashAttention });
  if (context.currentThreads !== threads) throw new Error(`the peer runs ${context.currentThreads} threads`);
  return { model, sequence: context.getSequence(), start };
}

// Ids that every vocabulary has and that are neither special nor all the same.
const prompt = (length) => Array.from({ length }, (_, i) => 1000 + ((i * 7919) % 20011));

/** Milliseconds for the prompt up to its first token, and for DECODE_TOKENS more after it. */
async function generate(sequence, length) {
  await sequence.clearHistory();
  const begin = performance.now();
  const tokens = sequence.evaluate(prompt(length), { temperature: 0, yieldEogToken: true });
  await tokens.next();
  const first = performance.now();
  for (let i = 0; i < DECODE_TOKENS; i++) {
    if ((await tokens.next()).done) throw new Error("the peer stopped early");
  }
  const end = performance.now();
  await tokens.return();
  return { prompt: first - begin, decode: end - first };
}

async function first() {
  const { sequence, start } = await open(Number(options.context));
  const loaded = performance.now();
  const tokens = sequence.evaluate(prompt(64), { temperature: 0, yieldEogToken: true });
  await tokens.next();
  const end = performance.now();
  return {
    contextTokens: Number(options.context),
    promptTokens: 64,
    loadMs: loaded - start,
    firstTokenMs: end - start, // from before the load, without Node's own start
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  };
}

async function speed() {
  const argv = [fileURLToPath(import.meta.url), "first", ...process.argv.slice(3)];
  const fresh = JSON.parse(execFileSync(process.execPath, argv, { encoding: "utf8" }));
  const { sequence } = await open(Number(options.context));
  await generate(sequence, 64);
  const rates = { prompt64: [], prompt512: [], decode64: [], decode1024: [] };
  for (let round = 0; round < Number(options.repeat); round++) {
    const [short, middle, long] = [
      await generate(sequence, 64),
      await generate(sequence, 512),
      await generate(sequence, 1024),
    ];
    rates.prompt64.push(64e3 / short.prompt);
    rates.prompt512.push(512e3 / middle.prompt);
    rates.decode64.push((DECODE_TOKENS * 1e3) / short.decode);
    rates.decode1024.push((DECODE_TOKENS * 1e3) / long.decode);
  }
  const summary = Object.fromEntries(
    Object.entries(rates).map(([name, list]) => {
      const sorted = list.toSorted((a, b) => a - b);
      return [name, { best: sorted.at(-1), median: sorted[(sorted.length - 1) >> 1] }];
    }),
  );
  return { engine: "node-llama-cpp", threads, flashAttention, tokensPerSecond: summary, fresh };
}

/** Logits (token id → logit, the whole vocabulary, unfiltered) to log-probabilities. */
function logSoftmax(logits, vocabulary) {
  if (logits.size !== vocabulary) throw new Error(`${logits.size} logits for a vocabulary of ${vocabulary}`);
  const row = new Float64Array(vocabulary);
  for (const [token, logit] of logits) row[token] = logit;
  let top = -Infinity;
  for (const value of row) top = Math.max(top, value);
  let sum = 0;
  for (const value of row) sum += Math.exp(value - top);
  const shift = top + Math.log(sum);
  return Float32Array.from(row, (value) => value - shift);
}

async function logprobs() {
  const ids = JSON.parse(readFileSync(options.tokens, "utf8"));
  const contexts = Array.isArray(ids[0]) ? ids : [ids];
  const { model, sequence } = await open(Math.max(...contexts.map((list) => list.length)) + 1);
  const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
  // A temperature of 1 and no filter: the sampler leaves the logits as they are.
  const metadata = { generateNext: { logits: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } };
  const file = openSync(options.out, "w");
  let rows = 0;
  for (const list of contexts) {
    await sequence.clearHistory();
    let expected = 0;
    await sequence.controlledEvaluate(
      list.map((token) => [token, metadata]),
      {
        onTokenResult(index, { next }) {
          if (index !== expected++) throw new Error(`row ${index} came out of order`);
          writeSync(file, logSoftmax(next.logits, vocabulary));
          next.logits.clear(); // the call keeps every result until its end
        },
      },
    );
    if (expected !== list.length) throw new Error(`${expected} rows for ${list.length} tokens`);
    rows += expected;
  }
  closeSync(file);
  return { engine: "node-llama-cpp", threads, flashAttention, rows, vocabulary };
}

async function encode() {
  const { model } = await open(64);
  return model.tokenize(readFileSync(options.text, "utf8"), false, "trimLeadingSpace");
}

const commands = { speed, first, logprobs, encode };
if (!Object.hasOwn(commands, command ?? "") || modelPath === undefined) {
  console.error("usage: node node-llama-cpp.mjs speed|first|logprobs|encode MODEL.gguf [options]");
  process.exit(2);
}
console.log(JSON.stringify(await commands[command]()));
process.exit(0);
