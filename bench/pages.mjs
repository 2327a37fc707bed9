// The pages made from results: docs/performance.md and the README's figures. Results come from anyone's machine, whole or
// in part.
import { engineSection } from "./engine-pages.mjs";
import {
  instructionTable,
  kernelTable,
  modelTable,
  number,
  plural,
  profileTable,
  table,
  typescriptTable,
} from "./tables.mjs";

export const pictureOf = ({ machine }) => `performance-${machine.name}.svg`;
const none = "–"; // in place of a figure that was not measured
/** Models of which a result has figures. */
export const measuredModels = ({ models = [] }) => models.filter(({ figures }) => figures.length > 0);
const giga = (value) => number(value / 1e9);

/** One model's table with the limits beside it, and what was noticed while it was measured. */
function model({ file, settings, limits, figures, profile, ...rest }) {
  const known = Object.entries(limits).map(
    ([threads, { readBytes, dotMultiplyAdds, floatMultiplyAdds, bf16MultiplyAdds }]) =>
      `${plural(threads, "thread")}: ${giga(readBytes)} GB/s read, ${giga(dotMultiplyAdds)} G/s multiply-adds of 8 bits, ${giga(floatMultiplyAdds)} G/s of float32` +
      (bf16MultiplyAdds === undefined ? "" : `, ${giga(bf16MultiplyAdds)} G/s of BF16 weights`),
  );
  return `**${file}** (${rest.architecture}, ${rest.quantization}, cache ${settings.kvType.k}, context ${settings.contextLength}, ${plural(settings.rounds, "round")})

${modelTable({ figures })}

Limits, ${known.join("; ")}.
${profile === undefined ? "" : `\nWhere the time goes (\`inhouse_profile\`, ${plural(profile.threads, "thread")}), each op beside its floor; ops of less than 1% are left out:\n\n${profileTable(profile)}\n`}${rest.warnings?.length > 0 ? `\n${rest.warnings.map((warning) => `- ${warning}`).join("\n")}\n` : ""}`;
}

/** One section for each machine's speeds (npm run bench), of what it measured. */
function speed([name, result]) {
  const { machine, date, versions, note, kernels, typescript } = result;
  const models = measuredModels(result);
  const shapes = measuredModels({ models: result.shapes });
  const engines = Object.entries(versions).map(([engine, version]) => `${engine} ${version}`);
  const runs = [kernels, ...(kernels?.others ?? [])].flatMap(({ isa, runs: list } = { runs: [] }) =>
    list.map((run) => `${plural(run.threads, "thread")}, ${isa}:\n\n${kernelTable(run)}\n`),
  );
  const parts = [
    ...(models.length > 0 ? [`![${machine.processor}](${pictureOf(result)})\n`, ...models.map(model)] : []),
    ...(shapes.length > 0
      ? ["Random weights (`inhouse_make_model`), few layers standing for many:\n", ...shapes.map(model)]
      : []),
    ...(runs.length > 0 ? ["Kernels, matrix by rows of activations:\n", ...runs] : []),
  ];
  if (typescript !== undefined) {
    const of = models.length > 0 ? `, with the tokenizer and template of ${models[0].file}` : "";
    parts.push(`The TypeScript parts${of}:\n`, `${typescriptTable(typescript)}\n`);
  }
  return `### ${machine.processor}, ${machine.cores} cores

Measured on ${date.slice(0, 10)} with ${engines.join(", ")} (\`bench/results/${name}\`). Medians; each engine at the number of threads, and with or without flash attention, that serves it best for the figure. Ratios above 1: inhouse is better.${note === undefined ? "" : ` ${note}`}

${parts.join("\n")}`;
}

/** One section for each machine's divergences (scripts/golden/compare.py), beside the peer's. */
function accuracy([name, ours], peer) {
  const percent = (of) => (of === undefined ? none : `${(100 * of.top1Agreement).toFixed(1)}%`);
  const rows = Object.entries(ours.models).map(([model, kl]) => {
    const other = peer.models[model];
    return [
      kl.file,
      kl.meanKl.toExponential(2),
      other?.meanKl.toExponential(2) ?? none,
      other === undefined ? none : (kl.meanKl / other.meanKl).toFixed(2),
      kl.meanKlWithoutFirst.toExponential(2),
      other?.meanKlWithoutFirst.toExponential(2) ?? none,
      `${percent(kl)} / ${percent(other)}`,
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

/** What one machine's compilers make of the kernels (bench/compilers.mjs). */
function compilation([name, { machine, date, versions, isa, rounds, products }]) {
  const cell = ({ shipped, ...others }) => {
    const [best, speed] = Object.entries(others).reduce((a, b) => (b[1] > a[1] ? b : a));
    return `${(shipped / speed).toFixed(2)} (${best})`;
  };
  const rows = products.map(({ type, rows, cols, vectorGB, fourGB, batch64GMAC, batch512GMAC }) => [
    `${type}, ${rows} × ${cols}`,
    ...[vectorGB, fourGB, batch64GMAC, batch512GMAC].map(cell),
  ]);
  const compilers = `g++ ${versions["g++"]}, clang of zig ${versions.zig}`;
  return `${machine.processor}, ${date.slice(0, 10)}, ${isa}, ${compilers}, medians of ${plural(rounds, "round")} (\`bench/results/${name}\`):

${table(["", "1 row", "4 rows", "64 rows", "512 rows"], rows)}
`;
}

/** One machine's installations and imports (bench/install.mjs). */
function installation([name, { machine, date, versions, from, rounds, installs, engines }]) {
  const head = [
    "package",
    "MB installed",
    "packages",
    "install, s",
    "scripts",
    "import, ms",
    "with its native part, ms",
  ];
  const rows = engines.map((engine) => [
    `${engine.name} ${engine.version}`,
    number(engine.bytes / 1e6),
    String(engine.packages),
    engine.installSeconds.toPrecision(2),
    engine.scripts.join(", ") || "none",
    engine.importMs.toFixed(0),
    engine.loadMs.toFixed(0),
  ]);
  return `${machine.processor}, ${plural(machine.cores, "core")}, ${date.slice(0, 10)}, Node ${versions.node}, npm ${versions.npm}, medians of ${plural(installs, "installation")} and ${plural(rounds, "import")}, inhouse from \`${from}\` (\`bench/results/${name}\`):

${table(head, rows)}
`;
}

/**
 * docs/performance.md. `speeds`, `engines`, `accuracies`, `counts` (of instructions), `compilations` and `installations` are the results
 * under bench/results as `[file name, content]`, `peer` is the peer's divergence.
 */
export const performancePage = ({
  speeds,
  engines,
  accuracies,
  counts,
  compilations,
  installations,
  peer,
}) => `# Performance

This page is written by \`node scripts/performance-doc.mjs\` from \`bench/results/\`.

## Speed

\`npm run bench -- --peer node-llama-cpp\` measures the kernels, then models beside the peer, each round of an engine in a fresh process and the engines in turn, then models of known shapes with random weights, then the TypeScript parts (\`npm run build\` first, and \`npm install\` in \`bench/peers\`); \`inhouse bench MODEL\` measures one file. Each figure stands beside its floor: what the machine's limits, measured in the same run, allow. Limits are the bytes that must be read over the read bandwidth, or the multiply-adds over the peak of the instruction used; padding and work done twice do not count, nor what types take more after they were rearranged than in the file. \`node bench/event-loop.mjs MODEL\` measures the event loop's delay while a model works.

${speeds.map(speed).join("\n")}
### Instructions of the ARM kernels

No ARM processor was at hand: \`node bench/instructions.mjs\` counts what the kernels execute under emulation. Each figure is instructions per multiply-add; in brackets, the share of them that multiplies and adds, which would be all at best. An \`sdot\` or \`usdot\` does 16 multiply-adds, \`smull\` and \`smlal\` 8, \`fmla\` 4; \`smmla\` and its like, which do 32, are not used. Counts say nothing of how long instructions take.

${counts.map(instructions).join("\n")}
### Compilers

\`node bench/compilers.mjs\` measures the kernels of the shipped binary for Linux on x64 (the core compiled by zig's clang, the kernels by g++) beside builds by g++ alone and by that clang alone, in turn, on one thread. Each figure is the shipped arrangement's speed over that of the faster of the two, which is named.

${compilations.map(compilation).join("\n") || "No machine has been measured yet.\n"}
## Serving

\`node bench/engine.mjs MODEL --small MODEL --machine NAME --peer node-llama-cpp\` measures all of this; the programs it runs can be run alone. \`inhouse bench serving MODEL\` measures requests that arrive at random (docs/cli.md).

${engines.map(engineSection).join("\n")}
## Size and start

\`node bench/install.mjs\` installs each package into an empty project. The time is npm's from a warm cache, without scripts: those that an installation would run are named, and what they fetch or build is not counted. An import is timed in a fresh process, from files that the system has read before, over an empty script; the last column has what makes the native part load where the import alone does not, which for node-llama-cpp includes looking at the system.

${installations.map(installation).join("\n")}
## Accuracy

Mean KL divergence (in nats) of the next-token distribution from what float32 gives for the same file, over four contexts of 1,024 tokens of mixed prose, code and scripts; test/golden/README.md has the commands. The reference device agrees with transformers to about 1e-11.

${accuracies.map((one) => accuracy(one, peer)).join("\n")}
Activations are quantized to 8 bits with a scale for every 32 values. Where errors are not averaged out by what follows, a second 8-bit plane is added, which makes them 16 bits: the output head always, queries, keys and values in files of the types Q4_0 to Q8_0 (\`activation_planes\` in \`native/ops/cpu_linear.cpp\`).
`;

/** A result's name: that of its file without `.speed.json` or `.accuracy.json`. */
const machineOf = (name) => name.replace(/\.\w+\.json$/, "");

/**
 * The README's short table: speeds of the first machine that has an accuracy result as well, beside the peer's, and the
 * divergences; empty where there is no such machine. Figures that were not measured are left out.
 */
export function summary(speeds, accuracies, peer) {
  for (const [name, ours] of accuracies) {
    const speed = speeds.find(([other]) => machineOf(other) === machineOf(name))?.[1];
    if (speed !== undefined) return summaryOf(speed, ours, peer);
  }
  return "";
}

function summaryOf({ machine, date, ...result }, ours, peer) {
  const shown = [
    ["prompt of 512", "prompt of 512, tokens/s", 1],
    ["decode at depth 64", "decode, tokens/s", 1],
    ["load to first token", "load to first token, ms", 1],
    ["peak memory", "peak memory, MB", 1e-6],
  ];
  const id = (file) => Object.keys(ours.models).find((name) => ours.models[name].file === file);
  const both = measuredModels(result).filter(({ file }) => id(file) !== undefined);
  if (both.length === 0) return "";
  const engines = [
    ...new Set(both.flatMap(({ figures }) => figures.flatMap((figure) => Object.keys(figure.engines)))),
  ];
  const rows = both.map(({ file, figures }) => {
    const cells = shown.map(([name, , scale]) => {
      const figure = figures.find((other) => other.name === name);
      if (figure === undefined) return none;
      const values = engines.map((engine) => figure.engines[engine]?.value);
      return values.map((value) => (value === undefined ? none : number(value * scale))).join(" / ");
    });
    const kls = [ours, peer].map(({ models: of }) => of[id(file)]?.meanKl.toExponential(1) ?? none);
    return [file, ...cells, kls.join(" / ")];
  });
  const head = [engines.join(" / "), ...shown.map(([, title]) => title), "mean KL to float32"];
  return `${table(head, rows)}

${machine.processor}, ${machine.cores} cores, ${date.slice(0, 10)}; each engine at its best number of threads. [docs/performance.md](docs/performance.md) has all figures and the commands.`;
}
