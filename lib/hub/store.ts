import { open, readdir, rm, stat } from "node:fs/promises";
import { basename, join, resolve as absolute } from "node:path";

import { InhouseError } from "../errors.js";
import { storeFolder } from "./folders.js";
import { findKnownModel, knownModels } from "./table.js";

/** A file of the store. */
export interface StoredModel {
  /** What `run`, `rm` and the others take: the short name, or the file's name without `.gguf`. */
  name: string;
  path: string;
  /** Bytes that are there. */
  bytes: number;
  /** False for a pull that was interrupted. */
  complete: boolean;
  /** Whether it can be read and begins as GGUF files do. */
  gguf: boolean;
  /** Of known models. */
  licence: string | undefined;
}

const suffix = ".gguf";
const partialSuffix = ".gguf.partial";

/** The models of the store, by name. */
export async function list(folder = storeFolder()): Promise<StoredModel[]> {
  const files = await readdir(folder).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return [];
    throw new InhouseError("ERR_INHOUSE_FILE_READ", `cannot read the store ${folder}: ${error.message}`, {
      cause: error,
    });
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
    const gguf = await isGguf(path);
    models.push({ name, path, bytes: found.size, complete, gguf, licence: known?.licence.name });
  }
  return models.sort((a, b) => (a.name < b.name ? -1 : 1));
}

async function isGguf(path: string): Promise<boolean> {
  const file = await open(path, "r").catch(() => undefined);
  const magic = Buffer.alloc(4);
  await file?.read(magic, 0, 4, 0).catch(() => undefined);
  await file?.close();
  return magic.toString("latin1") === "GGUF";
}

/** Removes a model from the store, and what an interrupted pull left of it. Returns the bytes freed. */
export async function remove(name: string, folder = storeFolder()): Promise<number> {
  const wanted = findKnownModel(name)?.name ?? name;
  const all = await list(folder);
  const found = all.filter((model) => matches(model, wanted));
  if (found.length === 0) {
    throw modelNotFound(`no model in the store is called ${JSON.stringify(name)} (${contents(all)})`);
  }
  for (const model of found) await rm(model.path);
  return found.reduce((sum, model) => sum + model.bytes, 0);
}

const matches = (model: StoredModel, name: string) => model.name === name || basename(model.path) === name;

/**
 * The file that a path or a name in the store stands for; an existing file comes first. What else stands at the path,
 * such as a folder, comes last, for loading to say what it is. Throws ERR_INHOUSE_MODEL_NOT_FOUND with the names there
 * are, and the pull that would help.
 */
export async function resolve(nameOrPath: string, folder = storeFolder()): Promise<string> {
  const [isFile, isThere] = await stat(nameOrPath).then(
    (found) => [found.isFile(), true],
    ({ code }: NodeJS.ErrnoException) => [false, code === "EACCES" || code === "ELOOP"],
  );
  if (isFile) return absolute(nameOrPath);
  const known = findKnownModel(nameOrPath);
  const stored = (await list(folder)).filter((model) => model.complete);
  const found = stored.find((model) => matches(model, known?.name ?? nameOrPath));
  if (found) return found.path;
  if (isThere) return absolute(nameOrPath);
  const shown = JSON.stringify(nameOrPath);
  throw modelNotFound(
    known
      ? `${shown} is not in the store yet. Fetch it with: inhouse pull ${known.name}`
      : `no file and no model in the store is called ${shown} (${contents(stored)}). ` +
          `"inhouse pull NAME" fetches one of ${knownModels.map((model) => model.name).join(", ")}`,
  );
}

const modelNotFound = (message: string) => new InhouseError("ERR_INHOUSE_MODEL_NOT_FOUND", message);

const contents = (models: readonly StoredModel[]) =>
  models.length > 0 ? `in the store: ${models.map((model) => model.name).join(", ")}` : "the store is empty";
