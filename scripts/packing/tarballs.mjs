// All that an installation of inhouse asks a registry for.
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { makePackage, packageName, packFolder } from "../prebuilds/packages.mjs";
import { targets } from "../prebuilds/targets.mjs";
import { root } from "../source-files.mjs";

/** The folder of our own tarballs: that of all platforms where it is there, else this machine's. */
export const defaultFolder = existsSync(join(root, "build-prebuilds/SHA256SUMS"))
  ? "build-prebuilds"
  : "build-local";

/**
 * Our own tarballs, those of run-time dependencies, and stand-ins for platforms that are not there.
 * @param {string} from the folder of our own
 * @param {string} scratch a folder for the others
 * @returns {string[]} paths
 */
export function allTarballs(from, scratch) {
  const { version, dependencies } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
  const own = (name) => join(root, from, `${name.replace("@", "").replace("/", "-")}-${version}.tgz`);
  if (!existsSync(own("inhouse")))
    throw new Error(`${own("inhouse")} is missing: npm run packages, or npm run packages -- --local`);
  mkdirSync(scratch, { recursive: true });
  const empty = join(scratch, "empty.node");
  writeFileSync(empty, "");
  const platforms = Object.keys(targets).map((name) => {
    const path = own(packageName(name));
    return existsSync(path) ? path : makePackage(name, empty, scratch);
  });
  const others = Object.keys(dependencies).map((name) =>
    packFolder(join(root, "node_modules", name), scratch),
  );
  return [own("inhouse"), ...platforms, ...others];
}
