// The compilers of the prebuilt binaries: zig for everything, but g++ for the kernels of linux-x64, where its code is
// faster.
import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { pythonEnvironment } from "../python-env.mjs";
import { root } from "../source-files.mjs";

/** The oldest g++ that compiles the kernels. */
const oldestGxx = 12;

function output(command, args, env) {
  const { status, stdout } = spawnSync(command, args, { encoding: "utf8", env });
  return status === 0 ? stdout.trim() : undefined;
}

const ownPython = () => pythonEnvironment("requirements-prebuilds.txt", "python-prebuilds");

/** The path of zig; installs it first where it is missing. */
function zig() {
  const { python, env } = ownPython();
  const code = "import ziglang, os; print(os.path.dirname(ziglang.__file__))";
  const folder = output(python[0], [...python.slice(1), "-c", code], env);
  const program = folder && join(folder, "zig");
  if (!program || !existsSync(program)) throw new Error("zig is not where its Python package puts it");
  return program;
}

/** g++ for x86-64, as $CXX or the PATH names it. Throws where it is missing or too old. */
function gxx() {
  const program = process.env.CXX ?? "g++";
  const ask = (option) => output(program, [option]) ?? "";
  const isGxx = ask("--version").includes("Free Software Foundation");
  if (isGxx && ask("-dumpmachine").startsWith("x86_64-") && parseInt(ask("-dumpversion"), 10) >= oldestGxx)
    return program;
  throw new Error(
    `the kernels of linux-x64 are compiled with g++ ${oldestGxx} or newer for x86-64, and ${program} is none. ` +
      "Debian: apt-get install g++, or name one in the variable CXX",
  );
}

/**
 * Writes a program that starts another with some arguments before its own. `version` is the other's: compiler caches know
 * a compiler by the time and size of its program, which is this one.
 */
function wrapper(path, version, command) {
  const text = `#!/bin/sh\n# ${version}\nexec ${command.map((word) => `'${word.replaceAll("'", "'\\''")}'`).join(" ")} "$@"\n`;
  if (!existsSync(path) || readFileSync(path, "utf8") !== text) writeFileSync(path, text, { mode: 0o755 });
  return path;
}

// Nothing of this machine's folders may come to stand in a binary.
const anywhere = `-ffile-prefix-map=${root}=`;

/**
 * The tools for one target, as CMake's variables: one program each, since CMake takes no arguments with them.
 * @param {string} folder where the programs are put
 */
export function toolchain(target, folder) {
  mkdirSync(folder, { recursive: true });
  const program = zig();
  const version = output(program, ["version"]);
  // They also know the kind of a compiler by its name.
  const compiler = (name, kind) =>
    wrapper(join(folder, name), version, [program, kind, "-target", target.triple, anywhere]);
  const tool = (name) => wrapper(join(folder, name), version, [program, name]);
  return {
    CMAKE_SYSTEM_NAME: target.system,
    CMAKE_SYSTEM_PROCESSOR: target.processor,
    CMAKE_C_COMPILER: compiler("clang", "cc"),
    CMAKE_CXX_COMPILER: compiler("clang++", "c++"),
    CMAKE_AR: tool("ar"),
    CMAKE_RANLIB: tool("ranlib"),
    // What a cross build for macOS takes from Xcode.
    ...(target.system === "Darwin" ? { CMAKE_OSX_SYSROOT: "", CMAKE_OSX_ARCHITECTURES: "" } : {}),
  };
}

/** The same for the kernels alone, where another compiler makes them; else undefined. */
export function kernelsToolchain(target, folder) {
  if (target.kernels === undefined) return undefined;
  mkdirSync(folder, { recursive: true });
  const program = gxx();
  const [version] = output(program, ["--version"]).split("\n");
  return { CMAKE_CXX_COMPILER: wrapper(join(folder, "g++"), version, [program, anywhere]) };
}

export const compilerVersions = () => ({
  "g++": output(gxx(), ["-dumpfullversion"]),
  zig: output(zig(), ["version"]),
});

/** Leaves a library for macOS the entry points of Node-API alone; on Linux and Windows the linker does. */
export function narrowExports(path) {
  const { python, env } = ownPython();
  const script = fileURLToPath(new URL("narrow-exports.py", import.meta.url));
  const names = ["napi_register_module_v1", "node_api_module_get_api_version_v1"];
  const args = [...python.slice(1), script, path, ...names];
  const { status, stderr } = spawnSync(python[0], args, { encoding: "utf8", env });
  if (status !== 0) throw new Error(`the exports of ${path} could not be narrowed:\n${stderr}`);
}
