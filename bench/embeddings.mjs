// Embeddings of many short texts: `model.embed` of all of them beside the peer's loop over one after the other, in
// processes of their own, taking turns.
//
//   node bench/embeddings.mjs MODEL.gguf … [--texts 1000] [--rounds 3] [--threads N] [--peer node-llama-cpp] [--json OUT]
//
// Needs `npm run build`, and `npm install` in bench/peers for the peer (--peer none measures inhouse alone). The texts
// are generated and have 5 to 30 tokens. Both sides pool the last token's hidden state, which is all that the peer does
// for models that write; the cosine of the two sides' vectors tells whether they computed the same.
import { availableParallelism } from "node:os";
import { basename } from "node:path";
import { parseArgs } from "node:util";

import { outputOf } from "./child.mjs";
import { count, models, ResultFile, start, UsageError } from "./start.mjs";
import { plural } from "./tables.mjs";

start(import.meta.filename);
const words =
  "the of and to a in that is was he for it with as his on be at by had not are but from or have an they which one you were her all she there would their we him been has when who will more no if out so said what up its about into than them can only other new some could time these two may then do first any my now such like our over man me even most made after also did many before must through".split(
    " ",
  );

/** Sentences of 4 to 27 words, always the same. */
function sentences(number) {
  let state = 12345;
  const next = (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
  return Array.from({ length: number }, () => {
    const text = Array.from({ length: 4 + next(24) }, () => words[next(words.length)]).join(" ");
    return `${text[0].toUpperCase()}${text.slice(1)}.`;
  });
}

const engines = {
  async inhouse(path, threads) {
    const { loadModel } = await import("../dist/index.js");
    const model = await loadModel(path, { device: "cpu", threads, contextLength: 512 });
    return {
      run: (texts, pooling) => model.embed(texts, { pooling }),
      tokens: (texts) => texts.map((text) => model.tokenizer.encode(text).length),
      steps: () => model.stats().steps,
    };
  },
  async "node-llama-cpp"(path, threads) {
    const { embedder } = await import("./peers/node-llama-cpp.mjs");
    return { run: await embedder(path, threads) };
  },
};

async function round([engine, path, threads, number]) {
  const texts = sentences(Number(number));
  const { run, tokens, steps } = await engines[engine](path, Number(threads));
  await run(texts.slice(0, 20));
  const timed = async (pooling) => {
    const before = steps?.() ?? 0;
    const start = performance.now();
    const vectors = await run(texts, pooling);
    const seconds = (performance.now() - start) / 1000;
    return { seconds, steps: (steps?.() ?? 0) - before, vectors };
  };
  const { vectors, ...last } = await timed("last");
  const some = vectors.filter((_, i) => i % 50 === 0).map((vector) => Array.from(vector));
  const lengths = tokens?.(texts);
  if (engine !== "inhouse") return { last, some };
  const { vectors: _, ...mean } = await timed("mean");
  return { last, mean, some, lengths };
}

function cosine(a, b) {
  const dot = (x, y) => x.reduce((sum, value, i) => sum + value * y[i], 0);
  return dot(a, b) / Math.sqrt(dot(a, a) * dot(b, b));
}

const median = (values) => values.toSorted((a, b) => a - b)[values.length >> 1];

async function measure(path, { texts, rounds, threads, peer }) {
  const names = peer === "none" ? ["inhouse"] : ["inhouse", peer];
  const results = Object.fromEntries(names.map((name) => [name, []]));
  for (let i = 0; i < rounds; ++i) {
    for (const name of i % 2 === 0 ? names : names.toReversed()) {
      const argv = [import.meta.filename, "--round", name, path, threads, texts].map(String);
      const out = await outputOf(process.execPath, argv);
      const result = JSON.parse(out.trim().split("\n").at(-1));
      results[name].push(result);
      process.stderr.write(
        `${basename(path)} round ${i + 1} ${name}: ${result.last.seconds.toFixed(2)} s` +
          `${result.mean ? `, mean pooling ${result.mean.seconds.toFixed(2)} s` : ""}\n`,
      );
    }
  }
  const [own] = results.inhouse;
  const tokens = own.lengths.reduce((sum, n) => sum + n, 0);
  const seconds = Object.fromEntries(names.map((name) => [name, results[name].map((r) => r.last.seconds)]));
  const result = {
    model: basename(path),
    texts,
    threads,
    tokens,
    textTokens: [Math.min(...own.lengths), Math.max(...own.lengths)],
    steps: own.last.steps,
    seconds,
    meanPoolingSeconds: results.inhouse.map((r) => r.mean.seconds),
    tokensPerSecond: tokens / median(seconds.inhouse),
  };
  if (peer === "none") return result;
  const ratios = seconds[peer].map((s, i) => s / seconds.inhouse[i]);
  const cosines = own.some.map((vector, i) => cosine(vector, results[peer][0].some[i]));
  return { ...result, ratios, ratio: median(ratios), leastCosine: Math.min(...cosines) };
}

if (process.argv[2] === "--round") {
  const line = `${JSON.stringify(await round(process.argv.slice(3)))}\n`;
  await new Promise((resolve) => process.stdout.write(line, resolve)); // more than a pipe holds
  process.exit(0);
}
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    texts: { type: "string", default: "1000" },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
    peer: { type: "string", default: "node-llama-cpp" },
    json: { type: "string" },
  },
});
const paths = models(import.meta.filename, positionals);
const { peer } = values;
if (peer !== "none" && !(peer !== "inhouse" && peer in engines))
  throw new UsageError(`--peer: expected node-llama-cpp or none, got ${JSON.stringify(peer)}`);
const plan = {
  texts: count("texts", values.texts, 1e6),
  rounds: count("rounds", values.rounds, 1000),
  threads: count("threads", values.threads, 512),
  peer,
};
await import("../dist/index.js");
if (peer !== "none") await import(`./peers/${peer}.mjs`);
const file = values.json === undefined ? undefined : new ResultFile(values.json);
const results = [];
for (const path of paths) results.push(await measure(path, plan));
for (const r of results) {
  const times = Object.entries(r.seconds).map(([name, s]) => `${name} ${median(s).toFixed(2)} s`);
  const ratio =
    r.ratio === undefined ? "" : `; ${r.ratio.toFixed(2)}x, cosine at least ${r.leastCosine.toFixed(4)}`;
  console.log(
    `${r.model}: ${r.texts} texts of ${r.textTokens.join("–")} tokens, ${r.tokens} in all, ${r.threads} threads: ` +
      `${times.join(", ")}${ratio}; ${r.tokensPerSecond.toFixed(0)} tokens/s in ${plural(r.steps, "step")}`,
  );
}
file?.finish(`${JSON.stringify(results, undefined, 2)}\n`);
