// Reads one member of a zip archive (a Python wheel is one) as a stream. Names in the archive never become paths.
import { type FileHandle, open } from "node:fs/promises";
import { pipeline } from "node:stream/promises";
import { createInflateRaw } from "node:zlib";

import { InhouseError } from "../errors.js";

const endSize = 22; // end of central directory record, without its comment
const maxComment = 0xffff;
const maxDirectory = 64 * 2 ** 20;

interface Member {
  method: number;
  compressedSize: number;
  size: number;
  /** Of its local header. */
  offset: number;
}

/**
 * Streams the content of member `name` of the archive at `path` into `write`, which is awaited for each chunk.
 * The archive must say that the member has `size` bytes, and it must have them: what is longer is not unpacked.
 * Throws ERR_INHOUSE_PULL_FAILED for an archive that is broken or lacks the member.
 */
export async function readMember(
  path: string,
  name: string,
  size: number,
  write: (chunk: Buffer) => Promise<void>,
  signal?: AbortSignal,
): Promise<void> {
  const broken = (what: string, cause?: unknown) =>
    new InhouseError(
      "ERR_INHOUSE_PULL_FAILED",
      `${path}: ${what}`,
      cause === undefined ? undefined : { cause },
    );
  const file = await open(path, "r");
  try {
    const fileSize = (await file.stat()).size;
    const read = async (offset: number, length: number, what: string) => {
      if (!(offset >= 0 && length >= 0 && offset + length <= fileSize)) {
        throw broken(`not a whole zip archive: ${what} lies outside the file's ${fileSize} bytes`);
      }
      const buffer = Buffer.alloc(length);
      const { bytesRead } = await file.read(buffer, 0, length, offset);
      if (bytesRead !== length) throw broken(`could not read ${what}`);
      return buffer;
    };
    const member = await findMember(read, fileSize, name, broken);
    if (member.size !== size) throw broken(`${name} has ${member.size} bytes, expected ${size}`);
    if (member.method !== 0 && member.method !== 8)
      throw broken(`${name} is packed by unknown method ${member.method}`);
    if (member.method === 0 && member.compressedSize !== size) throw broken(`${name}: its two sizes differ`);

    const header = await read(member.offset, 30, "a member's header");
    if (header.readUInt32LE(0) !== 0x04034b50) throw broken(`${name}: no header where the directory says`);
    const start = member.offset + 30 + header.readUInt16LE(26) + header.readUInt16LE(28);
    if (start + member.compressedSize > fileSize) throw broken(`${name} is cut off`);
    let written = 0;
    const sink = async (source: AsyncIterable<Buffer>) => {
      for await (const chunk of source) {
        written += chunk.length;
        if (written > size) throw broken(`${name} unpacks to more than its ${size} bytes`);
        await write(chunk);
      }
    };
    const source = chunks(file, start, member.compressedSize);
    try {
      const options = signal ? { signal } : {};
      if (member.method === 0) await pipeline(source, sink, options);
      else await pipeline(source, createInflateRaw({ chunkSize: 2 ** 18 }), sink, options);
    } catch (error) {
      signal?.throwIfAborted();
      if ((error as NodeJS.ErrnoException).code?.startsWith("Z_"))
        throw broken(`${name} cannot be unpacked`, error);
      throw error;
    }
    if (written !== size) throw broken(`${name} unpacks to ${written} bytes, expected ${size}`);
  } finally {
    await file.close();
  }
}

async function* chunks(file: FileHandle, start: number, length: number): AsyncGenerator<Buffer> {
  for (let done = 0; done < length;) {
    const buffer = Buffer.allocUnsafe(Math.min(2 ** 20, length - done));
    const { bytesRead } = await file.read(buffer, 0, buffer.length, start + done);
    if (bytesRead === 0) return;
    done += bytesRead;
    yield buffer.subarray(0, bytesRead);
  }
}

type Read = (offset: number, length: number, what: string) => Promise<Buffer>;
type Broken = (what: string) => InhouseError;

async function findMember(read: Read, fileSize: number, name: string, broken: Broken): Promise<Member> {
  const directory = await readDirectory(read, fileSize, broken);
  let found: Member | undefined;
  let at = 0;
  while (at + 46 <= directory.length && directory.readUInt32LE(at) === 0x02014b50) {
    const nameLength = directory.readUInt16LE(at + 28);
    const extraLength = directory.readUInt16LE(at + 30);
    const next = at + 46 + nameLength + extraLength + directory.readUInt16LE(at + 32);
    if (next > directory.length) throw broken("the zip directory is cut off");
    if (directory.toString("utf8", at + 46, at + 46 + nameLength) === name) {
      if (found) throw broken(`${name} stands twice in the zip directory`);
      if (directory.readUInt16LE(at + 8) & 1) throw broken(`${name} is encrypted`);
      found = {
        method: directory.readUInt16LE(at + 10),
        compressedSize: directory.readUInt32LE(at + 20),
        size: directory.readUInt32LE(at + 24),
        offset: directory.readUInt32LE(at + 42),
      };
      applyZip64(found, directory.subarray(at + 46 + nameLength, at + 46 + nameLength + extraLength));
    }
    at = next;
  }
  if (!found) throw broken(`no member ${name} in the archive`);
  return found;
}

/** The central directory's bytes. */
async function readDirectory(read: Read, fileSize: number, broken: Broken): Promise<Buffer> {
  const tailSize = Math.min(fileSize, endSize + maxComment);
  const tail = await read(fileSize - tailSize, tailSize, "its end");
  let end = tail.length - endSize;
  while (
    end >= 0 &&
    !(tail.readUInt32LE(end) === 0x06054b50 && tail.readUInt16LE(end + 20) === tail.length - end - endSize)
  ) {
    --end;
  }
  if (end < 0) throw broken("not a zip archive, or cut off: no end record");
  let size = tail.readUInt32LE(end + 12);
  let offset = tail.readUInt32LE(end + 16);
  const locator = end - 20;
  if (
    (size === 0xffffffff || offset === 0xffffffff) &&
    locator >= 0 &&
    tail.readUInt32LE(locator) === 0x07064b50
  ) {
    const record = await read(Number(tail.readBigUInt64LE(locator + 8)), 56, "its zip64 end record");
    if (record.readUInt32LE(0) !== 0x06064b50) throw broken("no zip64 end record where its locator says");
    size = Number(record.readBigUInt64LE(40));
    offset = Number(record.readBigUInt64LE(48));
  }
  if (size > maxDirectory) throw broken(`its directory claims ${size} bytes`);
  return read(offset, size, "its directory");
}

/** Replaces sizes that do not fit 32 bits by those of the zip64 extra field. */
function applyZip64(member: Member, extra: Buffer): void {
  for (let at = 0; at + 4 <= extra.length; at += 4 + extra.readUInt16LE(at + 2)) {
    if (extra.readUInt16LE(at) !== 1) continue;
    const field = extra.subarray(at + 4, at + 4 + extra.readUInt16LE(at + 2));
    let next = 0;
    for (const key of ["size", "compressedSize", "offset"] as const) {
      if (member[key] !== 0xffffffff || next + 8 > field.length) continue;
      member[key] = Number(field.readBigUInt64LE(next));
      next += 8;
    }
    return;
  }
}
