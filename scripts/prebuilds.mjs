// `npm run prebuilds`: the addon for every platform, built on this machine, in build-prebuilds/:
//
//   prebuilds/<platform>-<arch>/inhouse[.<libc>].node   as prebuildify lays them out; with this folder's
//                                                       path in INHOUSE_PREBUILD the library loads from there
//   packages/<platform>/                                the platform's npm package
//   inhouse-<platform>-<version>.tgz                    its tarball
//   SHA256SUMS                                          of the tarballs there are
//
//   npm run prebuilds                                   all platforms
//   npm run prebuilds -- --target linux-arm64 [--target …]
//
// Linux on x64 with Python, CMake and g++ is all that must be there; the cross compiler is installed into
// .cache. What has been built for other platforms before stays.
import { mkdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs, promisify } from "node:util";
import { makePackage, writeChecksums } from "./prebuilds/packages.mjs";
import { chosenTargets, targets } from "./prebuilds/targets.mjs";
import { root } from "./source-files.mjs";

const prebuildify = promisify(createRequire(import.meta.url)("prebuildify"));
const out = join(root, "build-prebuilds");

/** Builds one target; the binary's path. */
async function build(name) {
  const { platform, arch, libc } = targets[name];
  const staging = join(out, "staging", name);
  mkdirSync(staging, { recursive: true });
  await prebuildify({
    cwd: staging,
    out,
    name: "inhouse",
    platform,
    arch,
    libc,
    tagLibc: libc !== undefined,
    napi: true,
    targets: [process.versions.node],
    nodeGyp: fileURLToPath(new URL("prebuilds/node-gyp.mjs", import.meta.url)),
  });
  rmSync(join(staging, "build"), { recursive: true, force: true });
  const file = libc === undefined ? "inhouse.node" : `inhouse.${libc}.node`;
  return join(out, "prebuilds", `${platform}-${arch}`, file);
}

try {
  const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
  const names = chosenTargets(values.target);
  if (process.platform !== "linux" || process.arch !== "x64")
    throw new Error("the binaries are built on Linux on x64, whose g++ compiles its kernels");
  const [, zig] = /^ziglang==(\S+)/m.exec(readFileSync(join(root, "requirements-prebuilds.txt"), "utf8"));
  const megabytes = (path) => `${(statSync(path).size / 1e6).toFixed(2)} MB`;
  for (const [i, name] of names.entries()) {
    const start = performance.now();
    console.log(`\n== ${name} (${i + 1} of ${names.length})`);
    const binary = await build(name);
    const tarball = makePackage(name, binary, out, zig);
    const seconds = ((performance.now() - start) / 1000).toFixed(0);
    console.log(`== ${name}: ${megabytes(binary)}, packed ${megabytes(tarball)}, ${seconds} s`);
  }
  writeChecksums(out);
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
