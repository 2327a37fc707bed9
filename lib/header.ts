// A GGUF file's header: metadata and the index of tensors, without its weights.
import { InhouseError } from "./errors.js";
import type { OverrideValue } from "./types.js";

/** A scalar metadata value; 64-bit integers beyond 2^53 are bigints. */
export type MetadataScalar = number | bigint | boolean | string;

/** GGUF's value types. */
export type MetadataType =
  | "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "bool"
  | "string" | "array" | "u64" | "i64" | "f64"; // prettier-ignore

/** A metadata array. Elements are decoded when asked for: a vocabulary has 262,144 of them. */
export interface MetadataArray {
  type: MetadataType;
  length: number;
  /** Element `index`; nested arrays come whole. */
  at(index: number): MetadataScalar | MetadataArray;
  /** All elements, decoded. Blocks for as long as that takes (about 30 ms for 100,000 strings). */
  toArray(): (MetadataScalar | MetadataArray)[];
}

export interface MetadataEntry {
  key: string;
  type: MetadataType;
  value: MetadataScalar | MetadataArray;
}

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
  path: string;
  /** GGUF version. */
  version: number;
  alignment: number;
  fileBytes: number;
  metadata: ReadonlyMap<string, MetadataEntry>;
  tensors: readonly TensorEntry[];
}

/** Reads and checks a header, off the event loop. Errors: file_not_found, file_read, gguf_*, unsupported_type. */
export function readHeader(
  file: string | URL,
  options: { overrides?: Readonly<Record<string, OverrideValue>> | undefined } = {},
): Promise<ModelHeader> {
  return Promise.reject(new InhouseError("ERR_INHOUSE_INTERNAL", `not yet: ${String(file)} ${typeof options}`));
}
