// What it costs to install and to import inhouse and other engines: bytes and packages of an installation, scripts that it
// would run, its time from a warm cache (npm's own, filled by a first installation in the same run), and the time of an
// import in a fresh process, over that of an empty script, without and with the native part loaded.
//
//   node bench/install.mjs [--rounds 11] [--installs 5] [--from build-prebuilds] [--machine NAME]
//
// Medians; rounds of imports go through all engines in turn, and each is installed so many times. inhouse's own
// packages (npm run prebuilds and npm run packages, or npm run packages -- --local) are served on the loopback interface; the
// others come from the registry that npm is set up for. With --machine the result goes to
// bench/results/NAME.install.json, which docs/performance.md is made from; it is printed either way.
import { execFile } from "node:child_process";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { parseArgs, promisify } from "node:util";

import { count, start } from "./start.mjs";

start(import.meta.filename);
const { serve } = await import("../scripts/packing/registry.mjs");
const { allTarballs, bytesOf, defaultFolder } = await import("../scripts/packing/tarballs.mjs");
const { npmProgram } = await import("../scripts/packing/tools.mjs");

const { values: options } = parseArgs({
  options: {
    rounds: { type: "string", default: "11" },
    installs: { type: "string", default: "5" },
    from: { type: "string", default: defaultFolder },
    machine: { type: "string" },
  },
});
const rounds = count("rounds", options.rounds, 1000);
const installs = count("installs", options.installs, 1000);
const run = promisify(execFile);
const say = (line) => process.stderr.write(`${line}\n`);

// `load` makes the native part load where the import alone does not.
const engines = [
  { name: "inhouse", load: 'await engine.readHeader("package.json").catch(() => {});' },
  {
    name: "node-llama-cpp",
    version: "3.22.1",
    load: 'await engine.getLlama({ gpu: false, build: "never", skipDownload: true, logLevel: "error" });',
  },
  { name: "@fugood/llama.node", version: "1.7.15", load: 'await engine.loadModule("default");' },
  { name: "onnxruntime-node", version: "1.30.0", load: "" },
  { name: "@huggingface/transformers", version: "4.3.1", load: "" },
];

const median = (values) => [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)];

/** Milliseconds that a command takes. */
async function timed(command, args, settings) {
  const begin = performance.now();
  await run(command, args, { maxBuffer: 1 << 26, ...settings });
  return performance.now() - begin;
}

async function install({ name, version }, folder, env) {
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{ "private": true }');
  const npm = ["install", "--ignore-scripts", "--no-audit", "--no-fund"];
  const wanted = version === undefined ? name : `${name}@${version}`;
  await run(process.execPath, [npmProgram, ...npm, wanted], { cwd: folder, env, maxBuffer: 1 << 26 });
  const times = [];
  for (let round = 0; round < installs; ++round) {
    rmSync(join(folder, "node_modules"), { recursive: true });
    rmSync(join(folder, "package-lock.json"));
    writeFileSync(join(folder, "package.json"), '{ "private": true }');
    times.push(
      await timed(process.execPath, [npmProgram, ...npm, "--offline", wanted], { cwd: folder, env }),
    );
  }
  const { packages } = JSON.parse(readFileSync(join(folder, "package-lock.json"), "utf8"));
  const installed = JSON.parse(
    readFileSync(join(folder, "node_modules/.package-lock.json"), "utf8"),
  ).packages;
  return {
    name,
    version: packages[`node_modules/${name}`].version,
    bytes: bytesOf(join(folder, "node_modules")),
    packages: Object.keys(installed).length,
    scripts: Object.keys(installed)
      .filter((path) => installed[path].hasInstallScript)
      .map((path) => path.replace(/^.*node_modules\//, "")),
    installSeconds: median(times) / 1000,
  };
}

const base = mkdtempSync(join(tmpdir(), "inhouse-bench-install-"));
const { INHOUSE_PREBUILD: _, ...env } = process.env;
const results = [];
let registry;
try {
  registry = await serve(allTarballs(options.from, join(base, "tarballs")));
  for (const [i, engine] of engines.entries()) {
    say(`installing ${engine.name}`);
    const own = engine.version === undefined ? { npm_config_registry: registry.url } : {};
    const settings = {
      ...env,
      ...own,
      npm_config_cache: join(base, `cache-${i}`),
      npm_config_update_notifier: "false",
    };
    const folder = join(base, String(i));
    results.push(await install(engine, folder, settings));
    writeFileSync(join(folder, "empty.mjs"), "");
    writeFileSync(join(folder, "import.mjs"), `import "${engine.name}";\n`);
    writeFileSync(
      join(folder, "load.mjs"),
      `import * as engine from "${engine.name}";\n${engine.load}\nprocess.exit();\n`,
    );
  }
  const samples = engines.map(() => ({ empty: [], import: [], load: [] }));
  say(`importing, ${rounds} rounds`);
  for (let round = 0; round < rounds + 1; ++round) {
    for (const i of engines.keys()) {
      for (const script of ["empty", "import", "load"]) {
        const cwd = join(base, String(i));
        const ms = await timed(process.execPath, [`${script}.mjs`], { cwd, env });
        if (round > 0) samples[i][script].push(ms); // the first one reads files that the system has not in memory
      }
    }
  }
  for (const [i, { empty, import: alone, load }] of samples.entries()) {
    results[i].importMs = median(alone) - median(empty);
    results[i].loadMs = median(load) - median(empty);
  }
} finally {
  registry?.close();
  rmSync(base, { recursive: true, force: true });
}

const npmVersion = (await run(process.execPath, [npmProgram, "--version"])).stdout.trim();
const result = {
  machine: {
    processor: cpus()[0]?.model.trim() ?? "unknown processor",
    cores: availableParallelism(),
    platform: process.platform,
  },
  date: new Date().toISOString(),
  versions: { node: process.versions.node, npm: npmVersion },
  from: basename(resolve(options.from)), // which binary it is: the shipped one, or a local build
  rounds,
  installs,
  engines: results,
};
const text = `${JSON.stringify(result, undefined, 2)}\n`;
if (options.machine !== undefined)
  writeFileSync(join(import.meta.dirname, `results/${options.machine}.install.json`), text);
process.stdout.write(text);
