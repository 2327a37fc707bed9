// Writes docs/performance.md with its pictures, and the figures of README.md, from the results under bench/results/ and
// the peer's divergence in test/golden/, so that no figure is typed. `--check` only says whether all are up to date.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";

import { picture } from "../bench/picture.mjs";
import {
  instructionTable,
  kernelTable,
  modelTable,
  number,
  plural,
  table,
  typescriptTable,
} from "../bench/tables.mjs";

const root = join(import.meta.dirname, "..");
const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));
const results = (kind) =>
  readdirSync(join(root, "bench/results"))
    .filter((name) => name.endsWith(`.${kind}.json`))
    .sort()
    .map((name) => [name, read(`bench/results/${name}`)]);

const pictureOf = ({ machine }) => `performance-${machine.name}.svg`;
const giga = (value) => number(value / 1e9);

function model({ file, settings, limits, figures, ...rest }) {
  const known = Object.entries(limits).map(
    ([threads, { readBytes, dotMultiplyAdds, floatMultiplyAdds, bf16MultiplyAdds }]) =>
      `${plural(threads, "thread")}: ${giga(readBytes)} GB/s read, ${giga(dotMultiplyAdds)} G/s multiply-adds of 8 bits, ${giga(floatMultiplyAdds)} G/s of float32` +
      (bf16MultiplyAdds === undefined ? "" : `, ${giga(bf16MultiplyAdds)} G/s of BF16 weights`),
  );
  return `**${file}** (${rest.architecture}, ${rest.quantization}, cache ${settings.kvType.k}, context ${settings.contextLength}, ${plural(settings.rounds, "round")})

${modelTable({ figures })}

Limits, ${known.join("; ")}.
`;
}

/** One section for each machine's speeds (npm run bench). */
function speed([name, result]) {
  const { machine, date, versions, models, kernels, typescript } = result;
  const engines = Object.entries(versions).map(([engine, version]) => `${engine} ${version}`);
  const runs = kernels.runs.map(
    (run) => `${plural(run.threads, "thread")}, ${kernels.isa}:\n\n${kernelTable(run)}\n`,
  );
  return `### ${machine.processor}, ${machine.cores} cores

Measured on ${date.slice(0, 10)} with ${engines.join(", ")} (\`bench/results/${name}\`). Medians; each engine at the number of threads, and with or without flash attention, that serves it best for the figure. Ratios above 1: inhouse is better.

![${machine.processor}](${pictureOf(result)})

${models.map(model).join("\n")}
Kernels, matrix by rows of activations:

${runs.join("\n")}
The TypeScript parts, with the tokenizer and template of ${models[0].file}:

${typescriptTable(typescript)}
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

/** What each set's multiply-adds cost in instructions (bench/instructions.mjs). */
function instructions([name, result]) {
  const uses = {};
  for (const { isa, multiplyBy } of result.counts)
    for (const instruction of multiplyBy) (uses[isa] ??= new Set()).add(instruction);
  const by = Object.entries(uses).map(([isa, names]) => `${isa}: ${[...names].join(", ")}`);
  const { rows, cols } = result.shape;
  return `A matrix of ${rows} × ${cols} by rows of activations, quantizing them included (\`bench/results/${name}\`); multiplying by ${by.join("; ")}.

${instructionTable(result)}
`;
}

const page = `# Performance

This page is written by \`node scripts/performance-doc.mjs\` from \`bench/results/\`.

## Speed

\`npm run bench -- --peer node-llama-cpp\` measures the kernels, then models beside the peer, each round of an engine in a fresh process and the engines in turn, then the TypeScript parts (\`npm run build\` first, and \`npm install\` in \`bench/peers\`); \`inhouse bench MODEL\` measures one file. Each figure stands beside its floor: what the machine's limits, measured in the same run, allow. Limits are the bytes that must be read over the read bandwidth, or the multiply-adds over the peak of the instruction used; padding and work done twice do not count. \`node bench/event-loop.mjs MODEL\` measures the event loop's delay while a model works. \`inhouse_make_model\` writes models of known shapes in any type, for sizes beyond the files at hand.

${results("speed").map(speed).join("\n")}
### Instructions of the ARM kernels

No ARM processor was at hand: \`node bench/instructions.mjs\` counts what the kernels execute under emulation. Each figure is instructions per multiply-add; in brackets, the share of them that multiplies and adds, which would be all at best. An \`sdot\` or \`usdot\` does 16 multiply-adds, \`smull\` and \`smlal\` 8, \`fmla\` 4; \`smmla\` and its like, which do 32, are not used. Counts say nothing of how long instructions take.

${results("instructions").map(instructions).join("\n")}
## Accuracy

Mean KL divergence (in nats) of the next-token distribution from what float32 gives for the same file, over four contexts of 1,024 tokens of mixed prose, code and scripts; test/golden/README.md has the commands. The reference device agrees with transformers to about 1e-11.

${results("accuracy").map(accuracy).join("\n")}
Activations are quantized to 8 bits with a scale for every 32 values. Where errors are not averaged out by what follows, a second 8-bit plane is added, which makes them 16 bits: the output head always, queries, keys and values in files of the types Q4_0 to Q8_0 (\`activation_planes\` in \`native/ops/cpu_linear.cpp\`).
`;

/** The README's short table: the first machine's speeds beside the peer's, and the divergences. */
function summary() {
  const [[, { machine, date, models }]] = results("speed");
  const [[, ours]] = results("accuracy");
  const peer = read("test/golden/peer-kl.json");
  const shown = {
    "prompt of 512": 1,
    "decode at depth 64": 1,
    "load to first token": 1,
    "peak memory": 1e-6,
  };
  const id = (file) => Object.keys(ours.models).find((name) => ours.models[name].file === file);
  const both = models.filter(({ file }) => id(file) !== undefined);
  const rows = both.map(({ file, figures }) => {
    const cells = Object.entries(shown).map(([name, scale]) => {
      const { engines } = figures.find((figure) => figure.name === name);
      return Object.values(engines)
        .map(({ value }) => number(value * scale))
        .join(" / ");
    });
    const kls = [ours, peer].map(({ models: of }) => of[id(file)].meanKl.toExponential(1)).join(" / ");
    return [file, ...cells, kls];
  });
  const head = [
    Object.keys(both[0].figures[0].engines).join(" / "),
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
for (const [, result] of results("speed")) pages[`docs/${pictureOf(result)}`] = picture(result);
for (const [path, raw] of Object.entries(pages)) {
  const text = path.endsWith(".md") ? await format(raw, { parser: "markdown", printWidth: 110 }) : raw;
  const file = join(root, path);
  if (!process.argv.includes("--check")) {
    writeFileSync(file, text);
  } else if (!existsSync(file) || readFileSync(file, "utf8") !== text) {
    console.error(`${path} is not what bench/results say: run node scripts/performance-doc.mjs`);
    process.exitCode = 1;
  }
}
