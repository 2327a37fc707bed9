// Makes the main package: JavaScript, types and papers. What only a clone needs stays out of it, and the platforms' packages
// come in as optional dependencies, which `npm ci` in a clone could not find before they are published.
import { copyFileSync, cpSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { packFolder, platformDependencies, sourceCommit } from "../prebuilds/packages.mjs";
import { root } from "../source-files.mjs";
import { mainSbom } from "./sbom.mjs";

const papers = ["README.md", "CHANGELOG.md", "LICENSE", "THIRD_PARTY.md"];
const leftOut = ["scripts", "devDependencies", "binary"];

/** package.json as it is published. */
export function publishedManifest() {
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  for (const field of leftOut) delete manifest[field];
  return { ...manifest, optionalDependencies: platformDependencies(), gitHead: sourceCommit() };
}

/**
 * Makes the package's folder, from dist/ as it is, and its tarball.
 * @param {string} out the folder that gets `packages/inhouse` and the tarball
 * @returns {string} the tarball's path
 */
export function packMain(out) {
  const folder = join(out, "packages/inhouse");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const manifest = publishedManifest();
  const write = (name, value) =>
    writeFileSync(join(folder, name), `${JSON.stringify(value, undefined, 2)}\n`);
  write("package.json", manifest);
  write("sbom.cdx.json", mainSbom(manifest));
  for (const paper of papers) copyFileSync(join(root, paper), join(folder, paper));
  // Source maps would name sources that are not there.
  const dist = join(folder, "dist");
  cpSync(join(root, "dist"), dist, { recursive: true, filter: (path) => !path.endsWith(".map") });
  for (const path of readdirSync(dist, { recursive: true })) {
    if (!path.endsWith(".js")) continue;
    const text = readFileSync(join(dist, path), "utf8");
    writeFileSync(join(dist, path), text.replace(/\/\/# sourceMappingURL=.*\n?$/, ""));
  }
  return packFolder(folder, out);
}
