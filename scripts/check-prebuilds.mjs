// Runs the packages that `npm run prebuilds` has made, each on the Node of its platform: natively, arm64 under qemu,
// Windows under wine, musl with its own loader. macOS cannot be run here; test/prebuilds.test.ts looks at all binaries.
//
//   node scripts/check-prebuilds.mjs                       all that are built and that this machine can run
//   node scripts/check-prebuilds.mjs --target win32-x64    these must be there, and must run
//
// Needs dist/ (npm run build:ts). The last line is "N passed, N failed".
import { spawnSync } from "node:child_process";
import {
  closeSync,
  copyFileSync,
  cpSync,
  existsSync,
  mkdtempSync,
  openSync,
  readFileSync,
  rmSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { fetchModel } from "./fetch-models.mjs";
import { hosts } from "./prebuilds/hosts.mjs";
import { targets } from "./prebuilds/targets.mjs";
import { root } from "./source-files.mjs";

const packages = join(root, "build-prebuilds/packages");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const sum = { passed: 0, failed: 0 };

/** A project with the main package, one platform's, and what runs in it. */
function project(name) {
  const folder = mkdtempSync(join(tmpdir(), "inhouse-prebuild-"));
  const modules = join(folder, "node_modules");
  for (const entry of ["dist", "package.json"])
    cpSync(join(root, entry), join(modules, "inhouse", entry), { recursive: true });
  // They ask for the library at ../../dist.
  cpSync(join(root, "test/lifetimes"), join(modules, "inhouse/test/lifetimes"), { recursive: true });
  for (const dependency of Object.keys(manifest.dependencies))
    cpSync(join(root, "node_modules", dependency), join(modules, dependency), { recursive: true });
  cpSync(join(packages, name), join(modules, "@inhouse", name), { recursive: true });
  copyFileSync(join(root, "scripts/prebuilds/consumer.mjs"), join(folder, "consumer.mjs"));
  return folder;
}

/** Runs Node in a project. Output goes to a file: pipes under wine lose what comes last. */
function runNode(folder, host, args) {
  const path = join(folder, "output.txt");
  const output = openSync(path, "w");
  const [command, ...before] = host.command;
  const { status, signal, error } = spawnSync(command, [...before, ...args], {
    cwd: folder,
    env: { ...process.env, INHOUSE_PREBUILD: "", ...host.env },
    stdio: ["ignore", output, output],
    timeout: 300_000,
    killSignal: "SIGKILL",
  });
  closeSync(output);
  if (error) throw error;
  return { status, signal, text: readFileSync(path, "utf8").trim() };
}

function check(name, what, action) {
  const start = performance.now();
  let problem;
  try {
    problem = action();
  } catch (error) {
    problem = error.message;
  }
  sum[problem === undefined ? "passed" : "failed"]++;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${problem === undefined ? "ok  " : "FAIL"} ${name}: ${what} (${seconds} s)`);
  if (problem !== undefined) console.log(problem.replace(/^/gm, "     "));
}

/** Why a run was not as expected; undefined: it was. */
function unexpected({ status, signal, text }, code, isRight = () => true) {
  let right = status === code && signal === null;
  try {
    right &&= isRight(text);
  } catch {
    right = false; // no JSON
  }
  return right ? undefined : `exit status ${status}, signal ${signal}, expected ${code}; output:\n${text}`;
}

const exits = {
  "exit at load": 7,
  "exit in the prompt": 7,
  "exit in decoding": 7,
  "throw in decoding": 1,
  idle: 0,
};

async function checkTarget(name, model) {
  const folder = project(name);
  const host = hosts[name].start();
  host.env = { ...host.env, INHOUSE_PLATFORM: name };
  const lifetimes = join("node_modules", "inhouse", "test", "lifetimes");
  const says = (text) => JSON.parse(text.split("\n").at(-1));
  try {
    let sets = [];
    check(name, "the package loads", () => {
      const run = runNode(folder, host, ["consumer.mjs", "machine"]);
      const problem = unexpected(run, 0, (text) => says(text).version === manifest.version);
      if (problem === undefined) ({ sets } = says(run.text));
      return problem;
    });
    for (const set of sets) {
      if (set === "baseline" && hosts[name].slow) continue;
      check(name, `SmolLM2 writes with ${set}`, () => {
        const run = runNode(folder, host, ["consumer.mjs", "generate", model, set]);
        return unexpected(run, 0, (text) => says(text).text.includes("Paris") && says(text).same);
      });
    }
    check(name, "a generation is aborted", () =>
      unexpected(runNode(folder, host, ["consumer.mjs", "abort", model]), 7),
    );
    for (const [what, code] of Object.entries(exits))
      check(name, what, () =>
        unexpected(runNode(folder, host, ["--expose-gc", join(lifetimes, "exit.mjs"), what, model]), code),
      );
    const workers = ["--expose-gc", join(lifetimes, "workers.mjs"), model];
    for (const phase of ["load", "decode"])
      check(name, `workers are terminated at ${phase}`, () =>
        unexpected(runNode(folder, host, [...workers, phase, "4"]), 0, (text) => says(text).phase === phase),
      );
    if (targets[name].platform === "win32")
      check(name, "node.exe under another name", () => {
        const renamed = join(folder, "service.exe");
        copyFileSync(host.command.at(-1), renamed);
        const other = { ...host, command: [...host.command.slice(0, -1), renamed] };
        const run = runNode(folder, other, ["consumer.mjs", "generate", model]);
        return unexpected(run, 0, (text) => says(text).text.includes("Paris"));
      });
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
const asked = values.target?.flatMap((names) => names.split(","));
const unknown = (asked ?? []).filter((name) => !(name in targets));
if (unknown.length > 0) {
  console.error(`no such target: ${unknown.join(", ")}; there is ${Object.keys(targets).join(", ")}`);
  process.exit(2);
}
const model = await fetchModel("smollm2:135m");
for (const name of Object.keys(targets)) {
  if (asked !== undefined && !asked.includes(name)) continue;
  const built = existsSync(join(packages, name, "inhouse.node"));
  const missing = built
    ? hosts[name]
      ? hosts[name].missing()
      : "a machine of its own"
    : "its binary (npm run prebuilds)";
  if (missing === undefined) await checkTarget(name, model);
  else if (asked === undefined) console.log(`not run: ${name}, which needs ${missing}`);
  else check(name, "can be run", () => `it needs ${missing}`);
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = sum.failed > 0 ? 1 : 0;
