// The platforms that `npm run prebuilds` builds for, one npm package each.

/** The oldest C library that the binaries for glibc run with. */
export const oldestGlibc = "2.28";

const linux = (arch, libc, triple) => ({
  platform: "linux",
  arch,
  libc,
  triple,
  system: "Linux",
  processor: arch === "x64" ? "x86_64" : "aarch64",
});

/**
 * By the names of their packages, `@inhouse/<name>`: Node's words for the platform and the processor, the C library
 * where there are several, zig's words for all of it, and CMake's. `kernels` names another compiler for the kernels.
 */
export const targets = {
  "linux-x64": { ...linux("x64", "glibc", `x86_64-linux-gnu.${oldestGlibc}`), kernels: "g++" },
  "linux-x64-musl": { ...linux("x64", "musl", "x86_64-linux-musl"), kernels: "g++" },
  "linux-arm64": linux("arm64", "glibc", `aarch64-linux-gnu.${oldestGlibc}`),
  "linux-arm64-musl": linux("arm64", "musl", "aarch64-linux-musl"),
  "darwin-arm64": {
    platform: "darwin",
    arch: "arm64",
    triple: "aarch64-macos.11.0",
    system: "Darwin",
    processor: "arm64",
  },
  "darwin-x64": {
    platform: "darwin",
    arch: "x64",
    triple: "x86_64-macos.11.0",
    system: "Darwin",
    processor: "x86_64",
  },
  "win32-x64": {
    platform: "win32",
    arch: "x64",
    triple: "x86_64-windows-gnu",
    system: "Windows",
    processor: "AMD64",
  },
  "win32-arm64": {
    platform: "win32",
    arch: "arm64",
    triple: "aarch64-windows-gnu",
    system: "Windows",
    processor: "ARM64",
  },
};

/** What prebuildify says of a target in its environment, as the target's name. */
export function targetName({ PREBUILD_PLATFORM: platform, PREBUILD_ARCH: arch, PREBUILD_LIBC: libc }) {
  return Object.keys(targets).find((name) => {
    const target = targets[name];
    return (
      target.platform === platform &&
      target.arch === arch &&
      (target.libc === undefined || target.libc === libc)
    );
  });
}

/**
 * The targets that `--target` names, in the order of the table.
 * @param {string[]} [lists] names with commas between them; undefined: all
 * @returns {string[]}
 */
export function chosenTargets(lists) {
  const all = Object.keys(targets);
  const wanted = lists?.flatMap((names) => names.split(",")) ?? all;
  const unknown = wanted.filter((name) => !all.includes(name));
  if (unknown.length > 0) throw new Error(`there is no target ${unknown.join(", ")}, only ${all.join(", ")}`);
  return all.filter((name) => wanted.includes(name));
}
