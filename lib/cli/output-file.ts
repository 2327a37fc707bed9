// A file that a command writes piece by piece, and that takes the place of an older one only when it is whole.
import type { BigIntStats } from "node:fs";
import { type FileHandle, open, realpath, rename, rm, stat } from "node:fs/promises";

import { UsageError } from "./usage.js";

const found = (path: string): Promise<BigIntStats | undefined> =>
  stat(path, { bigint: true }).catch((error: NodeJS.ErrnoException) => {
    if (error.code === "ENOENT") return undefined;
    throw error;
  });

/** All parts of a split GGUF file, of any other file itself. */
function partsOf(path: string): string[] {
  const [, stem, count] = /^(.*)-\d{5}-of-(\d{5})\.gguf$/s.exec(path) ?? [];
  if (stem === undefined) return [path];
  const name = (i: number) => `${stem}-${String(i + 1).padStart(5, "0")}-of-${count}.gguf`;
  return Array.from({ length: Math.min(Number(count), 9999) }, (_, i) => name(i));
}

/**
 * What a command writes to a path that the user gave. A regular file is written under the name `PATH.partial` beside
 * it and renamed at the end, so that a failure costs nothing of what stood there. Anything else (a device, a pipe) is
 * written directly and never removed.
 */
export class OutputFile {
  private constructor(
    private readonly target: string,
    private readonly written: string,
    private readonly mode: number | undefined,
  ) {}
  private file: FileHandle | undefined;

  /**
   * Checks the path and creates nothing yet. `inputs`: files by what they are ("the model"), which must not be
   * overwritten, under whatever name. Throws UsageError.
   */
  static async plan(
    flag: string,
    path: string,
    inputs: Readonly<Record<string, string>>,
  ): Promise<OutputFile> {
    const old = await found(path);
    const direct = old !== undefined && !old.isFile();
    const target = old === undefined ? path : await realpath(path);
    const written = direct ? path : `${target}.partial`;
    for (const place of [path, written]) {
      const there = await found(place);
      if (there === undefined || (place === written && direct)) continue;
      if (!there.isFile())
        throw new UsageError(`--${flag}: ${place} is in the way: expected a file, or nothing`);
      for (const [what, input] of Object.entries(inputs)) {
        for (const part of partsOf(input)) {
          const other = await found(part);
          if (other?.ino !== there.ino || other.dev !== there.dev) continue;
          const how = place === path ? "is" : `would write ${place} first, which is`;
          throw new UsageError(`--${flag}: ${path} ${how} ${what}; it would be overwritten`);
        }
      }
    }
    return new OutputFile(target, written, old && !direct ? Number(old.mode & 0o777n) : undefined);
  }

  /** Creates the file, empty. */
  async create(): Promise<void> {
    this.file = await open(this.written, "w", this.mode);
  }

  async append(data: Uint8Array): Promise<void> {
    for (let done = 0; done < data.length;) {
      const length = Math.min(data.length - done, 2 ** 24);
      done += (await this.file!.write(data, done, length)).bytesWritten;
    }
  }

  /** Closes the file, which now gets its name. */
  async finish(): Promise<void> {
    await this.file!.close();
    if (this.written !== this.target) await rename(this.written, this.target);
  }

  /** Closes the file and forgets what was written. */
  async discard(): Promise<void> {
    await this.file?.close().catch(() => undefined);
    if (this.file !== undefined && this.written !== this.target) await rm(this.written, { force: true });
  }
}
