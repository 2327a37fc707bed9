// What the library itself reads from a file's metadata.
import { InhouseError } from "./errors.js";
import { MetadataArray, type MetadataType, type ModelHeader } from "./header.js";
import { show } from "./options.js";
import type { StringTable, TokenizerData } from "./tokenizer/tokenizer.js";

function wrong(key: string, value: unknown, expected: string): InhouseError {
  const found = value instanceof MetadataArray ? `an array of ${value.type}` : show(value);
  return new InhouseError("ERR_INHOUSE_GGUF_INVALID", `${key} is ${found}; expected ${expected}`);
}

/** A text of the metadata, undefined where it is absent. Throws ERR_INHOUSE_GGUF_INVALID for another type. */
export function textOf(header: Pick<ModelHeader, "metadata">, key: string): string | undefined {
  const value = header.metadata.get(key)?.value;
  if (value === undefined || typeof value === "string") return value;
  throw wrong(key, value, "a string");
}

function numberOf(header: ModelHeader, key: string): number | undefined {
  const value = header.metadata.get(key)?.value;
  if (value === undefined || typeof value === "number") return value;
  throw wrong(key, value, "a number");
}

function flagOf(header: ModelHeader, key: string): boolean | undefined {
  const value = header.metadata.get(key)?.value;
  if (value === undefined || typeof value === "boolean") return value;
  throw wrong(key, value, "a bool");
}

function arrayOf(
  header: ModelHeader,
  key: string,
  types: readonly MetadataType[],
): MetadataArray | undefined {
  const value = header.metadata.get(key)?.value;
  if (value === undefined) return undefined;
  if (value instanceof MetadataArray && types.includes(value.type)) return value;
  throw wrong(key, value, `an array of ${types.join(" or ")}`);
}

function stringsOf(header: ModelHeader, key: string): StringTable | undefined {
  const raw = arrayOf(header, key, ["string"])?.raw();
  if (raw === undefined) return undefined;
  return { data: raw.bytes, offsets: raw.offsets.length === 0 ? Uint32Array.of(0) : raw.offsets };
}

// The arrays' bytes are copies with an offset of zero; every platform we build for is little-endian, as the format is.
const int32s = ({ bytes }: { bytes: Uint8Array }): Int32Array =>
  new Int32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);
const float32s = ({ bytes }: { bytes: Uint8Array }): Float32Array =>
  new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

/** The tokenizer's metadata, as `createTokenizer` takes it. Throws ERR_INHOUSE_GGUF_INVALID for wrong types. */
export function tokenizerData(header: ModelHeader): TokenizerData {
  const key = (name: string): string => `tokenizer.ggml.${name}`;
  const model = textOf(header, key("model"));
  if (model === undefined) {
    throw new InhouseError(
      "ERR_INHOUSE_UNSUPPORTED_TOKENIZER",
      `${header.path}: tokenizer.ggml.model is missing; expected "gpt2" or "llama"`,
    );
  }
  const tokens = stringsOf(header, key("tokens"));
  if (tokens === undefined) {
    throw new InhouseError(
      "ERR_INHOUSE_TOKENIZER_INVALID",
      `${header.path}: tokenizer.ggml.tokens is missing`,
    );
  }
  const types = arrayOf(header, key("token_type"), ["i32", "u32"]);
  const scores = arrayOf(header, key("scores"), ["f32"]);
  return {
    model,
    pre: textOf(header, key("pre")),
    tokens,
    tokenTypes: types && int32s(types.raw()),
    scores: scores && float32s(scores.raw()),
    merges: stringsOf(header, key("merges")),
    bosTokenId: numberOf(header, key("bos_token_id")),
    eosTokenId: numberOf(header, key("eos_token_id")),
    unknownTokenId: numberOf(header, key("unknown_token_id")),
    paddingTokenId: numberOf(header, key("padding_token_id")),
    eotTokenId: numberOf(header, key("eot_token_id")),
    eomTokenId: numberOf(header, key("eom_token_id")),
    addBos: flagOf(header, key("add_bos_token")),
    addEos: flagOf(header, key("add_eos_token")),
    addSpacePrefix: flagOf(header, key("add_space_prefix")),
  };
}

// general.file_type, as the programs that write GGUF files number it.
const fileTypes: Readonly<Record<number, string>> = {
  0: "F32",
  1: "F16",
  2: "Q4_0",
  3: "Q4_1",
  7: "Q8_0",
  8: "Q5_0",
  9: "Q5_1",
  10: "Q2_K",
  11: "Q3_K_S",
  12: "Q3_K_M",
  13: "Q3_K_L",
  14: "Q4_K_S",
  15: "Q4_K_M",
  16: "Q5_K_S",
  17: "Q5_K_M",
  18: "Q6_K",
  19: "IQ2_XXS",
  20: "IQ2_XS",
  21: "Q2_K_S",
  22: "IQ3_XS",
  23: "IQ3_XXS",
  24: "IQ1_S",
  25: "IQ4_NL",
  26: "IQ3_S",
  27: "IQ3_M",
  28: "IQ2_S",
  29: "IQ2_M",
  30: "IQ4_XS",
  31: "IQ1_M",
  32: "BF16",
  36: "TQ1_0",
  37: "TQ2_0",
  38: "MXFP4",
};

/** The file's own label, or else the type that holds most of its bytes. */
export function quantizationOf(header: ModelHeader): string {
  const label = fileTypes[Number(header.metadata.get("general.file_type")?.value)];
  if (label !== undefined) return label;
  const bytes = new Map<string, number>();
  for (const tensor of header.tensors) bytes.set(tensor.type, (bytes.get(tensor.type) ?? 0) + tensor.bytes);
  const [most] = [...bytes].sort((a, b) => b[1] - a[1]);
  return most?.[0] ?? "unknown";
}
