// The package as npm would install it, in a folder of a test's own.
import { cpSync, mkdirSync, readFileSync, realpathSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";

import { platformName } from "../../lib/native/platforms.js";

const root = join(import.meta.dirname, "../..");

/** The name of this machine's platform package, and the addon that the tests run with: INHOUSE_PREBUILD may name another. */
export const platform = platformName();
const require = createRequire(import.meta.url);
export const builtAddon = (require("node-gyp-build") as { path(folder: string): string }).path(root);

export interface Installation {
  /** What is installed of each platform: a file to be its addon; null: its addon is missing. Default: this machine's. */
  platforms?: Record<string, string | null>;
  /** Of the main package; default: as it is. */
  version?: string;
}

/** Installs into `folder`/node_modules and returns the main package's folder there. */
export function install(
  folder: string,
  { platforms = { [platform]: builtAddon }, version }: Installation = {},
): string {
  const modules = join(folder, "node_modules");
  const main = join(modules, "inhouse");
  cpSync(join(root, "dist"), join(main, "dist"), { recursive: true });
  const manifest = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as {
    version: string;
    dependencies: Record<string, string>;
  };
  for (const name of Object.keys(manifest.dependencies))
    cpSync(realpathSync(join(root, "node_modules", name)), join(modules, name), { recursive: true });
  writeFileSync(
    join(main, "package.json"),
    JSON.stringify({ ...manifest, version: version ?? manifest.version }),
  );
  for (const [name, addon] of Object.entries(platforms)) {
    const path = join(modules, "@inhouse", name);
    mkdirSync(path, { recursive: true });
    const { version } = manifest;
    writeFileSync(
      join(path, "package.json"),
      JSON.stringify({ name: `@inhouse/${name}`, version, main: "inhouse.node" }),
    );
    if (addon !== null) cpSync(addon, join(path, "inhouse.node"));
  }
  return main;
}
