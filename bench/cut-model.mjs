// Writes a GGUF file with the first blocks of another, its embeddings and its output: a draft model that knows the
// vocabulary and costs little, though nobody has trained it. For measuring (bench/speculation.mjs) and tests.
//
//   node bench/cut-model.mjs MODEL BLOCKS OUT
import { closeSync, existsSync, fstatSync, openSync, readSync, realpathSync, writeSync } from "node:fs";
import { parseArgs } from "node:util";

import { checkWritable, existing, Failure, start, UsageError, whole } from "./start.mjs";
import { plural } from "./tables.mjs";

start(import.meta.filename);
const { positionals } = parseArgs({ allowPositionals: true });
if (positionals.length !== 3)
  throw new UsageError(`expected MODEL, BLOCKS and OUT, got ${positionals.length} (--help tells more)`);
const [path, , out] = positionals;
const kept = whole("BLOCKS", positionals[1], 1e6);
existing(path);
if (existsSync(out) && realpathSync(out) === realpathSync(path))
  throw new UsageError(`${out} is the model; it would be overwritten`);
checkWritable(out);
const input = openSync(path, "r");
const head = Buffer.alloc(64 << 20);
const length = readSync(input, head, 0, head.length, 0);
let at = 8;
const u32 = () => head.readUInt32LE((at += 4) - 4);
const u64 = () => Number(head.readBigUInt64LE((at += 8) - 8));
const text = () => {
  const bytes = u64();
  return head.toString("utf8", at, (at += bytes));
};
const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
const skip = (type) => {
  if (type === 8) text();
  else if (type !== 9) at += sizes[type];
  else {
    const [element, count] = [u32(), u64()];
    if (sizes[element] > 0) at += count * sizes[element];
    else for (let i = 0; i < count; i++) skip(element);
  }
};
if (head.toString("latin1", 0, 4) !== "GGUF") throw new Failure(`${path} is no GGUF file`);
const [tensorCount, metadataCount] = [u64(), u64()];
let alignment = 32;
for (let i = 0; i < metadataCount; i++) {
  const [key, type] = [text(), u32()];
  if (key === "general.alignment") alignment = head.readUInt32LE(at);
  if (key.endsWith(".block_count")) {
    const blocks = head.readUInt32LE(at);
    if (kept > blocks)
      throw new UsageError(`${path} has ${blocks} blocks, fewer than the ${kept} to be kept`);
    head.writeUInt32LE(kept, at);
  }
  skip(type);
}
const metadataEnd = at;
const tensors = [];
for (let i = 0; i < tensorCount; i++) {
  const start = at;
  const name = text();
  at += 4 + 8 * head.readUInt32LE(at) + 4;
  tensors.push({ name, info: head.subarray(start, at), offset: u64() });
}
const aligned = (position) => Math.ceil(position / alignment) * alignment;
const dataStart = aligned(at);
if (dataStart > length) throw new Failure(`${path}: its header is longer than ${head.length} bytes`);
const byOffset = tensors.toSorted((a, b) => a.offset - b.offset);
const dataEnd = fstatSync(input).size - dataStart;
byOffset.forEach((tensor, i) => (tensor.bytes = (byOffset[i + 1]?.offset ?? dataEnd) - tensor.offset));
const chosen = tensors.filter(({ name }) => !(Number(/^blk\.(\d+)\./.exec(name)?.[1] ?? -1) >= kept));

const output = openSync(out, "w");
let written = 0;
const write = (bytes) => (written += writeSync(output, bytes));
head.writeBigUInt64LE(BigInt(chosen.length), 8);
write(head.subarray(0, metadataEnd));
let offset = 0;
for (const tensor of chosen) {
  const place = Buffer.alloc(8);
  place.writeBigUInt64LE(BigInt(offset));
  write(tensor.info);
  write(place);
  offset = aligned(offset + tensor.bytes);
}
const piece = Buffer.alloc(16 << 20);
for (const tensor of chosen) {
  write(Buffer.alloc(aligned(written) - written));
  for (let done = 0; done < tensor.bytes;) {
    const wanted = Math.min(piece.length, tensor.bytes - done);
    const got = readSync(input, piece, 0, wanted, dataStart + tensor.offset + done);
    write(piece.subarray(0, got));
    done += got;
  }
}
closeSync(output);
console.error(`${out}: ${plural(kept, "block")}, ${chosen.length} tensors, ${(written / 1e6).toFixed(0)} MB`);
