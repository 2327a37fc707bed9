#!/usr/bin/env node
// What prebuildify calls in place of node-gyp (PREBUILD_NODE_GYP): builds the addon with cmake-js for the platform that
// prebuildify names in the environment, in its working folder, and leaves it in build/Release there.
import { rmSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { buildEnvironment, buildKernels, definitions, jobs, run } from "./cmake.mjs";
import { targetName, targets } from "./targets.mjs";
import { kernelsToolchain, narrowExports, toolchain } from "./toolchain.mjs";

const staging = process.cwd();
const build = join(staging, "build");

function buildAddon(variables) {
  const cmakeJs = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
  const options = ["--out", build, "--target", "inhouse", "--parallel", jobs];
  const args = [cmakeJs, "build", ...options, ...definitions("--CD", variables)];
  run(process.execPath, args, buildEnvironment(build));
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
    ...(kernels ? { INHOUSE_KERNELS: buildKernels(join(build, "kernels"), kernels) } : {}),
  });
  if (targets[name].platform === "darwin") narrowExports(join(build, "Release/inhouse.node"));
} catch (error) {
  console.error(error.message);
  process.exit(1);
}
