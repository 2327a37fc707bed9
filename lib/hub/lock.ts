import { open, rm, stat, utimes } from "node:fs/promises";
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
  for (let waited = false; ; waited = true) {
    options.signal?.throwIfAborted();
    try {
      await (await open(path, "wx")).close();
      break;
    } catch (error) {
      // Windows answers EPERM while another process deletes the file.
      if (!["EEXIST", "EPERM"].includes((error as NodeJS.ErrnoException).code ?? "")) throw error;
      const held = await stat(path).catch(() => undefined);
      if (held !== undefined && Date.now() - held.mtimeMs > staleAfter) {
        await rm(path, { force: true });
        continue;
      }
      if (!waited) options.onWait?.();
      await sleep(200, undefined, options.signal ? { signal: options.signal } : {}).catch(() => undefined);
    }
  }
  const timer = setInterval(() => {
    const now = new Date();
    utimes(path, now, now).catch(() => undefined);
  }, beat);
  timer.unref();
  try {
    return await task();
  } finally {
    clearInterval(timer);
    await rm(path, { force: true });
  }
}
