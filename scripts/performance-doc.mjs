// Writes docs/performance.md with its pictures, and the figures of README.md, from the results under bench/results/ and
// the peer's divergence in test/golden/, so that no figure is typed. Pictures without a result are removed.
//
//   node scripts/performance-doc.mjs [--check]
//
// `--check` only says whether all are up to date.
import { existsSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { format } from "prettier";

import { measuredModels, performancePage, pictureOf, summary } from "../bench/pages.mjs";
import { picture } from "../bench/picture.mjs";
import { Failure, start } from "../bench/start.mjs";

start(import.meta.filename);
const { values: options } = parseArgs({ options: { check: { type: "boolean", default: false } } });
const root = join(import.meta.dirname, "..");
/** A JSON document with these parts. */
function read(path, parts) {
  let document;
  try {
    document = JSON.parse(readFileSync(join(root, path), "utf8"));
  } catch (error) {
    if (!(error instanceof SyntaxError)) throw error;
    throw new Failure(`${path} is broken: ${error.message}`);
  }
  const missing = parts.find((part) => document?.[part] === undefined);
  if (missing !== undefined) throw new Failure(`${path} is broken: it has no ${JSON.stringify(missing)}`);
  return document;
}
const results = (kind, ...parts) =>
  readdirSync(join(root, "bench/results"))
    .filter((name) => name.endsWith(`.${kind}.json`))
    .sort()
    .map((name) => [name, read(`bench/results/${name}`, parts)]);

const speeds = results("speed", "machine", "date", "versions");
const accuracies = results("accuracy", "machine", "settings", "models");
const peer = read("test/golden/peer-kl.json", ["engine", "models"]);
const marks = /(<!-- figures -->\n)[^]*(\n<!-- \/figures -->)/;
const readme = readFileSync(join(root, "README.md"), "utf8");
const pages = {
  "docs/performance.md": performancePage({
    speeds,
    engines: results("engine", "machine", "model", "versions", "serving", "alone"),
    accuracies,
    counts: results("instructions", "shape", "counts"),
    compilations: results("compilers", "machine", "products"),
    installations: results("install", "machine", "installs", "engines"),
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
const outdated = (path) => {
  console.error(`${path} is not what bench/results say: run node scripts/performance-doc.mjs`);
  process.exitCode = 1;
};
for (const [path, raw] of Object.entries(pages)) {
  const text = path.endsWith(".md") ? await format(raw, { parser: "markdown", printWidth: 110 }) : raw;
  const file = join(root, path);
  if (!options.check) writeFileSync(file, text);
  else if (!existsSync(file) || readFileSync(file, "utf8") !== text) outdated(path);
}
for (const name of readdirSync(join(root, "docs"))) {
  const path = `docs/${name}`;
  if (!/^performance-.*\.svg$/.test(name) || path in pages) continue;
  if (options.check) outdated(path);
  else rmSync(join(root, path));
}
