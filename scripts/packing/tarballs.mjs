// All that an installation of inhouse asks a registry for.
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { platformName } from "../../dist/native/platforms.js";
import { makePackage, packageName, packFolder, tarballName } from "../prebuilds/packages.mjs";
import { targets } from "../prebuilds/targets.mjs";
import { root } from "../source-files.mjs";

/** What an installation on this machine needs of ours. */
const needed = ["inhouse", packageName(platformName())].map(tarballName);
const missing = (folder) => needed.filter((file) => !existsSync(join(folder, file)));

/** The folder of our own tarballs: that of all platforms where it has what this machine needs, else this machine's. */
export const defaultFolder =
  ["build-prebuilds", "build-local"]
    .map((name) => join(root, name))
    .find((folder) => missing(folder).length === 0) ?? join(root, "build-local");

/**
 * Our own tarballs, those of run-time dependencies, and stand-ins for platforms that are not there.
 * @param {string} from the folder of our own
 * @param {string} scratch a folder for the others
 * @returns {string[]} paths
 */
export function allTarballs(from, scratch) {
  const lacking = missing(from);
  if (lacking.length > 0)
    throw new Error(`${resolve(from)} lacks ${lacking.join(" and ")}: npm run packages -- --local`);
  mkdirSync(scratch, { recursive: true });
  const empty = join(scratch, "empty.node");
  writeFileSync(empty, "");
  const own = (name) => resolve(from, tarballName(name));
  const platforms = Object.keys(targets).map((name) => {
    const path = own(packageName(name));
    return existsSync(path) ? path : makePackage(name, empty, scratch);
  });
  const { dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const others = Object.keys(dependencies).map((name) =>
    packFolder(join(root, "node_modules", name), scratch),
  );
  return [own("inhouse"), ...platforms, ...others];
}

/** The bytes of all files in a folder. */
export function bytesOf(folder) {
  const entries = readdirSync(folder, { withFileTypes: true, recursive: true });
  return entries
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
