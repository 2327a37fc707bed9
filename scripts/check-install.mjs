// Installs the packages as a user would, with each version of Node that is supported, and tries what they are for:
//
//   node scripts/check-install.mjs [--from FOLDER] [--node 20,24]
//
// FOLDER has the tarballs (build-prebuilds, where it is there, else build-local, made by `npm run packages -- --local`). They
// are served on the loopback interface; the packages of platforms that are not there are stood in for by empty ones. What
// the installed package is tried with (Node itself, TypeScript, Jest, esbuild, file tracing) is fetched once into .cache.
// Needs SmolLM2 (node scripts/fetch-models.mjs). The last line is "N passed, N failed".
import { execFile, spawnSync } from "node:child_process";
import { cpSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { parseArgs } from "node:util";
import { platformName } from "../dist/native/platforms.js";
import { fetchModel } from "./fetch-models.mjs";
import { serve } from "./packing/registry.mjs";
import { allTarballs, bytesOf, defaultFolder } from "./packing/tarballs.mjs";
import { installTools, npmProgram } from "./packing/tools.mjs";
import { root } from "./source-files.mjs";

const { values: options } = parseArgs({
  options: {
    from: { type: "string", default: defaultFolder },
    node: { type: "string", default: "20,22,24,26" },
  },
});
const platform = platformName();
const programs = join(root, "test/install/programs");
const model = await fetchModel("smollm2:135m");
const tools = installTools();
const base = mkdtempSync(join(tmpdir(), "inhouse install-")); // with a space, as users' folders have
const sum = { passed: 0, failed: 0 };
const mostBytes = 12e6; // that an installation may take

/** Runs one check; it fails where it throws. */
async function check(name, body) {
  const start = performance.now();
  let problem;
  try {
    await body();
  } catch (error) {
    problem = error;
  }
  sum[problem === undefined ? "passed" : "failed"] += 1;
  const seconds = ((performance.now() - start) / 1000).toFixed(1);
  console.log(`${problem === undefined ? "ok  " : "FAIL"} ${name} (${seconds} s)`);
  if (problem !== undefined) console.log(problem.message);
}

function expect(text, pattern) {
  if (!pattern.test(text)) throw new Error(`expected ${pattern}, got:\n${text}`);
  return text;
}

/** A project of its own for one version of Node, and what runs in it. */
function project(name, node) {
  const folder = join(base, name);
  mkdirSync(folder);
  writeFileSync(join(folder, "package.json"), '{ "name": "project", "private": true }');
  const { NODE_OPTIONS: _, INHOUSE_PREBUILD: __, ...env } = process.env;
  Object.assign(env, {
    PATH: `${dirname(node)}${delimiter}${env.PATH}`,
    MODEL: model,
    INHOUSE_CACHE: join(base, "cache"),
    NODE_NO_WARNINGS: "1",
    npm_config_registry: registry.url,
    npm_config_cache: join(base, "npm-cache"),
    npm_config_update_notifier: "false",
  });
  // Not synchronously: the registry is in this process.
  const run = async (args, settings) => {
    const { error, stdout, stderr } = await new Promise((resolve) => {
      const all = { cwd: folder, env, encoding: "utf8", timeout: 120_000, ...settings };
      execFile(node, args, all, (error, stdout, stderr) => resolve({ error, stdout, stderr }));
    });
    if (error)
      throw new Error(
        `${args.join(" ")}: ${error.signal ?? `exit status ${error.code}`}\n${stdout}${stderr}`,
      );
    return `${stdout}${stderr}`;
  };
  const npm = (...args) => run([npmProgram, ...args]);
  return { folder, env, run, npm };
}

const load =
  'require("inhouse").readHeader("package.json").catch((error) => console.log(error.code, error.message))';
const works = /^ERR_INHOUSE_GGUF_MAGIC/;

async function tryNode(major, node) {
  const { folder, env, run, npm } = project(`node-${major}`, node);
  const all = `Node ${(await run(["-p", "process.versions.node"])).trim()}: `;
  await check(`${all}npm install, with this platform's package alone`, async () => {
    await npm("install", "--ignore-scripts", "inhouse");
    expect(readdirSync(join(folder, "node_modules/@inhouse")).join(), new RegExp(`^${platform}$`));
    const lock = readFileSync(join(folder, "package-lock.json"), "utf8");
    if (lock.includes("hasInstallScript")) throw new Error("a package has an install script");
    await npm("ls", "--all");
    const bytes = bytesOf(join(folder, "node_modules"));
    if (bytes > mostBytes) throw new Error(`${bytes} bytes are installed, more than ${mostBytes}`);
  });
  cpSync(programs, folder, { recursive: true });
  await check(`${all}require`, async () => expect(await run(["require.cjs"]), /^ Paris/));
  await check(`${all}import`, async () => expect(await run(["import.mjs"]), /^ Paris/));
  await check(`${all}a worker thread`, async () => expect(await run(["worker.cjs"]), /^ Paris/));
  await check(`${all}Jest`, async () => {
    const jest = join(tools, "node_modules/jest/bin/jest.js");
    expect(await run([jest, "--rootDir", folder, "--testMatch", "**/*.test.cjs"]), /1 passed/);
  });
  await check(`${all}--permission --allow-addons`, async () => {
    const flag = major === "20" ? "--experimental-permission" : "--permission";
    const rights = ["--allow-addons", `--allow-fs-read=${folder}/*`, `--allow-fs-read=${model}`];
    expect(await run([flag, ...rights, "require.cjs"]), /^ Paris/);
    expect(await run([flag, `--allow-fs-read=${folder}/*`, "-e", load]), /start node with --allow-addons/);
  });
  await check(`${all}npx inhouse run`, async () => {
    const args = [
      "run",
      model,
      "The capital of France is",
      "--raw",
      "--max-tokens",
      "3",
      "--temperature",
      "0",
    ];
    expect(await npm("exec", "--offline", "--", "inhouse", ...args), /Paris/);
    const doctor = JSON.parse(await run(["node_modules/inhouse/dist/cli/main.js", "doctor", "--json"]));
    expect(doctor.binary.package, new RegExp(`^@inhouse/${platform}$`));
  });
  return { node, folder, env, run };
}

/** What does not depend on the version of Node. */
async function tryTools({ folder, run }) {
  for (const module of ["node16", "nodenext", "preserve"]) {
    await check(`TypeScript with ${module === "preserve" ? "bundler" : module}`, async () => {
      cpSync(join(root, "test/api/fixtures"), join(folder, "types"), { recursive: true });
      const resolution = module === "preserve" ? "bundler" : module;
      const settings = `--noEmit --strict --target es2022 --module ${module} --moduleResolution ${resolution}`;
      const roots = ["--typeRoots", join(tools, "node_modules/@types"), "--types", "node"];
      const tsc = join(tools, "node_modules/typescript/bin/tsc");
      await run([
        tsc,
        "--ignoreConfig",
        ...settings.split(" "),
        ...roots,
        "types/module.mts",
        "types/common.cts",
      ]);
    });
  }
  await check("an esbuild bundle, with the package external", async () => {
    const esbuild = join(tools, "node_modules/esbuild/bin/esbuild");
    const flags = ["--bundle", "--platform=node", "--external:inhouse", "--outfile=bundle.cjs"];
    const { status, stderr } = spawnSync(esbuild, ["require.cjs", ...flags], {
      cwd: folder,
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    expect(readFileSync(join(folder, "bundle.cjs"), "utf8"), /require\("inhouse"\)/);
    expect(await run(["bundle.cjs"]), /^ Paris/);
  });
  await check("an esbuild bundle with everything in it", async () => {
    const esbuild = join(tools, "node_modules/esbuild/bin/esbuild");
    const flags = [
      "--bundle",
      "--platform=node",
      "--loader:.node=copy",
      "--outdir=whole",
      "--log-level=error",
    ];
    const { status, stderr } = spawnSync(esbuild, ["require.cjs", ...flags], {
      cwd: folder,
      encoding: "utf8",
    });
    if (status !== 0) throw new Error(stderr);
    const alone = join(base, "alone");
    cpSync(join(folder, "whole"), alone, { recursive: true });
    expect(await run([join(alone, "require.js")], { cwd: alone }), /^ Paris/);
  });
  await check("file tracing, as for a standalone Next server", async () => {
    const { nodeFileTrace } = await import(join(tools, "node_modules/@vercel/nft/out/index.js"));
    const entries = ["require.cjs", "import.mjs"].map((name) => join(folder, name));
    const { fileList } = await nodeFileTrace(entries, { base: folder });
    const traced = join(base, "traced");
    for (const path of fileList) cpSync(join(folder, path), join(traced, path));
    expect([...fileList].join("\n"), new RegExp(`@inhouse/${platform}/inhouse\\.node`));
    expect(await run(["require.cjs"], { cwd: traced }), /^ Paris/);
    expect(await run(["import.mjs"], { cwd: traced }), /^ Paris/);
  });
}

/** Where the system lets mount. */
async function tryReadOnly({ node, folder, env }) {
  const namespace = ["--map-root-user", "--mount", "sh", "-ec"];
  const mount = 'mount --bind "$1" "$1"; mount -o remount,bind,ro "$1"; cd "$1"';
  const inside = (script) =>
    spawnSync("unshare", [...namespace, `${mount}; ${script}`, node, folder], { env, encoding: "utf8" });
  if (inside("true").status !== 0) return;
  await check("a project that cannot be written to", async () => {
    const { stdout, stderr } = inside(
      'if touch written 2> /dev/null; then exit 9; fi; exec "$0" require.cjs',
    );
    expect(stdout + stderr, /^ Paris/);
  });
}

/** Installations that lack the platform's package, and whether what the error says mends them. */
async function tryRemedies(node) {
  await check("--omit=optional, and what mends it", async () => {
    const { run, npm } = project("omitted", node);
    await npm("install", "--ignore-scripts", "--omit=optional", "inhouse");
    expect(await run(["-e", load]), /npm install --include=optional/);
    await npm("install", "--include=optional");
    expect(await run(["-e", load]), works);
  });
  await check("node_modules and a lock file of another system, and what mends them", async () => {
    const { folder, run, npm } = project("foreign", node);
    await npm("install", "--ignore-scripts", "--os=darwin", "--cpu=arm64", "inhouse");
    expect(
      await run(["-e", load]),
      /@inhouse\/darwin-arm64, so node_modules.*delete node_modules and package-lock\.json, then: npm install/,
    );
    for (const name of ["node_modules", "package-lock.json"]) rmSync(join(folder, name), { recursive: true });
    await npm("install");
    expect(await run(["-e", load]), works);
  });
  await check("npm ci with a lock file of another system", async () => {
    const { folder, run, npm } = project("foreign lock", node);
    await npm("install", "--ignore-scripts", "--os=darwin", "--cpu=arm64", "inhouse");
    rmSync(join(folder, "node_modules"), { recursive: true });
    await npm("ci");
    expect(await run(["-e", load]), works);
  });
}

let registry;
try {
  registry = await serve(allTarballs(options.from, join(base, "tarballs")));
  console.log(`packages of ${options.from}`);
  const nodes = options.node
    .split(",")
    .map((major) => [major, join(tools, `node_modules/node-${major}/bin/node`)]);
  let last;
  for (const [major, node] of nodes) last = await tryNode(major, node);
  await tryTools(last);
  await tryReadOnly(last);
  await tryRemedies(nodes.at(-1)[1]);
  await check("nothing else was asked for", async () => expect(registry.missing.join(), /^$/));
} catch (error) {
  sum.failed += 1;
  console.error(error.message);
} finally {
  registry?.close();
  rmSync(base, { recursive: true, force: true });
}
console.log(`\n${sum.passed} passed, ${sum.failed} failed`);
process.exitCode = sum.failed > 0 ? 1 : 0;
