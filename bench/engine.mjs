// All that docs/performance.md says of the engine: many requests at once (serving.mjs), embeddings, speculation, one
// stream beside the bare forward pass, and thousands of requests whose answers and memory are checked (soak.mjs).
//
//   node bench/engine.mjs MODEL --small MODEL --machine NAME [--peer NAME] [--rounds N] [--draft FILE]
//                         [--only serving,alone,embeddings,speculation,eventLoop,soak] [--threads N]
//
// writes bench/results/NAME.engine.json, which docs/performance.md is made from (node scripts/performance-doc.mjs); parts
// that --only leaves out stay as they were. The small model is for the soak. Needs `npm run build`, and `npm install` in
// bench/peers for --peer.
import { execFileSync } from "node:child_process";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { basename, join } from "node:path";
import { parseArgs } from "node:util";

import { count, onlyModel, start, UsageError } from "./start.mjs";

start(import.meta.filename);
const { loadModel } = await import("../dist/index.mjs");
const { default: limits } = await import("../dist/cli/bench/limits.js");
const { readPeers } = await import("./options.mjs");

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    small: { type: "string" },
    machine: { type: "string" },
    peer: { type: "string", multiple: true, default: [] },
    rounds: { type: "string", default: "3" },
    threads: { type: "string", default: String(availableParallelism()) },
    draft: { type: "string" },
    only: { type: "string", default: "serving,alone,embeddings,speculation,eventLoop,soak" },
  },
});
const path = onlyModel(import.meta.filename, positionals);
const rounds = count("rounds", values.rounds, 1000);
const threads = count("threads", values.threads, 512);
const peers = readPeers(values.peer);
const [peer = "none"] = peers;
if (!/^\w[\w.-]*$/.test(values.machine ?? ""))
  throw new UsageError("--machine: expected a name of letters, digits, dots and dashes");
const root = join(import.meta.dirname, "..");
const out = join(root, `bench/results/${values.machine}.engine.json`);
const profile = join(root, "build/bench/native/inhouse_profile");
const median = (numbers) => numbers.toSorted((a, b) => a - b)[numbers.length >> 1];

/** Runs a program of this folder; returns what it prints on stdout. Exit code 1 is a verdict, told in its output. */
function run(name, args) {
  process.stderr.write(`${name}\n`);
  const options = { encoding: "utf8", stdio: ["ignore", "pipe", "inherit"], maxBuffer: 1 << 26 };
  try {
    return execFileSync(process.execPath, [join(import.meta.dirname, name), ...args.map(String)], options);
  } catch (error) {
    if (error.status !== 1 || !error.stdout) throw error;
    return error.stdout;
  }
}

/** What a program writes to the file that `--json` names. */
function written(name, args) {
  const folder = mkdtempSync(join(tmpdir(), "inhouse-bench-"));
  try {
    run(name, [...args, "--json", join(folder, "out.json")]);
    return JSON.parse(readFileSync(join(folder, "out.json"), "utf8"));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const depth = 64;
const tokens = 64;

/**
 * Tokens per second of one stream through the public API, and of the same steps without an engine. The bandwidth of a
 * virtual machine may double from one second to the next: a pair of runs counts where it was the same all the time.
 */
async function alone() {
  if (!existsSync(profile)) throw new UsageError(`${profile} is not built: npm run build`);
  const engine = [];
  const bare = [];
  const model = await loadModel(path, { device: "cpu", threads, contextLength: 512, maxConcurrent: 1 });
  const prompt = Array.from({ length: depth }, (_, i) => 1000 + 7 * i);
  const options = { maxTokens: tokens, temperature: 0, ignoreStopTokens: true, speculation: "off" };
  const args = [
    path,
    "--threads",
    threads,
    "--depth",
    depth + tokens / 2,
    "--rounds",
    tokens,
    "--limits-every",
    tokens,
  ].map(String);
  const readGB = async () => (await limits.measureLimits(threads)).readBytes / 1e9;
  const pairs = 4 * rounds + 1;
  for (let left = 10 * pairs; bare.length < pairs; left--) {
    if (left === 0) throw new Error("the machine's read bandwidth does not hold still for two seconds");
    const reads = [await readGB()];
    const { timings } = await model.complete(prompt, options).result();
    reads.push(await readGB());
    const printed = execFileSync(profile, args, { encoding: "utf8" });
    reads.push(Number(/read ([\d.]+)/.exec(printed)[1]), await readGB());
    if (Math.max(...reads) > 1.05 * Math.min(...reads)) continue;
    engine.push(timings.decodeTokensPerSecond);
    // As the engine's rate is: over all tokens, slow ones too.
    bare.push(Number(/([\d.]+) over all rounds/.exec(printed)[1]));
  }
  await model.dispose();
  const ratios = engine.map((value, i) => value / bare[i]);
  return { engine: median(engine), bare: median(bare), ratio: median(ratios), ratios };
}

const parts = {
  serving: () =>
    written("serving.mjs", [
      path,
      ...["--rounds", rounds, "--threads", threads],
      ...peers.flatMap((p) => ["--peer", p]),
    ]),
  alone,
  embeddings: () =>
    written("embeddings.mjs", [path, "--rounds", rounds, "--threads", threads, "--peer", peer]),
  speculation: () =>
    JSON.parse(
      run("speculation.mjs", [
        path,
        ...["--rounds", rounds, "--threads", threads],
        ...(values.draft === undefined ? [] : ["--draft", values.draft]),
      ]),
    ),
  eventLoop: () => JSON.parse(run("event-loop.mjs", [path])),
  soak: () => {
    if (values.small === undefined) throw new UsageError("--small: expected the soak's model");
    return { model: basename(values.small), ...JSON.parse(run("soak.mjs", [values.small])) };
  },
};
const wanted = values.only.split(",");
for (const name of wanted)
  if (!Object.hasOwn(parts, name))
    throw new UsageError(`--only: expected some of ${Object.keys(parts).join(", ")}, got ${name}`);

const earlier = existsSync(out) ? JSON.parse(readFileSync(out, "utf8")) : {};
const versions = { node: process.versions.node };
for (const engine of ["inhouse", ...peers]) {
  const { version } = await import(`./peers/${engine}.mjs`);
  versions[engine] = version;
}
const result = {
  ...earlier,
  machine: {
    name: values.machine,
    processor: cpus()[0]?.model.trim() ?? "unknown",
    cores: availableParallelism(),
  },
  date: new Date().toISOString(),
  model: basename(path),
  threads,
  versions: { ...earlier.versions, ...versions },
};
for (const name of wanted) {
  result[name] = await parts[name]();
  writeFileSync(out, `${JSON.stringify(result, null, 1)}\n`);
}
process.stderr.write(`written to ${out}\n`);
