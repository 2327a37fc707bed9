/*
 * Reads the tokenizer metadata of a trusted GGUF file, for tests only: it makes the tokenizers testable without the
 * native part, whose parser checks what this one takes for granted.
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { StringTable, TokenizerData } from "../../lib/tokenizer/tokenizer.js";

const sizes = [1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8];
type Value = number | bigint | boolean | string | StringTable | Int32Array | Float32Array | undefined;

export function readMetadata(path: string): Map<string, Value> {
  // The metadata of the models used in tests ends within the first 32 MB.
  const file = openSync(path, "r");
  const bytes = Buffer.alloc(32 << 20);
  const view = new DataView(bytes.buffer, bytes.byteOffset, readSync(file, bytes, 0, bytes.length, 0));
  closeSync(file);
  let at = 0;
  const u32 = (): number => view.getUint32((at += 4) - 4, true);
  const u64 = (): number => Number(view.getBigUint64((at += 8) - 8, true));
  const text = (): string => {
    const length = u64();
    return bytes.toString("utf8", at, (at += length));
  };
  const scalar = (type: number): Value => {
    if (type === 8) return text();
    at += sizes[type];
    const from = at - sizes[type];
    if (type === 0 || type === 7) return type === 7 ? bytes[from] !== 0 : bytes[from];
    if (type === 1) return view.getInt8(from);
    if (type === 2) return view.getUint16(from, true);
    if (type === 3) return view.getInt16(from, true);
    if (type === 4) return view.getUint32(from, true);
    if (type === 5) return view.getInt32(from, true);
    if (type === 6) return view.getFloat32(from, true);
    if (type === 10) return view.getBigUint64(from, true);
    return type === 11 ? view.getBigInt64(from, true) : view.getFloat64(from, true);
  };
  const strings = (count: number): StringTable => {
    const offsets = new Uint32Array(count + 1);
    const first = at;
    for (let i = 0; i < count; i++) {
      const length = u64();
      offsets[i + 1] = offsets[i] + length;
      at += length;
    }
    const data = new Uint8Array(offsets[count]);
    for (let i = 0, from = first; i < count; i++) {
      const length = offsets[i + 1] - offsets[i];
      data.set(bytes.subarray(from + 8, from + 8 + length), offsets[i]);
      from += 8 + length;
    }
    return { data, offsets };
  };
  const array = (): Value => {
    const type = u32();
    const count = u64();
    if (type === 8) return strings(count);
    if (type === 5) return Int32Array.from({ length: count }, () => scalar(5) as number);
    if (type === 6) return Float32Array.from({ length: count }, () => scalar(6) as number);
    for (let i = 0; i < count; i++) scalar(type);
    return undefined;
  };
  if (u32() !== 0x46554747 || u32() < 2) throw new Error(`${path}: not a GGUF file of version 2 or 3`);
  u64();
  const result = new Map<string, Value>();
  for (let n = u64(); n > 0; n--) {
    const key = text();
    const type = u32();
    result.set(key, type === 9 ? array() : scalar(type));
  }
  return result;
}

export function readTokenizerData(path: string): TokenizerData {
  const metadata = readMetadata(path);
  const get = <T extends Value>(name: string): T => metadata.get(`tokenizer.ggml.${name}`) as T;
  return {
    model: get<string>("model"),
    pre: get<string | undefined>("pre"),
    tokens: get<StringTable>("tokens"),
    tokenTypes: get<Int32Array | undefined>("token_type"),
    scores: get<Float32Array | undefined>("scores"),
    merges: get<StringTable | undefined>("merges"),
    bosTokenId: get<number | undefined>("bos_token_id"),
    eosTokenId: get<number | undefined>("eos_token_id"),
    unknownTokenId: get<number | undefined>("unknown_token_id"),
    paddingTokenId: get<number | undefined>("padding_token_id"),
    eotTokenId: get<number | undefined>("eot_token_id"),
    addBos: get<boolean | undefined>("add_bos_token"),
    addEos: get<boolean | undefined>("add_eos_token"),
    addSpacePrefix: get<boolean | undefined>("add_space_prefix"),
  };
}
