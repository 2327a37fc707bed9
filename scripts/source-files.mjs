// The repository's own source files, found by walking the folders that hold them (no git needed).
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = fileURLToPath(new URL("..", import.meta.url));
const folders = ["lib", "native", "kernels", "test", "bench", "scripts", ".ci"];
const skipped = new Set(["node_modules", "results", "__pycache__"]);
const text = /(^|\/)(CMakeLists\.txt|run)$|\.(h|hpp|cpp|cc|c|inc|def|cu|cuh|ts|mts|cts|js|mjs|cjs|cmake|sh)$/;

function walk(folder, found) {
  let entries;
  try {
    entries = readdirSync(join(root, folder), { withFileTypes: true });
  } catch (error) {
    if (error.code === "ENOENT") return found;
    throw error;
  }
  for (const entry of entries.sort((a, b) => (a.name < b.name ? -1 : 1))) {
    const path = folder === "" ? entry.name : `${folder}/${entry.name}`;
    if (entry.isDirectory() && folder !== "" && !skipped.has(entry.name)) walk(path, found);
    else if (entry.isFile() && (text.test(path) || path === "CMakePresets.json")) found.push(path);
  }
  return found;
}

/** Paths of all source files, relative to the root, with forward slashes. */
export function sourceFiles() {
  const found = walk("", []);
  for (const folder of folders) walk(folder, found);
  return found;
}

/** Text of one file by its relative path. */
export function readSource(path) {
  return readFileSync(join(root, path), "utf8");
}

export const isCpp = (path) => /\.(h|hpp|cpp|cc|c|inc|def|cu|cuh)$/.test(path);
