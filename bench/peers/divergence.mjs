// What test/golden compares of the peer. Usage: node divergence.mjs COMMAND MODEL.gguf …
//   logprobs  --tokens IDS.json --out FILE.f32     log-probabilities, as scripts/golden/compare.py reads
//   encode    --text FILE                          JSON array of the text's token ids, without BOS
import { closeSync, openSync, readFileSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";

import { contexts, version } from "./node-llama-cpp.mjs";

const { values: options, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    threads: { type: "string", default: "1" },
    tokens: { type: "string" },
    out: { type: "string" },
    text: { type: "string" },
  },
});
const [command, path] = positionals;
const open = contexts(path, { threads: Number(options.threads), flashAttention: true });

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
  const lists = Array.isArray(ids[0]) ? ids : [ids];
  const { model, context } = await open(Math.max(...lists.map((list) => list.length)) + 1, 1);
  const sequence = context.getSequence();
  const vocabulary = model.fileInfo.metadata.tokenizer.ggml.tokens.length;
  // A temperature of 1 and no filter: the sampler leaves the logits as they are.
  const metadata = { generateNext: { logits: true, options: { temperature: 1, topK: 0, topP: 1, minP: 0 } } };
  const file = openSync(options.out, "w");
  let rows = 0;
  for (const list of lists) {
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
  return { engine: `node-llama-cpp ${version}`, rows, vocabulary };
}

async function encode() {
  const { model } = await open(64, 1);
  return model.tokenize(readFileSync(options.text, "utf8"), false, "trimLeadingSpace");
}

const commands = { logprobs, encode };
if (!Object.hasOwn(commands, command ?? "") || path === undefined) {
  console.error("usage: node divergence.mjs logprobs|encode MODEL.gguf [options]");
  process.exit(2);
}
console.log(JSON.stringify(await commands[command]()));
process.exit(0);
