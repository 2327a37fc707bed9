#!/usr/bin/env node
// What prebuildify calls in place of node-gyp (PREBUILD_NODE_GYP): builds the addon with cmake-js for the platform that
// prebuildify names in the environment, in its working folder, and leaves it in build/Release there.
import { spawnSync } from "node:child_process";
import { mkdirSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { root } from "../source-files.mjs";
import { targetName, targets } from "./targets.mjs";
import { kernelsToolchain, narrowExports, toolchain } from "./toolchain.mjs";

const staging = process.cwd();
const build = join(staging, "build");
const jobs = String(availableParallelism());
const env = {
  ...process.env,
  ZIG_GLOBAL_CACHE_DIR: join(root, ".cache", "zig"), // the platforms' C and C++ libraries
  ZIG_LOCAL_CACHE_DIR: join(build, "zig"), // our objects, which go with the build folder
};

function run(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: "inherit" });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed${error ? `: ${error.message}` : ""}`);
}

const definitions = (prefix, variables) =>
  Object.entries(variables).map(([name, value]) => `${prefix}${name}=${value}`);

/** Builds the kernels with a compiler of their own; the library's path. */
function buildKernels(variables) {
  const folder = join(build, "kernels");
  mkdirSync(folder, { recursive: true });
  run("cmake", ["-S", root, "-B", folder, "-DCMAKE_BUILD_TYPE=Release", ...definitions("-D", variables)]);
  run("cmake", ["--build", folder, "--target", "inhouse_kernels", "--parallel", jobs]);
  return join(folder, "libinhouse_kernels.a");
}

function buildAddon(variables) {
  const cmakeJs = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
  const options = ["--out", build, "--target", "inhouse", "--parallel", jobs];
  run(process.execPath, [cmakeJs, "build", ...options, ...definitions("--CD", variables)]);
}

try {
  const name = targetName(process.env);
  if (name === undefined) throw new Error("no such target: see scripts/prebuilds/targets.mjs");
  const tools = join(staging, "tools");
  rmSync(build, { recursive: true, force: true });
  const kernels = kernelsToolchain(targets[name], tools);
  buildAddon({
    ...toolchain(targets[name], tools),
    CMAKE_SHARED_LINKER_FLAGS: targets[name].platform === "darwin" ? "-Wl,-S,-x" : "-s",
    ...(kernels ? { INHOUSE_KERNELS: buildKernels(kernels) } : {}),
  });
  if (targets[name].platform === "darwin") narrowExports(join(build, "Release/inhouse.node"));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
