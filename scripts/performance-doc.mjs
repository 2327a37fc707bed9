// Writes docs/performance.md with its pictures, and the figures of README.md, from the results under bench/results/ and
// the peer's divergence in test/golden/, so that no figure is typed. `--check` only says whether all are up to date.
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { format } from "prettier";

import { measuredModels, performancePage, pictureOf, summary } from "../bench/pages.mjs";
import { picture } from "../bench/picture.mjs";

const root = join(import.meta.dirname, "..");
const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));
const results = (kind) =>
  readdirSync(join(root, "bench/results"))
    .filter((name) => name.endsWith(`.${kind}.json`))
    .sort()
    .map((name) => [name, read(`bench/results/${name}`)]);

const speeds = results("speed");
const accuracies = results("accuracy");
const peer = read("test/golden/peer-kl.json");
const marks = /(<!-- figures -->\n)[^]*(\n<!-- \/figures -->)/;
const readme = readFileSync(join(root, "README.md"), "utf8");
const pages = {
  "docs/performance.md": performancePage({
    speeds,
    engines: results("engine"),
    accuracies,
    counts: results("instructions"),
    compilations: results("compilers"),
    installations: results("install"),
    peer,
  }),
  "README.md": readme.replace(
    marks,
    (_, begin, end) => `${begin}\n${summary(speeds, accuracies, peer)}\n${end}`,
  ),
};
for (const [, result] of speeds) {
  const models = measuredModels(result);
  if (models.length > 0) pages[`docs/${pictureOf(result)}`] = picture({ ...result, models });
}
for (const [path, raw] of Object.entries(pages)) {
  const text = path.endsWith(".md") ? await format(raw, { parser: "markdown", printWidth: 110 }) : raw;
  const file = join(root, path);
  if (!process.argv.includes("--check")) {
    writeFileSync(file, text);
  } else if (!existsSync(file) || readFileSync(file, "utf8") !== text) {
    console.error(`${path} is not what bench/results say: run node scripts/performance-doc.mjs`);
    process.exitCode = 1;
  }
}
