// A GGUF file's header: metadata and the index of tensors, without its weights.
import { CallSite } from "./call-site.js";
import { filePath, loadRules, overrideList } from "./load-options.js";
import { native, type NativeArray, type NativeFile, type NativeTensor } from "./native.js";
import { readOptions, type Rules } from "./options.js";
import type { OverrideValue } from "./types.js";

/** A scalar metadata value; 64-bit integers from 2^53 on are bigints. */
export type MetadataScalar = number | bigint | boolean | string;

const typeNames = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;

/** GGUF's value types. */
export type MetadataType = (typeof typeNames)[number];

/** A metadata value with its key and the type it has in the file. */
export interface MetadataEntry {
  key: string;
  type: MetadataType;
  value: MetadataScalar | MetadataArray;
}

/** A tensor's place in a file. Sizes and offsets are in bytes. */
export interface TensorEntry {
  name: string;
  /** The format's name of the block type, for example `"Q4_K"`. */
  type: string;
  /** Columns first, as in the file. */
  shape: number[];
  bytes: number;
  /** Which part of a split model holds it, from 0. */
  part: number;
  /** Of its first byte in that part. */
  offset: number;
}

/** A checked header. */
export interface ModelHeader {
  /** Absolute. */
  path: string;
  /** Of the GGUF format. */
  version: number;
  alignment: number;
  /** All parts of a split model together. */
  fileBytes: number;
  metadata: ReadonlyMap<string, MetadataEntry>;
  tensors: readonly TensorEntry[];
}

const decoder = new TextDecoder("utf-8", { ignoreBOM: true });

/** A metadata array. Elements are decoded when asked for: a vocabulary has 262,144 of them. */
export class MetadataArray {
  readonly type: MetadataType;
  readonly length: number;
  readonly #fetch: (path: readonly number[]) => NativeArray;
  readonly #path: readonly number[];
  #data: NativeArray | undefined;

  /** @internal */
  constructor(
    fetch: (path: readonly number[]) => NativeArray,
    path: readonly number[],
    kind: { type: number; count: number },
  ) {
    this.#fetch = fetch;
    this.#path = path;
    this.type = typeNames[kind.type]!;
    this.length = kind.count;
  }

  /**
   * The elements as bytes, as the file holds them: numbers little-endian, strings one after the other with
   * `length + 1` offsets. Copied from the addon at the first use.
   */
  raw(): { bytes: Uint8Array; offsets: Uint32Array } {
    return this.data();
  }

  /** Element `index`; nested arrays come whole. Undefined outside the array. */
  at(index: number): MetadataScalar | MetadataArray | undefined {
    if (!Number.isInteger(index) || index < 0 || index >= this.length) return undefined;
    if (this.type === "array") {
      const path = [...this.#path, index];
      const { type, count } = this.#fetch(path);
      return new MetadataArray(this.#fetch, path, { type, count });
    }
    const { bytes, offsets } = this.data();
    if (this.type === "string") return decoder.decode(bytes.subarray(offsets[index], offsets[index + 1]));
    return number(this.type, bytes, index);
  }

  /** All elements, decoded. Blocks for as long as that takes, about 30 ms for 100,000 strings. */
  toArray(): (MetadataScalar | MetadataArray)[] {
    return Array.from({ length: this.length }, (_, i) => this.at(i)!);
  }

  private data(): NativeArray {
    this.#data ??= ownRealm(this.#fetch(this.#path));
    return this.#data;
  }
}

// Under Jest the addon's arrays belong to another realm, where `instanceof Uint8Array` fails.
function ownRealm(array: NativeArray): NativeArray {
  const { bytes, offsets } = array;
  return {
    ...array,
    bytes: new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length),
    offsets: new Uint32Array(offsets.buffer, offsets.byteOffset, offsets.length),
  };
}

function number(type: MetadataType, bytes: Uint8Array, index: number): MetadataScalar {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const narrow = (wide: bigint): number | bigint =>
    wide > -(2n ** 53n) && wide < 2n ** 53n ? Number(wide) : wide;
  switch (type) {
    case "u8":
      return view.getUint8(index);
    case "i8":
      return view.getInt8(index);
    case "bool":
      return view.getUint8(index) !== 0;
    case "u16":
      return view.getUint16(2 * index, true);
    case "i16":
      return view.getInt16(2 * index, true);
    case "u32":
      return view.getUint32(4 * index, true);
    case "i32":
      return view.getInt32(4 * index, true);
    case "f32":
      return view.getFloat32(4 * index, true);
    case "f64":
      return view.getFloat64(8 * index, true);
    case "u64":
      return narrow(view.getBigUint64(8 * index, true));
    default:
      return narrow(view.getBigInt64(8 * index, true));
  }
}

/** Entries and tensors are taken over in slices of this many, between which the event loop is free. */
const sliceLength = 1000;

async function slices<T>(count: number, take: (from: number, to: number) => T[]): Promise<T[]> {
  const all: T[] = [];
  for (let from = 0; from < count; from += sliceLength) {
    if (from > 0) await new Promise(setImmediate);
    for (const item of take(from, Math.min(from + sliceLength, count))) all.push(item);
  }
  return all;
}

async function headerOf(file: NativeFile): Promise<ModelHeader> {
  const { metadataCount, tensorCount, ...summary } = file.summary();
  const entries = await slices(metadataCount, (from, to) => file.metadata(from, to));
  const metadata = new Map<string, MetadataEntry>();
  for (const [index, { key, type, value }] of entries.entries()) {
    const scalar =
      typeof value === "object"
        ? new MetadataArray((path) => file.array(index, Uint32Array.from(path)), [], value)
        : value;
    metadata.set(key, { key, type: typeNames[type]!, value: scalar });
  }
  const tensors: NativeTensor[] = await slices(tensorCount, (from, to) => file.tensors(from, to));
  return { ...summary, metadata, tensors };
}

/** @internal A header and the file it is of, for arguments that were checked before. */
export async function openHeader(
  path: string,
  overrides: string[],
  site: CallSite,
): Promise<{ header: ModelHeader; file: NativeFile }> {
  const file = await new Promise<NativeFile>((resolve, reject) => {
    native().openFile(path, { list: overrides }, (error, value) => {
      if (error) reject(site.native(error));
      else resolve(value);
    });
  });
  return { header: await headerOf(file), file };
}

const headerRules = { overrides: loadRules.overrides } satisfies Rules;

/**
 * Reads and checks a header, on a thread of its own. `file` is a path or a file URL; of a split model, its first
 * part. `overrides` replace or add metadata, as in `loadModel`.
 *
 * Rejects with ERR_INHOUSE_INVALID_ARGUMENT, _FILE_NOT_FOUND, _FILE_READ, _GGUF_…, _UNSUPPORTED_TYPE.
 */
export async function readHeader(
  file: string | URL,
  options: { overrides?: Readonly<Record<string, OverrideValue>> | undefined } = {},
): Promise<ModelHeader> {
  const site = new CallSite(readHeader);
  const path = filePath("readHeader", file);
  const { overrides } = readOptions("readHeader", options, headerRules);
  return (await openHeader(path, overrideList(overrides), site)).header;
}
