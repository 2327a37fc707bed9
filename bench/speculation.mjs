// What speculation brings: decoding with it over decoding without, on texts that repeat themselves and texts that do
// not. Runs alternate, so that what else the machine does meets both; each ratio is the median of those of neighbours.
//
//   node bench/speculation.mjs MODEL [--draft FILE] [--rounds N] [--tokens N] [--threads N] [--way lookup]
//
// prints a table on stderr and one JSON document on stdout; needs `npm run build`. Every run's tokens are compared with
// those of the run without speculation: a difference ends the program with exit code 1.
import { basename } from "node:path";
import { parseArgs } from "node:util";

import { count, existing, onlyModel, start, UsageError } from "./start.mjs";

start(import.meta.filename);
const { loadModel } = await import("../dist/index.js");
const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    draft: { type: "string" },
    rounds: { type: "string", default: "3" },
    tokens: { type: "string", default: "300" },
    threads: { type: "string" },
    way: { type: "string", multiple: true, default: [] },
  },
});
const path = onlyModel(import.meta.filename, positionals);
const rounds = count("rounds", values.rounds, 1000);
const maxTokens = count("tokens", values.tokens, 1e6);
const threads = values.threads === undefined ? undefined : count("threads", values.threads, 512);
if (values.draft !== undefined) existing(values.draft);
const known = values.draft === undefined ? ["auto", "lookup"] : ["auto", "lookup", "draft"];
const unknown = values.way.find((way) => !known.includes(way));
if (unknown !== undefined)
  throw new UsageError(`--way: expected ${known.join(", ")}, got ${JSON.stringify(unknown)}`);

const code = `class Store {
  constructor(path) {
    this.path = path;
    this.entries = new Map();
    this.dirty = false;
  }

  get(key) {
    const entry = this.entries.get(key);
    if (entry === undefined) return undefined;
    entry.lastUsed = Date.now();
    return entry.value;
  }

  set(key, value) {
    this.entries.set(key, { value, lastUsed: Date.now() });
    this.dirty = true;
  }

  delete(key) {
    if (this.entries.delete(key)) this.dirty = true;
  }

  prune(maxAge) {
    const limit = Date.now() - maxAge;
    for (const [key, entry] of this.entries) {
      if (entry.lastUsed < limit) {
        this.entries.delete(key);
        this.dirty = true;
      }
    }
  }
}
`;
const people = [
  ["Ada Lovelace", "London", 1815, "wrote the first program for a machine that was never built"],
  ["Grace Hopper", "New York", 1906, "made one of the first compilers and found a moth in a relay"],
  ["Emmy Noether", "Erlangen", 1882, "showed that every symmetry brings a quantity that is conserved"],
  ["Lise Meitner", "Vienna", 1878, "explained how the nucleus of uranium comes apart"],
  ["Maria Goeppert", "Kattowitz", 1906, "found why some nuclei are more stable than others"],
]
  .map(([name, place, year, what]) => `${name} was born in ${place} in ${year}. She ${what}.`)
  .join("\n");

/** Texts that repeat their prompt or themselves, and others. */
const cases = {
  edit: {
    repeats: true,
    prompt: `Rename the class to Cache and the method prune to evict. Give the whole file and change nothing else.\n\n\`\`\`js\n${code}\`\`\``,
  },
  extract: {
    repeats: true,
    prompt: `${people}\n\nGive a JSON array with an object for each person, with the fields "name", "place", "year" and "sentence", where "sentence" is the whole second sentence about her, word for word.`,
  },
  story: {
    repeats: false,
    options: { temperature: 0.9, seed: 3 },
    prompt:
      "Tell a story about a lighthouse keeper who finds a letter. Use rich language and surprising turns.",
  },
  explain: {
    repeats: false,
    prompt: "How does a bill become a law in Germany? Explain it to somebody from abroad.",
  },
  program: {
    repeats: false,
    prompt: "Write a Python program that solves Sudoku puzzles with constraint propagation and backtracking.",
  },
};

const median = (list) => list.toSorted((a, b) => a - b)[Math.floor(list.length / 2)];
const model = await loadModel(path, {
  contextLength: 2048,
  maxConcurrent: 1,
  ...(threads === undefined ? {} : { threads }),
  ...(values.draft === undefined ? {} : { draft: { file: values.draft } }),
});
const ways = values.way.length > 0 ? values.way : values.draft === undefined ? ["auto"] : known;

/** Answers one of the cases. */
async function run(name, speculation) {
  const { prompt, options } = cases[name];
  const settings = { maxTokens, temperature: 0, ...options, speculation };
  const messages = [{ role: "user", content: prompt }];
  const generation = model.info.hasChatTemplate
    ? model.chat(messages, settings)
    : model.complete(prompt, settings);
  const { tokens, promptTokens, timings } = await generation.result();
  answers[name] = { promptTokens, tokens };
  return { tokens, ...timings };
}

const results = [];
const answers = {};
for (const name of Object.keys(cases)) {
  await run(name, "off"); // the prompt is in the cache from here on
  const ratios = Object.fromEntries(ways.map((way) => [way, []]));
  const last = {};
  for (let round = 0; round < rounds; round++) {
    for (const way of ways) {
      const [without, one] = round % 2 ? [await run(name, "off"), await run(name, way)] : [];
      const [with_, two] = round % 2 ? [one, without] : [await run(name, way), await run(name, "off")];
      if (with_.tokens.join() !== two.tokens.join()) {
        console.error(`${name}: ${way} changed the answer`);
        process.exit(1);
      }
      ratios[way].push(with_.decodeTokensPerSecond / two.decodeTokensPerSecond);
      last[way] = { with: with_, without: two };
    }
  }
  for (const way of ways) {
    const { with: timings, without } = last[way];
    const { draftTokens, acceptedDraftTokens, tokens } = timings;
    results.push({
      case: name,
      repeats: cases[name].repeats,
      way,
      ratio: median(ratios[way]),
      ratios: ratios[way],
      tokens: tokens.length,
      tokensPerSecond: timings.decodeTokensPerSecond,
      tokensPerSecondWithout: without.decodeTokensPerSecond,
      draftTokens,
      acceptedDraftTokens,
    });
    const share = draftTokens > 0 ? ` (${Math.round((100 * acceptedDraftTokens) / draftTokens)}%)` : "";
    console.error(
      `${name.padEnd(8)} ${way.padEnd(7)} ${median(ratios[way]).toFixed(2)}x of ${without.decodeTokensPerSecond.toFixed(1)} tokens/s` +
        `  ${tokens.length} tokens, ${acceptedDraftTokens} of ${draftTokens} guesses held${share}` +
        `  [${ratios[way].map((ratio) => ratio.toFixed(2)).join(" ")}]`,
    );
  }
}
await model.dispose();

/** How often the token that the draft finds likeliest is the one that the model wrote, over each case's answer. */
async function agreement() {
  const draft = await loadModel(values.draft, { contextLength: 2048, maxConcurrent: 1 });
  const shares = {};
  for (const [name, { promptTokens, tokens }] of Object.entries(answers)) {
    const all = [...promptTokens, ...tokens];
    let right = 0;
    const onRows = ({ first, count, rows }) => {
      const width = rows.length / count;
      for (let i = Math.max(0, promptTokens.length - 1 - first); i < count; i++) {
        const row = rows.subarray(i * width, (i + 1) * width);
        const next = all[first + i + 1];
        if (next !== undefined && row[next] >= row.reduce((a, b) => Math.max(a, b))) right++;
      }
    };
    await draft.evaluate(all, { onRows });
    shares[name] = right / tokens.length;
    console.error(
      `${name.padEnd(8)} the draft alone finds ${(100 * shares[name]).toFixed(1)}% of the tokens`,
    );
  }
  await draft.dispose();
  return shares;
}
const acceptance = values.draft === undefined ? undefined : await agreement();
const names = { model: basename(path), draft: values.draft && basename(values.draft) };
console.log(JSON.stringify({ ...names, results, acceptance }, null, 2));
