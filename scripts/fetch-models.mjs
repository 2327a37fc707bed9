// Fetches the models of the demo and the tests into .cache/models, each checked by its SHA-256. What is there
// already, or in the folder INHOUSE_MODELS, is not fetched again.
//
//   node scripts/fetch-models.mjs [--all | NAME ...]       NAME as for `inhouse pull`; default: smollm2:135m
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const { findKnownModel, knownModels, pull } = createRequire(import.meta.url)("../dist/hub/index.js");
const folder = fileURLToPath(new URL("../.cache/models", import.meta.url));

/** The path of a model's file, fetched if need be. */
export async function fetchModel(name) {
  const model = findKnownModel(name);
  if (model === undefined) {
    throw new Error(`unknown model ${name}; known: ${knownModels.map((known) => known.name).join(", ")}`);
  }
  const given = process.env.INHOUSE_MODELS && join(process.env.INHOUSE_MODELS, model.file);
  if (given && existsSync(given)) return given;
  if (model.licence.notice) console.error(model.licence.notice);
  let shown = "";
  const onProgress = ({ phase, loaded, total }) => {
    if (phase === "verify") return;
    const percent = Math.floor((10 * loaded) / total) * 10;
    const line = `${model.name}: ${phase} ${percent}% of ${(total / 1e6).toFixed(0)} MB`;
    if (line !== shown) console.error(line);
    shown = line;
  };
  const { path, fetched } = await pull(model, { folder, onProgress });
  console.error(`${model.name}: ${fetched ? "fetched" : "there already"}, SHA-256 verified`);
  return path;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const given = process.argv.slice(2);
  const all = given.includes("--all");
  const names = all ? knownModels.map((model) => model.name) : given.length > 0 ? given : ["smollm2:135m"];
  for (const name of names) {
    try {
      console.log(await fetchModel(name));
    } catch (error) {
      console.error(error.message);
      process.exitCode = 1;
    }
  }
}
