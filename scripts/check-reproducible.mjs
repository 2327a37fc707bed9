// Builds platforms a second time, in a copy of the clone elsewhere and with nothing of its caches, and compares the
// tarballs with those in build-prebuilds/, byte by byte.
//
//   node scripts/check-reproducible.mjs [--target NAME …]     default: linux-x64
import { spawnSync } from "node:child_process";
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { packageName } from "./prebuilds/packages.mjs";
import { root } from "./source-files.mjs";

const { values } = parseArgs({
  options: { target: { type: "string", multiple: true, default: ["linux-x64"] } },
});
const names = values.target.flatMap((list) => list.split(","));
const copy = mkdtempSync(join(tmpdir(), "inhouse-again-"));
const leftOut = /^(\.git|\.cache|dist|build|build-.*|prebuilds)$/;

/** The one tarball of a target in the build folder of a clone. */
function tarball(clone, name) {
  const folder = join(clone, "build-prebuilds");
  const start = `${packageName(name).replace("@", "").replace("/", "-")}-`;
  const [file] = readdirSync(folder).filter(
    (entry) => entry.startsWith(start) && /^\d/.test(entry.slice(start.length)),
  );
  if (file === undefined) throw new Error(`${name} is not built: npm run prebuilds -- --target ${name}`);
  return readFileSync(join(folder, file));
}

try {
  const first = names.map((name) => tarball(root, name));
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
    const same = first[i].equals(tarball(copy, name));
    console.log(`${same ? "ok  " : "FAIL"} ${name}: ${same ? "the same bytes" : "differs"}`);
    if (!same) process.exitCode = 1;
  }
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
} finally {
  rmSync(copy, { recursive: true, force: true });
}
