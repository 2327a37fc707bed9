import { createHash, type Hash } from "node:crypto";
import { type FileHandle, open } from "node:fs/promises";

import { InhouseError } from "../errors.js";

/** A stretch of a file, with the hash that it must have. */
export interface CheckedPart {
  size: number;
  sha256: string;
}

/** Throws ERR_INHOUSE_CHECKSUM_MISMATCH unless the hashes are equal. */
export function compareHash(what: string, expected: string, actual: string): void {
  if (actual === expected) return;
  throw new InhouseError(
    "ERR_INHOUSE_CHECKSUM_MISMATCH",
    `${what}: its SHA-256 is ${actual}, expected ${expected}. The source has changed or was altered on the way; ` +
      "it has not been kept",
  );
}

/** Feeds a stretch of a file to hashes. Stops early at the file's end. */
export async function hashRange(
  file: FileHandle,
  offset: number,
  length: number,
  hash: Hash,
  onRead: (done: number) => void,
  signal: AbortSignal | undefined,
): Promise<void> {
  const buffer = Buffer.allocUnsafe(2 ** 20);
  for (let done = 0; done < length;) {
    signal?.throwIfAborted();
    const { bytesRead } = await file.read(buffer, 0, Math.min(buffer.length, length - done), offset + done);
    if (bytesRead === 0) return;
    hash.update(buffer.subarray(0, bytesRead));
    done += bytesRead;
    onRead(done);
  }
}

/** A file that is put together from checked parts. After an interruption the parts that are right are kept. */
export class PartialFile {
  /** Bytes of the parts that stand in the file. */
  offset = 0;
  readonly #file: FileHandle;
  #whole = createHash("sha256");

  private constructor(file: FileHandle) {
    this.#file = file;
  }

  /** Opens the file, or makes an empty one. */
  static async open(path: string): Promise<PartialFile> {
    await (await open(path, "a")).close();
    return new PartialFile(await open(path, "r+"));
  }

  /** Checks which of the parts stand in the file from its start, and returns their number. */
  async resume(
    parts: readonly CheckedPart[],
    onRead: (bytes: number, part: number) => void,
    signal: AbortSignal | undefined,
  ): Promise<number> {
    const { size } = await this.#file.stat();
    for (const [i, part] of parts.entries()) {
      if (this.offset + part.size > size) return i;
      const whole = this.#whole.copy();
      const hash = createHash("sha256");
      const both = { update: (bytes: Buffer) => (whole.update(bytes), hash.update(bytes)) } as Hash;
      await hashRange(
        this.#file,
        this.offset,
        part.size,
        both,
        (done) => onRead(this.offset + done, i),
        signal,
      );
      if (hash.digest("hex") !== part.sha256) return i;
      this.#accept(part, whole);
    }
    return parts.length;
  }

  /** Appends a part, whose bytes `produce` writes. If it fails or the hash is another, nothing of it stays. */
  async append(
    what: string,
    part: CheckedPart,
    produce: (write: (chunk: Buffer) => Promise<void>) => Promise<void>,
  ): Promise<void> {
    await this.#file.truncate(this.offset);
    try {
      const whole = this.#whole.copy();
      const hash = createHash("sha256");
      let position = this.offset;
      await produce(async (chunk) => {
        whole.update(chunk);
        hash.update(chunk);
        for (let done = 0; done < chunk.length;) {
          const left = chunk.length - done;
          const { bytesWritten } = await this.#file.write(chunk, done, left, position);
          done += bytesWritten;
          position += bytesWritten;
        }
      });
      compareHash(what, part.sha256, hash.digest("hex"));
      this.#accept(part, whole);
    } catch (error) {
      await this.#file.truncate(this.offset).catch(() => undefined);
      throw error;
    }
  }

  /** Checks the whole file's hash and makes sure that it is on the disk. */
  async finish(what: string, sha256: string): Promise<void> {
    await this.#file.truncate(this.offset);
    compareHash(what, sha256, this.#whole.copy().digest("hex"));
    await this.#file.sync();
  }

  close(): Promise<void> {
    return this.#file.close();
  }

  #accept(part: CheckedPart, whole: Hash): void {
    this.offset += part.size;
    this.#whole = whole;
  }
}
