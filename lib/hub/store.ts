import { readdir, rm, stat } from "node:fs/promises";
import { basename, join, resolve as absolute } from "node:path";

import { InhouseError } from "../errors.js";
import { storeFolder } from "./folders.js";
import { findKnownModel, type KnownModel, knownModels } from "./table.js";

/** A file of the store. */
export interface StoredModel {
  /** What `run`, `rm` and the others take: the short name, or the file's name without `.gguf`. */
  name: string;
  path: string;
  /** Bytes that are there. */
  bytes: number;
  /** False for a pull that was interrupted. */
  complete: boolean;
  /** Of known models. */
  licence: string | undefined;
}

const suffix = ".gguf";
const partialSuffix = ".gguf.partial";

/** The models of the store, by name. */
export async function list(folder = storeFolder()): Promise<StoredModel[]> {
  const files = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw error;
  });
  const models: StoredModel[] = [];
  for (const file of files) {
    const complete = file.endsWith(suffix);
    if (!complete && !file.endsWith(partialSuffix)) continue;
    const path = join(folder, file);
    const found = await stat(path).catch(() => undefined);
    if (!found?.isFile()) continue;
    const whole = complete ? file : file.slice(0, -".partial".length);
    const known = knownModels.find((model) => model.file === whole);
    const name = known?.name ?? whole.slice(0, -suffix.length);
    models.push({ name, path, bytes: found.size, complete, licence: known?.licence.name });
  }
  return models.sort((a, b) => (a.name < b.name ? -1 : 1));
}

/** Removes a model from the store, and what an interrupted pull left of it. Returns the bytes freed. */
export async function remove(name: string, folder = storeFolder()): Promise<number> {
  const wanted = findKnownModel(name)?.name ?? name;
  const found = (await list(folder)).filter((model) => matches(model, wanted));
  if (found.length === 0) throw await notFound(name, folder);
  for (const model of found) await rm(model.path);
  return found.reduce((sum, model) => sum + model.bytes, 0);
}

const matches = (model: StoredModel, name: string) => model.name === name || basename(model.path) === name;

/**
 * The file that a path or a name in the store stands for; an existing path comes first. Throws
 * ERR_INHOUSE_MODEL_NOT_FOUND with the names there are, and the pull that would help.
 */
export async function resolve(nameOrPath: string, folder = storeFolder()): Promise<string> {
  const asPath = await stat(nameOrPath).catch(() => undefined);
  if (asPath?.isFile()) return absolute(nameOrPath);
  const known = findKnownModel(nameOrPath);
  const stored = (await list(folder)).find(
    (model) => model.complete && matches(model, known?.name ?? nameOrPath),
  );
  if (stored) return stored.path;
  throw await notFound(nameOrPath, folder, known);
}

async function notFound(name: string, folder: string, known?: KnownModel): Promise<InhouseError> {
  const shown = JSON.stringify(name);
  const stored = (await list(folder)).filter((model) => model.complete).map((model) => model.name);
  const names = stored.length > 0 ? `in the store: ${stored.join(", ")}` : "the store is empty";
  const help = known
    ? `${shown} is not in the store yet. Fetch it with: inhouse pull ${known.name}`
    : `no file and no model in the store is called ${shown} (${names}). ` +
      `"inhouse pull NAME" fetches one of ${knownModels.map((model) => model.name).join(", ")}`;
  return new InhouseError("ERR_INHOUSE_MODEL_NOT_FOUND", help);
}
