// Goes through a release without making one: checks the tarballs that `npm run prebuilds` and `npm run packages` have made, then
// has npm do all of publishing but the upload, the platforms first, so that the main package never stands there without
// them. A release is the same commands without --dry-run, from a CI job that npm takes for a trusted publisher, which
// makes the provenance statements.
//
//   node scripts/publish.mjs [--from FOLDER]      default: build-prebuilds
import { spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { isDeepStrictEqual, parseArgs } from "node:util";
import { git, packageName, platformDependencies, sourceCommit, tarballName } from "./prebuilds/packages.mjs";
import { targets } from "./prebuilds/targets.mjs";
import { root } from "./source-files.mjs";

const { values } = parseArgs({
  options: { from: { type: "string", default: join(root, "build-prebuilds") } },
});
const folder = resolve(values.from);
const { version, repository } = JSON.parse(readFileSync(join(root, "package.json"), "utf8"));
const problems = [];
const check = (holds, problem) => holds || problems.push(problem);

const commit = sourceCommit();
check(commit !== undefined, "this is no clone that git knows");
check(!commit?.endsWith("changes"), "the working tree has changes");
check(git("tag", "--points-at", "HEAD")?.split("\n").includes(`v${version}`), `HEAD has no tag v${version}`);
const changelog = readFileSync(join(root, "CHANGELOG.md"), "utf8");
check(changelog.includes(`\n## [${version}]`), `CHANGELOG.md has no section [${version}]`);
check(repository !== undefined, "package.json names no repository, which provenance is bound to");

const packages = [...Object.keys(targets).map(packageName), "inhouse"].map((name) => {
  const file = tarballName(name);
  return { name, file, path: join(folder, file) };
});
const sums = join(folder, "SHA256SUMS");
const expected = existsSync(sums) ? readFileSync(sums, "utf8") : "";
const there = packages.filter(({ name, file, path }) => {
  if (!existsSync(path)) {
    problems.push(`${file} is missing`);
    return false;
  }
  const sum = createHash("sha256").update(readFileSync(path)).digest("hex");
  check(expected.includes(`${sum}  ${file}\n`), `SHA256SUMS does not have ${file} as it is`);
  const { stdout } = spawnSync("tar", ["-xzOf", path, "package/package.json"], { encoding: "utf8" });
  const manifest = JSON.parse(stdout);
  check(
    manifest.name === name && manifest.version === version,
    `${file} holds ${manifest.name}@${manifest.version}`,
  );
  check(
    manifest.gitHead === commit,
    `${file} was made of ${manifest.gitHead ?? "no commit"}, not of ${commit}`,
  );
  const platforms = name === "inhouse" ? platformDependencies() : {};
  check(
    isDeepStrictEqual(manifest.optionalDependencies ?? {}, platforms),
    `${file} does not depend on the platforms of this version`,
  );
  const hooks = Object.keys(manifest.scripts ?? {}).filter((script) =>
    /install|prepare|prepublish/.test(script),
  );
  check(hooks.length === 0, `${file} runs ${hooks.join(", ")}`);
  return true;
});

for (const { name, path } of there) {
  const args = ["publish", path, "--dry-run", "--ignore-scripts", "--provenance", "--access", "public"];
  console.log(`npm ${args.join(" ")}`);
  const { status, stderr } = spawnSync("npm", args, {
    cwd: folder,
    encoding: "utf8",
    shell: process.platform === "win32",
  });
  check(status === 0, `npm refuses ${name}: ${stderr.trim().split("\n").at(-1)}`);
}
for (const problem of problems) console.error(`not ready: ${problem}`);
process.exitCode = problems.length > 0 ? 1 : 0;
