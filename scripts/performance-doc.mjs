// Writes docs/performance.md and the figures of README.md from the results under bench/results/ and the peer's
// divergence in test/golden/, so that no figure is typed. `--check` only says whether both are up to date.
import { readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";

const root = join(import.meta.dirname, "..");
const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));
const results = (kind) =>
  readdirSync(join(root, "bench/results"))
    .filter((name) => name.endsWith(`.${kind}.json`))
    .sort()
    .map((name) => [name, read(`bench/results/${name}`)]);

const number = (value) => (value >= 100 ? value.toFixed(0) : value.toPrecision(3));
const table = (head, rows) =>
  [head, head.map(() => "---"), ...rows].map((row) => `| ${row.join(" | ")} |`).join("\n");

/** One section for each machine's comparison of speeds (bench/compare.mjs --json). */
function speed([name, { machine, date, results: models }]) {
  const cell = ({ value, threads }) => `${number(value)} (${threads})`;
  const parts = models.map(
    ({ model, rows }) =>
      `**${model}**\n\n${table(
        ["", "inhouse (threads)", "node-llama-cpp (threads)", "ratio"],
        rows.map((row) => [row.name, cell(row.inhouse), cell(row.peer), row.ratio.toFixed(2)]),
      )}`,
  );
  return `### ${machine.processor ?? "unknown processor"}, ${machine.cores} cores, Node ${machine.node}

Measured on ${date.slice(0, 10)} (\`bench/results/${name}\`). Medians; each engine at the number of threads that serves it best for the figure.

${parts.join("\n\n")}
`;
}

/** One section for each machine's divergences (scripts/golden/compare.py), beside the peer's. */
function accuracy([name, ours]) {
  const peer = read("test/golden/peer-kl.json");
  const rows = Object.entries(ours.models).map(([model, kl]) => {
    const other = peer.models[model];
    return [
      kl.file,
      kl.meanKl.toExponential(2),
      other.meanKl.toExponential(2),
      (kl.meanKl / other.meanKl).toFixed(2),
      kl.meanKlWithoutFirst.toExponential(2),
      other.meanKlWithoutFirst.toExponential(2),
      `${(100 * kl.top1Agreement).toFixed(1)}% / ${(100 * other.top1Agreement).toFixed(1)}%`,
    ];
  });
  const head = [
    "file",
    "mean KL",
    "peer",
    "ratio",
    "without first position",
    "peer",
    "top-1 agreement / peer",
  ];
  return `### ${ours.machine}

${ours.settings.instructionSet}, cache ${ours.settings.cacheType} (\`bench/results/${name}\`); the peer is ${peer.engine}. Against ${ours.reference}.

${table(head, rows)}
`;
}

const page = `# Performance

This page is written by \`node scripts/performance-doc.mjs\` from \`bench/results/\`.

## Speed

\`node bench/compare.mjs MODEL.gguf… --json OUT\` runs inhouse and its peer in turn, each in fresh processes (\`npm run build\` first, and \`npm ci\` in \`bench/peers\`). \`inhouse_kernels_bench\` (built with \`INHOUSE_TESTS\`) holds single kernels to the machine's measured read bandwidth and multiply-add rate; \`node bench/event-loop.mjs MODEL\` measures the event loop's delay while a model works.

${results("speed").map(speed).join("\n")}
## Accuracy

Mean KL divergence (in nats) of the next-token distribution from what float32 gives for the same file, over four contexts of 1,024 tokens of mixed prose, code and scripts; test/golden/README.md has the commands. The reference device agrees with transformers to about 1e-11.

${results("accuracy").map(accuracy).join("\n")}
Activations are quantized to 8 bits with a scale for every 32 values. Where errors are not averaged out by what follows, a second 8-bit plane is added, which makes them 16 bits: the output head always, queries, keys and values in files of the types Q4_0 to Q8_0 (\`activation_planes\` in \`native/ops/cpu_linear.cpp\`).
`;

/** The README's short table: the first machine's speeds beside the peer's, and the divergences. */
function summary() {
  const [[, { machine, date, results: models }]] = results("speed");
  const [[, ours]] = results("accuracy");
  const peer = read("test/golden/peer-kl.json");
  const rows = models.map(({ model, rows }) => {
    const cell = (name) => {
      const row = rows.find((one) => one.name.startsWith(name));
      return `${number(row.inhouse.value)} / ${number(row.peer.value)}`;
    };
    const [id, kl] = Object.entries(ours.models).find(([, one]) => one.file === model);
    const kls = `${kl.meanKl.toExponential(1)} / ${peer.models[id].meanKl.toExponential(1)}`;
    return [model, ...["prompt of 512", "decode at depth 64", "load to first", "peak"].map(cell), kls];
  });
  const head = [
    "inhouse / node-llama-cpp",
    "prompt of 512, tokens/s",
    "decode, tokens/s",
    "load to first token, ms",
  ];
  return `${table([...head, "peak memory, MB", "mean KL to float32"], rows)}

${machine.processor}, ${machine.cores} cores, ${date.slice(0, 10)}; each engine at its best number of threads. [docs/performance.md](docs/performance.md) has all figures and the commands.`;
}

const marks = /(<!-- figures -->\n)[^]*(\n<!-- \/figures -->)/;
const readme = readFileSync(join(root, "README.md"), "utf8");
const pages = {
  "docs/performance.md": page,
  "README.md": readme.replace(marks, (_, begin, end) => `${begin}\n${summary()}\n${end}`),
};
for (const [path, raw] of Object.entries(pages)) {
  const text = await format(raw, { parser: "markdown", printWidth: 110 });
  if (!process.argv.includes("--check")) {
    writeFileSync(join(root, path), text);
  } else if (readFileSync(join(root, path), "utf8") !== text) {
    console.error(`${path} is not what bench/results say: run node scripts/performance-doc.mjs`);
    process.exitCode = 1;
  }
}
