// Texts that a command reads: prompts, templates, texts to predict.
import { createReadStream } from "node:fs";
import { addAbortSignal, type Readable } from "node:stream";

import { InhouseError } from "../errors.js";
import { bytes } from "./terminal.js";
import { systemReason } from "./usage.js";

/** No context holds as much; what is longer is a mistake, such as a device in place of a file. */
const limit = 100e6;

/** All text of a stream, which messages call `name`. */
export async function readText(stream: Readable, name: string, signal: AbortSignal): Promise<string> {
  const refuse = (code: "FILE_READ" | "FILE_NOT_FOUND", reason: string, cause?: unknown) =>
    new InhouseError(`ERR_INHOUSE_${code}`, `${name}: ${reason}`, { cause });
  const chunks: Buffer[] = [];
  let length = 0;
  try {
    for await (const chunk of addAbortSignal(signal, stream) as AsyncIterable<Buffer>) {
      length += chunk.length;
      if (length > limit)
        throw refuse("FILE_READ", `longer than ${bytes(limit)}, which is the most that is read`);
      chunks.push(chunk);
    }
  } catch (error) {
    signal.throwIfAborted();
    const reason = systemReason(error);
    if (reason === undefined) throw error;
    const { code } = error as NodeJS.ErrnoException;
    throw refuse(code === "ENOENT" ? "FILE_NOT_FOUND" : "FILE_READ", reason, error);
  }
  signal.throwIfAborted();
  return Buffer.concat(chunks).toString("utf8");
}

/** All text of the file that a flag names. */
export function readTextFile(flag: string, path: string, signal: AbortSignal): Promise<string> {
  return readText(createReadStream(path), `--${flag}: ${path}`, signal);
}
