import { randomUUID } from "node:crypto";
import { link, open, readFile, rename, rm, stat } from "node:fs/promises";
import { setTimeout as sleep } from "node:timers/promises";

const beat = 2_000;
const staleAfter = 15_000;

/**
 * Runs `task` while holding the lock file at `path`, waiting for another holder first. The holder touches the file
 * regularly, so that a lock left behind by a process that died is recognized by its age (process ids would not do:
 * containers that share a folder have their own). Two holders are possible after a pause of a whole process; what
 * the lock protects must therefore be checked in the end, as a pulled file is by its hash.
 */
export async function withLock<T>(
  path: string,
  task: () => Promise<T>,
  options: { signal?: AbortSignal | undefined; onWait?: (() => void) | undefined } = {},
): Promise<T> {
  const release = await acquire(path, options.signal, options.onWait);
  try {
    return await task();
  } finally {
    await release();
  }
}

async function acquire(
  path: string,
  signal: AbortSignal | undefined,
  onWait: (() => void) | undefined,
): Promise<() => Promise<void>> {
  for (let waited = false; ;) {
    signal?.throwIfAborted();
    const release = await take(path);
    if (release) return release;
    if (await isStale(path)) {
      await removeStale(path);
      continue;
    }
    if (!waited) onWait?.();
    waited = true;
    await sleep(200, undefined, signal ? { signal } : {}).catch(() => undefined);
  }
}

/** Makes the lock file; nothing where there is one already. Gives what releases it. */
async function take(path: string): Promise<(() => Promise<void>) | undefined> {
  const file = await open(path, "wx").catch((error: NodeJS.ErrnoException) => {
    // Windows answers EPERM while another process deletes the file.
    if (error.code === "EEXIST" || error.code === "EPERM") return undefined;
    throw error;
  });
  if (file === undefined) return undefined;
  const nonce = randomUUID();
  try {
    await file.writeFile(nonce);
  } catch (error) {
    await file.close();
    await rm(path, { force: true });
    throw error;
  }
  // By the open file, not by its name: that may be another holder's by now.
  const timer = setInterval(() => {
    const now = new Date();
    file.utimes(now, now).catch(() => undefined);
  }, beat);
  timer.unref();
  return async () => {
    clearInterval(timer);
    if ((await readFile(path, "utf8").catch(() => undefined)) === nonce) await rm(path, { force: true });
    // If somebody has it aside and puts it back, it is seen at once that nobody holds it.
    await file.utimes(0, 0).catch(() => undefined);
    await file.close();
  };
}

async function isStale(path: string): Promise<boolean> {
  const held = await stat(path).catch(() => undefined);
  return held !== undefined && Date.now() - held.mtimeMs > staleAfter;
}

/**
 * Removes a stale lock, of which several may have seen that it is stale: it is renamed first, so that one of them gets
 * it, and who got the next holder's lock in its place puts that back.
 */
async function removeStale(path: string): Promise<void> {
  const aside = `${path}.${randomUUID()}`;
  try {
    await rename(path, aside);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT") return;
    if (code !== "EPERM" && code !== "EACCES" && code !== "EBUSY") throw error;
    await sleep(50); // Windows, while somebody has it open
    return;
  }
  if (!(await isStale(aside))) await link(aside, path).catch(() => undefined); // not over a third holder's
  await rm(aside, { force: true });
}
