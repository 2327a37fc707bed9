// Runs the packages that `npm run prebuilds` has made, each on the Node of its platform: natively, arm64 and the oldest
// processors under qemu, Windows under wine, musl with its own loader. The others (macOS) cannot be run here;
// test/prebuilds.test.ts looks at all binaries.
//
//   node scripts/check-prebuilds.mjs                       all that are built and that this machine can run
//   node scripts/check-prebuilds.mjs --target win32-x64    these must be there, and run if any machine like this can
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
import { chosenTargets, targets } from "./prebuilds/targets.mjs";
import { root } from "./source-files.mjs";

const packages = join(root, "build-prebuilds/packages");
const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const sum = { passed: 0, failed: 0 };

/** Makes a project with the main package, one platform's, and what runs in it. */
function makeProject(folder, name) {
  const modules = join(folder, "node_modules");
  for (const entry of ["dist", "package.json"])
    cpSync(join(root, entry), join(modules, "inhouse", entry), { recursive: true });
  // They ask for the library at ../../dist.
  cpSync(join(root, "test/lifetimes"), join(modules, "inhouse/test/lifetimes"), { recursive: true });
  for (const dependency of Object.keys(manifest.dependencies))
    cpSync(join(root, "node_modules", dependency), join(modules, dependency), { recursive: true });
  cpSync(join(packages, name), join(modules, "@inhouse", name), { recursive: true });
  copyFileSync(join(root, "scripts/prebuilds/consumer.mjs"), join(folder, "consumer.mjs"));
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

function checkTarget(name, model) {
  const folder = mkdtempSync(join(tmpdir(), "inhouse-prebuild-"));
  try {
    let host;
    check(name, "its Node and a project are there", () => {
      makeProject(folder, name);
      host = hosts[name].start();
    });
    if (host === undefined) return;
    host.env = { ...host.env, INHOUSE_PLATFORM: name };
    checkProject(name, folder, host, model);
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

function checkProject(name, folder, host, model) {
  const { oldest, slow } = hosts[name];
  const says = (text) => JSON.parse(text.split("\n").at(-1));
  const generates = (host, isRight, ...set) =>
    unexpected(
      runNode(folder, host, ["consumer.mjs", "generate", model, ...set]),
      0,
      (text) => says(text).text.includes("Paris") && says(text).same && isRight(says(text)),
    );
  const anyway = () => true;

  let sets = [];
  check(name, "the package loads", () => {
    const run = runNode(folder, host, ["consumer.mjs", "machine"]);
    const problem = unexpected(run, 0, (text) => says(text).version === manifest.version);
    if (problem === undefined) ({ sets } = says(run.text));
    return problem;
  });
  for (const set of sets) {
    if (set === "baseline" && slow) continue;
    check(name, `SmolLM2 writes with ${set}`, () => generates(host, anyway, set));
  }
  if (oldest !== undefined)
    check(name, `SmolLM2 writes on the oldest processor (${oldest.cpu})`, () => {
      const { command } = hosts[name].start(oldest.cpu);
      return generates({ ...host, command }, ({ device }) => oldest.says.test(device));
    });
  check(name, "a generation is aborted", () =>
    unexpected(runNode(folder, host, ["consumer.mjs", "abort", model]), 7),
  );
  const lifetimes = join("node_modules", "inhouse", "test", "lifetimes");
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
      return generates({ ...host, command: [...host.command.slice(0, -1), renamed] }, anyway);
    });
}

const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
let names;
try {
  names = chosenTargets(values.target);
} catch (error) {
  console.error(error.message);
  process.exit(2);
}
const model = await fetchModel("smollm2:135m");
for (const name of names) {
  const built = existsSync(join(packages, name, "inhouse.node"));
  const missing = built ? hosts[name]?.missing() : "its binary (npm run prebuilds)";
  if (built && hosts[name] === undefined) console.log(`not run: ${name}, for which there is no host`);
  else if (missing === undefined) checkTarget(name, model);
  else if (values.target === undefined) console.log(`not run: ${name}, which needs ${missing}`);
  else check(name, "can be run", () => `it needs ${missing}`);
}
if (sum.passed + sum.failed === 0) check("none", "a platform is run", () => "nothing was there to run");
console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = sum.failed > 0 ? 1 : 0;
