// Every check that needs no build: eslint, prettier, clang-format, types, layers, pages made from results. With --fix, the first three
// repair what they can. All run side by side; what fails is shown at the end with the way to repair it.
import { spawn } from "node:child_process";
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { clangFormat } from "./python-env.mjs";
import { root, sourceFiles } from "./source-files.mjs";

const require = createRequire(import.meta.url);
const fix = process.argv.includes("--fix");

/** The program of a development dependency, started with this Node. */
function tool(name, bin = name) {
  const manifest = require.resolve(`${name}/package.json`);
  const { bin: bins } = require(manifest);
  return [process.execPath, join(dirname(manifest), typeof bins === "string" ? bins : bins[bin])];
}

function run([command, ...args]) {
  return new Promise((resolve) => {
    const start = performance.now();
    const child = spawn(command, args, { cwd: root, stdio: ["ignore", "pipe", "pipe"] });
    let output = "";
    child.stdout.on("data", (data) => (output += data));
    child.stderr.on("data", (data) => (output += data));
    child.on("error", (error) => resolve({ ok: false, output: error.message, seconds: 0 }));
    child.on("close", (code) =>
      resolve({ ok: code === 0, output, seconds: (performance.now() - start) / 1000 }),
    );
  });
}

const formatted = "npm run format";
const checks = [
  {
    name: "eslint",
    command: () => [...tool("eslint"), "--max-warnings=0", ...(fix ? ["--fix"] : []), "."],
    repair: `${formatted} repairs some of these; the rest by hand`,
  },
  {
    name: "prettier",
    command: () => [...tool("prettier"), "--log-level=warn", fix ? "--write" : "--check", "."],
    repair: formatted,
  },
  {
    name: "clang-format",
    command: () => {
      const files = sourceFiles().filter((path) => /\.(h|cpp|cu|cuh)$/.test(path));
      return [clangFormat(), "-style=file", ...(fix ? ["-i"] : ["--dry-run", "-Werror"]), ...files];
    },
    repair: formatted,
    // One line per file says enough.
    brief: (output) => [...new Set(output.match(/^[^\s:]+(?=:\d+:\d+: error)/gm) ?? [output])].join("\n"),
  },
  { name: "types of lib", command: () => [...tool("typescript", "tsc"), "--noEmit", "-p", "tsconfig.json"] },
  {
    name: "types of test",
    command: () => [...tool("typescript", "tsc"), "-p", "test/tsconfig.json"],
    // Tests that import the built package need its types.
    repair: existsSync(join(root, "dist/index.d.ts")) ? undefined : "npm run build:ts first",
  },
  { name: "layers", command: () => [process.execPath, "scripts/check-layers.mjs"] },
  {
    name: "measured figures",
    command: () => [process.execPath, "scripts/performance-doc.mjs", "--check"],
    repair: "node scripts/performance-doc.mjs",
  },
];

// Fixing is done one after another, since eslint and prettier write the same files.
const results = [];
const runCheck = async (check) => {
  try {
    results.push({ ...check, ...(await run(check.command())) });
  } catch (error) {
    results.push({ ...check, ok: false, output: error.message, seconds: 0 });
  }
};
if (fix) for (const check of checks) await runCheck(check);
else await Promise.all(checks.map(runCheck));

for (const { ok, name, output, seconds, brief } of results) {
  console.log(`${ok ? "ok  " : "FAIL"} ${name} (${seconds.toFixed(1)} s)`);
  if (!ok) console.log(brief?.(output) ?? output.trimEnd());
}
const failed = results.filter(({ ok }) => !ok);
for (const { name, repair } of failed)
  console.error(`${name} failed. To repair: ${repair ?? "see its messages above"}`);
process.exitCode = failed.length > 0 ? 1 : 0;
