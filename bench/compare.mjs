// inhouse beside a peer on the same model files: both in turn, each in fresh processes, each at its best number of
// threads for each figure. Prints a table of medians and ratios; --json OUT keeps all figures.
//
// Usage: node bench/compare.mjs MODEL.gguf… [--rounds 3] [--threads 1,2] [--json OUT]
//   Build the project and run `npm ci` in bench/peers first.

import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { availableParallelism, cpus } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";

const { values: options, positionals: models } = parseArgs({
  allowPositionals: true,
  options: {
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: availableParallelism() > 1 ? `1,${availableParallelism()}` : "1" },
    json: { type: "string" },
  },
});
if (models.length === 0) {
  console.error("usage: node bench/compare.mjs MODEL.gguf… [--rounds 3] [--threads 1,2] [--json OUT]");
  process.exit(2);
}
const engines = ["inhouse", "node-llama-cpp"];
const threadCounts = options.threads.split(",").map(Number);

function run(engine, model, threads) {
  const script = join(import.meta.dirname, "peers", `${engine}.mjs`);
  const argv = [script, "speed", model, "--threads", String(threads), "--repeat", "1"];
  return JSON.parse(
    execFileSync(process.execPath, argv, { encoding: "utf8", stdio: ["ignore", "pipe", "ignore"] }),
  );
}

const median = (list) => [...list].sort((a, b) => a - b)[list.length >> 1];

// What is compared: the figure's name, where it stands in a run's JSON, and whether more is better.
const figures = [
  ["prompt of 64, tokens/s", (run) => run.tokensPerSecond.prompt64.median, true],
  ["prompt of 512, tokens/s", (run) => run.tokensPerSecond.prompt512.median, true],
  ["decode at depth 64, tokens/s", (run) => run.tokensPerSecond.decode64.median, true],
  ["decode at depth 1024, tokens/s", (run) => run.tokensPerSecond.decode1024.median, true],
  ["load to first token, ms", (run) => run.fresh.firstTokenMs, false],
  ["peak memory, MB", (run) => run.fresh.peakRssBytes / 1e6, false],
];

const results = [];
for (const model of models) {
  const runs = [];
  for (let round = 0; round < Number(options.rounds); round++) {
    for (const threads of threadCounts) {
      for (const engine of engines) {
        process.stderr.write(`${basename(model)}: round ${round + 1}, ${engine}, ${threads} threads\n`);
        runs.push({ engine, threads, ...run(engine, model, threads) });
      }
    }
  }
  const rows = figures.map(([name, value, more]) => {
    const best = engines.map((engine) => {
      const medians = threadCounts.map((threads) => ({
        threads,
        value: median(runs.filter((run) => run.engine === engine && run.threads === threads).map(value)),
      }));
      return medians.reduce((a, b) => (more === b.value > a.value ? b : a));
    });
    return { name, inhouse: best[0], peer: best[1], ratio: best[0].value / best[1].value };
  });
  results.push({ model: basename(model), rows, runs });
  console.log(`\n${basename(model)}\n`);
  console.log("| figure | inhouse (threads) | node-llama-cpp (threads) | ratio |\n|---|---|---|---|");
  for (const { name, inhouse, peer, ratio } of rows) {
    const cell = ({ value, threads }) => `${value.toFixed(value < 100 ? 1 : 0)} (${threads})`;
    console.log(`| ${name} | ${cell(inhouse)} | ${cell(peer)} | ${ratio.toFixed(2)} |`);
  }
}
if (options.json) {
  const machine = { processor: cpus()[0]?.model, cores: availableParallelism(), node: process.version };
  writeFileSync(
    options.json,
    `${JSON.stringify({ machine, date: new Date().toISOString(), results }, null, 1)}\n`,
  );
}
