// What the installed package is tried with: the packages of test/install/package.json, in .cache.
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync } from "node:fs";
import { join } from "node:path";
import { root } from "../source-files.mjs";

/** npm's program, beside the Node that runs this; it runs with every version of Node that is supported. */
export const npmProgram = join(
  spawnSync("npm", ["root", "--global"], {
    encoding: "utf8",
    shell: process.platform === "win32",
  }).stdout.trim(),
  "npm/bin/npm-cli.js",
);

/** Installs packages by their lock file where what is there is not of that one. Returns the folder. */
export function installTools(from = join(root, "test/install"), to = join(root, ".cache/install-tools")) {
  const same = (name) =>
    existsSync(join(to, name)) && readFileSync(join(to, name)).equals(readFileSync(join(from, name)));
  if (same("package-lock.json") && existsSync(join(to, "node_modules/.package-lock.json"))) return to;
  mkdirSync(to, { recursive: true });
  for (const name of ["package.json", "package-lock.json", ".npmrc"])
    cpSync(join(from, name), join(to, name));
  // npm's own mark of a finished installation, which an unfinished one must not have.
  rmSync(join(to, "node_modules/.package-lock.json"), { force: true });
  // Not `npm ci`, which wants every optional package of a lock file to be had.
  const { status } = spawnSync(process.execPath, [npmProgram, "install", "--ignore-scripts", "--no-save"], {
    cwd: to,
    stdio: "inherit",
  });
  if (status !== 0) throw new Error(`npm install failed in ${to}`);
  return to;
}
