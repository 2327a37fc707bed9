// `npm test`: builds, lints, fetches the small model, runs ctest and vitest, and ends with "N passed, N failed".
//
//   node scripts/test.mjs                        everything that needs the small model at most
//   node scripts/test.mjs --models               fetches the larger models and runs test/models
//   node scripts/test.mjs --preset NAME [--compiler CXX] [--tests REGEX]
//                                                the C++ tests alone, built with a preset of CMakePresets.json
//   node scripts/test.mjs --sanitized-addon [FILE…]
//                                                vitest (by default hostile files through the library) over an addon
//                                                built with AddressSanitizer and UndefinedBehaviorSanitizer (Linux, g++)
//
// The sum counts ctest suites, vitest tests, and one for each other step.
import { spawnSync } from "node:child_process";
import { mkdirSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { dirname, isAbsolute, join } from "node:path";
import { parseArgs } from "node:util";
import { root } from "./source-files.mjs";

const { values: options, positionals: files } = parseArgs({
  allowPositionals: process.argv.includes("--sanitized-addon"),
  options: {
    models: { type: "boolean", default: false },
    preset: { type: "string" },
    compiler: { type: "string" },
    tests: { type: "string" },
    "sanitized-addon": { type: "boolean", default: false },
  },
});
const jobs = String(availableParallelism());
const node = process.execPath;
const vitest = join(dirname(createRequire(import.meta.url).resolve("vitest/package.json")), "vitest.mjs");
const results = join(root, ".cache", "test-results");

const sum = { passed: 0, failed: 0 };
const failures = [];

/** Runs one step; `count` reads its own passed and failed numbers from the file it has written. */
function step(name, [command, ...args], count, env = {}) {
  console.log(`\n== ${name}`);
  const start = performance.now();
  const { status, error } = spawnSync(command, args, {
    cwd: root,
    stdio: ["ignore", "inherit", "inherit"],
    env: { ...process.env, ...env },
  });
  if (error) console.error(error.message);
  const ok = status === 0;
  let counted = { passed: ok && count === undefined ? 1 : 0, failed: 0 };
  try {
    counted = count?.() ?? counted;
  } catch (problem) {
    console.error(`${name} left no results: ${problem.message}`);
  }
  sum.passed += counted.passed;
  sum.failed += ok ? counted.failed : Math.max(counted.failed, 1);
  if (!ok || counted.failed > 0) failures.push(name);
  console.log(`== ${name}: ${ok ? "ok" : "FAILED"} (${((performance.now() - start) / 1000).toFixed(0)} s)`);
  return ok;
}

function ctest(folder) {
  const report = join(results, `${folder}.xml`);
  const filter = options.tests ? ["--tests-regex", options.tests] : [];
  const args = [
    "--test-dir",
    folder,
    "--output-on-failure",
    "--no-tests=error",
    "-j",
    jobs,
    "--output-junit",
    report,
  ];
  rmSync(report, { force: true });
  step(`C++ tests in ${folder}`, ["ctest", ...args, ...filter], () => {
    const head = /<testsuite\b[^>]*>/.exec(readFileSync(report, "utf8"))[0];
    const number = (attribute) => Number(new RegExp(`\\b${attribute}="(\\d+)"`).exec(head)?.[1] ?? 0);
    const failed = number("failures");
    return { passed: number("tests") - failed - number("skipped") - number("disabled"), failed };
  });
}

function runVitest(name, args, env) {
  const report = join(results, "vitest.json");
  rmSync(report, { force: true });
  const reporters = ["--reporter=default", "--reporter=json", `--outputFile.json=${report}`];
  step(
    name,
    [node, vitest, "run", ...args, ...reporters],
    () => {
      const { numPassedTests, numFailedTests } = JSON.parse(readFileSync(report, "utf8"));
      return { passed: numPassedTests, failed: numFailedTests };
    },
    env,
  );
}

/** Node itself is not sanitized, so the runtime comes before it, and what Node leaks does not count. */
function sanitized() {
  const compiler = process.env.CXX ?? "g++";
  const { stdout } = spawnSync(compiler, ["-print-file-name=libasan.so"], { encoding: "utf8" });
  const runtime = stdout?.trim() ?? "";
  if (!isAbsolute(runtime)) {
    console.error(`${compiler} has no libasan.so: install g++ with its sanitizers, or name it in CXX`);
    process.exit(1);
  }
  return {
    INHOUSE_PREBUILD: join(root, "build-asan-addon"),
    LD_PRELOAD: runtime,
    ASAN_OPTIONS: `${process.env.ASAN_OPTIONS ?? ""}:detect_leaks=0`,
  };
}

function build() {
  return (
    step("native build", [node, "scripts/build-native.mjs"]) &&
    step("TypeScript build", [node, "scripts/build-ts.mjs"])
  );
}

mkdirSync(results, { recursive: true });
if (options.preset !== undefined) {
  const folder = `build-${options.preset}`;
  const compiler = options.compiler
    ? [`-DCMAKE_CXX_COMPILER=${options.compiler}`, `-DCMAKE_C_COMPILER=${options.compiler.replace("++", "")}`]
    : [];
  const built =
    step(`configure ${folder}`, ["cmake", "--preset", options.preset, ...compiler]) &&
    step(`build ${folder}`, ["cmake", "--build", folder, "--parallel", jobs]);
  if (built) ctest(folder);
} else if (options["sanitized-addon"]) {
  const environment = sanitized();
  const tests = files.length > 0 ? files : ["test/hostile.test.ts"];
  if (step("native build", [node, "scripts/build-native.mjs", "--sanitize"]))
    runVitest(`${tests.join(", ")}, sanitized`, tests, environment);
} else if (options.models) {
  if (build() && step("models", [node, "scripts/fetch-models.mjs", "--all"])) {
    runVitest("tests of the larger models", ["--config", "vitest.models.config.mts"]);
  }
} else if (build()) {
  step("lint", [node, "scripts/lint.mjs"]);
  step("model", [node, "scripts/fetch-models.mjs"]);
  ctest("build");
  runVitest("TypeScript tests", []);
}

if (failures.length > 0) console.log(`\nFailed: ${failures.join(", ")}`);
console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = failures.length > 0 ? 1 : 0;
