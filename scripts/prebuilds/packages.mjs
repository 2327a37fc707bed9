// Makes the npm package of a platform from its binary.
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { copyFileSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { platformSbom } from "../packing/sbom.mjs";
import { root } from "../source-files.mjs";
import { oldestGlibc, targets } from "./targets.mjs";

const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));

/** The name of a platform's package. */
export const packageName = (name) => `@inhouse/${name}`;

/** The tarball of a package at this version, as npm names it. */
export const tarballName = (name) => `${name.replace("@", "").replace("/", "-")}-${manifest.version}.tgz`;

/** What git says in the clone; undefined where it is none, or where there is no git. */
export function git(...args) {
  const { status, stdout } = spawnSync("git", ["--no-optional-locks", ...args], {
    cwd: root,
    encoding: "utf8",
  });
  return status === 0 ? stdout.trim() : undefined;
}

/** The commit that packages are made of, which is said where files have been changed since; undefined: no clone. */
export function sourceCommit() {
  const commit = git("rev-parse", "HEAD");
  const changes = git("status", "--porcelain", "--untracked-files=no");
  return commit && changes ? `${commit} with changes` : commit;
}

/** The packages of all platforms at this version, as the main package depends on them. */
export function platformDependencies() {
  return Object.fromEntries(Object.keys(targets).map((name) => [packageName(name), manifest.version]));
}

/** What the binary needs, in words. */
function needs({ platform, libc }, zig) {
  if (zig === undefined) return "systems like the one it was built on";
  if (platform === "darwin") return "macOS 11 or newer";
  if (platform === "win32") return "Windows 10 or newer";
  return libc === "musl" ? "Linux with musl, as in Alpine" : `Linux with glibc ${oldestGlibc} or newer`;
}

/**
 * Makes the package's folder and its tarball.
 * @param {string} name of the target
 * @param {string} binary its path
 * @param {string} out the folder that gets `packages/<name>` and the tarball
 * @param {string} [zig] the version of the compiler that linked it; undefined: g++
 * @returns {string} the tarball's path
 */
export function makePackage(name, binary, out, zig) {
  const target = targets[name];
  if (target === undefined) throw new Error(`there is no package for ${name}`);
  const folder = join(out, "packages", name);
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const description = `The native part of inhouse for ${needs(target, zig)}, ${target.arch}.`;
  const own = {
    name: packageName(name),
    version: manifest.version,
    description,
    license: manifest.license,
    main: "inhouse.node",
    files: ["inhouse.node", "sbom.cdx.json", "THIRD_PARTY.md"],
    os: [target.platform],
    cpu: [target.arch],
    ...(target.libc === undefined ? {} : { libc: [target.libc] }),
    engines: manifest.engines,
    gitHead: sourceCommit(),
    // Nothing can be loaded out of an archive.
    preferUnplugged: true,
  };
  for (const field of ["repository", "homepage", "bugs", "author", "publishConfig"])
    if (manifest[field] !== undefined) own[field] = manifest[field];
  writeFileSync(join(folder, "package.json"), `${JSON.stringify(own, undefined, 2)}\n`);
  writeFileSync(
    join(folder, "README.md"),
    `# ${own.name}\n\n${description} It is installed with the package \`inhouse\`, which loads it; ` +
      "nothing is to be imported from here.\n",
  );
  for (const paper of ["LICENSE", "THIRD_PARTY.md"]) copyFileSync(join(root, paper), join(folder, paper));
  writeFileSync(
    join(folder, "sbom.cdx.json"),
    `${JSON.stringify(platformSbom(own, target, zig), undefined, 2)}\n`,
  );
  copyFileSync(binary, join(folder, "inhouse.node"));
  return packFolder(folder, out);
}

/** Makes the tarball of a package's folder in `out`, and returns its path. */
export function packFolder(folder, out) {
  const args = ["pack", "--json", "--ignore-scripts", "--pack-destination", out];
  const { status, stdout, stderr } = spawnSync("npm", args, {
    cwd: folder,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  if (status !== 0) throw new Error(`npm pack failed in ${folder}:\n${stderr}`);
  // npm 11 prints a list, later versions an object by name.
  return join(out, Object.values(JSON.parse(stdout))[0].filename);
}

/** Writes SHA256SUMS, of the tarballs in a folder. */
export function writeChecksums(out) {
  const lines = readdirSync(out)
    .filter((name) => name.endsWith(".tgz"))
    .sort()
    .map(
      (name) =>
        `${createHash("sha256")
          .update(readFileSync(join(out, name)))
          .digest("hex")}  ${name}\n`,
    );
  writeFileSync(join(out, "SHA256SUMS"), lines.join(""));
}
