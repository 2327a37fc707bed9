// Builds platforms a second time, in a copy of the clone elsewhere and with nothing of its caches, and compares the
// tarballs with those in build-prebuilds/, byte by byte.
//
//   node scripts/check-reproducible.mjs [--target NAME …]     default: one of each system
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { packageName, tarballName } from "./prebuilds/packages.mjs";
import { chosenTargets } from "./prebuilds/targets.mjs";
import { root } from "./source-files.mjs";

const { values } = parseArgs({ options: { target: { type: "string", multiple: true } } });
const copy = mkdtempSync(join(tmpdir(), "inhouse-again-"));
const leftOut = /^(\.cache|dist|build(-.*)?|prebuilds|bench\/peers\/node_modules)$/;

/** The tarball of a target, and its binary, in the build folder of a clone. */
function built(clone, name) {
  const paths = [tarballName(packageName(name)), `packages/${name}/inhouse.node`].map((path) =>
    join(clone, "build-prebuilds", path),
  );
  if (!paths.every((path) => existsSync(path)))
    throw new Error(`${name} is not built: npm run prebuilds -- --target ${name}`);
  return paths.map((path) => readFileSync(path));
}

try {
  const names = chosenTargets(values.target ?? ["linux-x64,darwin-arm64,win32-x64"]);
  const first = names.map((name) => built(root, name));
  cpSync(root, copy, {
    recursive: true,
    verbatimSymlinks: true,
    filter: (path) => !leftOut.test(relative(root, path)),
  });
  const env = { ...process.env, CCACHE_DISABLE: "1" };
  const args = ["scripts/prebuilds.mjs", "--target", names.join(",")];
  const { status } = spawnSync(process.execPath, args, { cwd: copy, env, stdio: "inherit" });
  if (status !== 0) throw new Error("the second build failed");
  for (const [i, name] of names.entries()) {
    const [same, sameBinary] = built(copy, name).map((bytes, part) => bytes.equals(first[i][part]));
    const found = same
      ? "the same bytes"
      : sameBinary
        ? "differs, but not in its binary: was it built of this commit?"
        : "differs";
    console.log(`${same ? "ok  " : "FAIL"} ${name}: ${found}`);
    if (!same) process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}
