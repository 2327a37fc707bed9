// Builds with the compilers of toolchain.mjs.
import { spawnSync } from "node:child_process";
import { mkdirSync } from "node:fs";
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { root } from "../source-files.mjs";

export const jobs = String(availableParallelism());

/** What would add to the compilers' options. */
const adds = /^((C|CXX|CPP|LD)FLAGS|CPATH|(C|CPLUS|OBJC)_INCLUDE_PATH|LIBRARY_PATH)$/;

/** The environment to build in `folder`: nothing of this one's options for compilers, and zig's caches. */
export function buildEnvironment(folder, env = process.env) {
  return {
    ...Object.fromEntries(Object.entries(env).filter(([name]) => !adds.test(name))),
    ZIG_GLOBAL_CACHE_DIR: join(root, ".cache", "zig"), // the platforms' C and C++ libraries
    ZIG_LOCAL_CACHE_DIR: join(folder, "zig"), // our objects, which go with the folder
  };
}

/** Runs a program, whose words go to stderr. Throws where it fails. */
export function run(command, args, env) {
  const { status, error } = spawnSync(command, args, { cwd: root, env, stdio: ["ignore", 2, 2] });
  if (status !== 0) throw new Error(`${command} ${args[0]} failed${error ? `: ${error.message}` : ""}`);
}

/** CMake's variables as options, `-D` before each, or cmake-js's `--CD`. */
export const definitions = (prefix, variables) =>
  Object.entries(variables).map(([name, value]) => `${prefix}${name}=${value}`);

/** Builds one of CMakeLists.txt's targets. */
export function cmake(folder, target, variables) {
  mkdirSync(folder, { recursive: true });
  const env = buildEnvironment(folder);
  const all = definitions("-D", { CMAKE_BUILD_TYPE: "Release", ...variables });
  run("cmake", ["-S", root, "-B", folder, ...all], env);
  run("cmake", ["--build", folder, "--target", target, "--parallel", jobs], env);
}

/** Builds the kernels with a compiler of their own; the library's path. */
export function buildKernels(folder, variables) {
  cmake(folder, "inhouse_kernels", variables);
  return join(folder, "libinhouse_kernels.a");
}
