// Adapters as PEFT saves them: a folder with adapter_config.json and adapter_model.safetensors. Both are checked here
// field by field, and again natively where memory depends on it. Formats: PEFT's LoraConfig; safetensors' own
// description (8 bytes of length, a JSON header, then tensors without gaps).
import { open } from "node:fs/promises";
import { dirname, join } from "node:path";

import { InhouseError } from "./errors.js";
import type { NativeAdapterSource, NativeLoraPair, NativeLoraTarget, NativeMatrix } from "./native.js";
import { show } from "./options.js";

const maxConfigBytes = 1 << 20;
/** A hundred times what the largest models' adapters have. */
const maxHeaderBytes = 4 << 20;
const maxRank = 16_384;

/** What changes the meaning of an adapter in ways that are not applied: each must be absent, null, false or empty. */
const unsupported = [
  "use_dora",
  "fan_in_fan_out",
  "modules_to_save",
  "lora_bias",
  "layer_replication",
  "target_parameters",
  "trainable_token_indices",
  "alora_invocation_tokens",
  "use_qalora",
  "use_bdlora",
  "arrow_config",
  "kasa_config",
  "monteclora_config",
];
/** Ways to begin training that leave the model's own weights as they were; others replace them. */
const plainBeginnings: readonly unknown[] = [undefined, null, true, false, "gaussian", "eva", "orthogonal"];

const typeBytes: Readonly<Record<string, number>> = { F32: 4, F16: 2, BF16: 2 };

const projections: Readonly<Record<string, NativeLoraTarget>> = {
  "self_attn.q_proj": "q",
  "self_attn.k_proj": "k",
  "self_attn.v_proj": "v",
  "self_attn.o_proj": "output",
  "mlp.gate_proj": "gate",
  "mlp.up_proj": "up",
  "mlp.down_proj": "down",
};
const layerName = /^(?:model\.)?(?:language_model\.)?(?:model\.)?layers\.(\d{1,6})\.(\w+\.\w+)$/;
/** The frozen weight of a layer, which PEFT saves beside the pair of an output head: the model has it. */
const copyName = /^base_model\.model\.(.+)\.base_layer\.weight$/;
const tensorName = /^base_model\.model\.(.+)\.lora_([AB])\.weight$/;

type Json = Readonly<Record<string, unknown>>;

const isObject = (value: unknown): value is Json =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A name of a tensor: longer than `show` has room for. */
const quoted = (name: string): string => JSON.stringify(name.length > 120 ? `${name.slice(0, 119)}…` : name);

function invalid(message: string, options?: ErrorOptions): InhouseError {
  return new InhouseError("ERR_INHOUSE_ADAPTER_INVALID", message, options);
}

/** `path` is the folder, or the tensors' file in it. */
export async function readPeft(
  path: string,
  isFolder: boolean,
  signal: AbortSignal,
): Promise<NativeAdapterSource> {
  const folder = isFolder ? path : dirname(path);
  const tensors = isFolder ? join(folder, "adapter_model.safetensors") : path;
  const config = await readConfig(join(folder, "adapter_config.json"));
  signal.throwIfAborted();
  const { fileBytes, entries } = await readEntries(tensors);
  return { path: tensors, fileBytes, pairs: pairsOf(tensors, entries, config) };
}

interface File {
  bytes: number;
  read: (from: number, count: number) => Promise<Buffer>;
}

/** Runs `use` over a regular file. Throws ERR_INHOUSE_FILE_NOT_FOUND and _FILE_READ. */
async function withFile<T>(path: string, use: (file: File) => Promise<T>): Promise<T> {
  try {
    const handle = await open(path, "r");
    try {
      const found = await handle.stat();
      if (!found.isFile()) throw new InhouseError("ERR_INHOUSE_FILE_READ", `${path}: is not a regular file`);
      const read = async (from: number, count: number): Promise<Buffer> => {
        const { bytesRead, buffer } = await handle.read(Buffer.alloc(count), 0, count, from);
        if (bytesRead === count) return buffer;
        throw new InhouseError("ERR_INHOUSE_FILE_CHANGED", `${path}: has become shorter; load it again`);
      };
      return await use({ bytes: found.size, read });
    } finally {
      await handle.close();
    }
  } catch (error) {
    if (InhouseError.is(error)) throw error;
    const { code, message } = error as NodeJS.ErrnoException;
    if (code !== "ENOENT")
      throw new InhouseError("ERR_INHOUSE_FILE_READ", `${path}: ${message}`, { cause: error });
    throw new InhouseError(
      "ERR_INHOUSE_FILE_NOT_FOUND",
      `${path}: no such file; expected a folder with adapter_config.json and adapter_model.safetensors ` +
        "(adapters in PyTorch's pickle format, .bin, can run code and are not read)",
      { cause: error },
    );
  }
}

function parseJson(text: Buffer, what: string): Json {
  let value: unknown;
  try {
    value = JSON.parse(text.toString("utf8"));
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw invalid(`${what} is not JSON: ${reason.slice(0, 200)}`, { cause: error });
  }
  if (isObject(value)) return value;
  throw invalid(`${what} is ${show(value)}; expected an object`);
}

interface Config {
  /** Rank and scale of a module, by its name. */
  rankOf(module: string): number;
  scaleOf(module: string): number;
}

async function readConfig(path: string): Promise<Config> {
  const text = await withFile(path, ({ bytes, read }) => {
    if (bytes <= maxConfigBytes) return read(0, bytes);
    throw invalid(`${path}: has ${bytes} bytes; expected at most ${maxConfigBytes}`);
  });
  const config = parseJson(text, path);
  const refuse = (name: string, expected: string): InhouseError =>
    invalid(`${path}: ${name} is ${show(config[name])}; expected ${expected}`);

  if (config.peft_type !== "LORA") throw refuse("peft_type", '"LORA"');
  for (const name of unsupported) {
    if (!isOff(config[name])) throw refuse(name, "none: adapters of this kind are not supported");
  }
  if (config.bias !== "none" && !isOff(config.bias)) throw refuse("bias", '"none"');
  if (!plainBeginnings.includes(config.init_lora_weights)) {
    throw refuse(
      "init_lora_weights",
      "a way to begin that leaves the model's own weights as they are (save the adapter converted to such a one)",
    );
  }
  const { r, lora_alpha: alpha, use_rslora: stabilized = false } = config;
  if (!isRank(r)) throw refuse("r", `a whole number from 1 to ${maxRank}`);
  if (!isFinite(alpha)) throw refuse("lora_alpha", "a finite number");
  if (typeof stabilized !== "boolean") throw refuse("use_rslora", "true or false");
  const ranks = readPattern(config.rank_pattern, isRank);
  if (ranks === undefined) throw refuse("rank_pattern", "an object from module names, no patterns, to ranks");
  const alphas = readPattern(config.alpha_pattern, isFinite);
  if (alphas === undefined)
    throw refuse("alpha_pattern", "an object from module names, no patterns, to numbers");
  const rankOf = (module: string): number => valueFor(module, ranks) ?? r;
  const scaleOf = (module: string): number => {
    const rank = rankOf(module);
    return (valueFor(module, alphas) ?? alpha) / (stabilized ? Math.sqrt(rank) : rank);
  };
  return { rankOf, scaleOf };
}

const isRank = (value: unknown): value is number =>
  Number.isInteger(value) && (value as number) >= 1 && (value as number) <= maxRank;
const isFinite = (value: unknown): value is number => typeof value === "number" && Number.isFinite(value);

function isOff(value: unknown): boolean {
  if (value === undefined || value === null || value === false) return true;
  return typeof value === "object" && Object.keys(value).length === 0;
}

/** The entries of a rank_pattern or alpha_pattern. PEFT takes regular expressions; names alone are supported. */
function readPattern(
  pattern: unknown,
  fits: (value: unknown) => value is number,
): [string, number][] | undefined {
  if (isOff(pattern)) return [];
  if (!isObject(pattern)) return undefined;
  const entries = Object.entries(pattern);
  const plain = entries.every(([name, value]) => /^[\w.]+$/.test(name) && fits(value));
  return plain ? (entries as [string, number][]) : undefined;
}

const valueFor = (module: string, entries: readonly [string, number][]): number | undefined =>
  entries.find(([name]) => module === name || module.endsWith(`.${name}`))?.[1];

interface Entry {
  name: string;
  type: string;
  shape: readonly number[];
  /** In the file. */
  begin: number;
  end: number;
}

/** The tensors of a safetensors file: in bounds, without gaps or overlaps, of the sizes that their shapes need. */
async function readEntries(path: string): Promise<{ fileBytes: number; entries: Entry[] }> {
  const cut = (): InhouseError => invalid(`${path}: ends inside its header; is the download complete?`);
  const { fileBytes, start, header } = await withFile(path, async ({ bytes, read }) => {
    if (bytes < 8) throw cut();
    const length = (await read(0, 8)).readBigUInt64LE();
    if (length > maxHeaderBytes) {
      throw invalid(
        `${path}: announces a header of ${length} bytes; expected a safetensors file with at most ${maxHeaderBytes}`,
      );
    }
    const start = 8 + Number(length);
    if (start > bytes) throw cut();
    return { fileBytes: bytes, start, header: await read(8, Number(length)) };
  });
  const tensors = Object.entries(parseJson(header, `${path}: the header`)).filter(
    ([name]) => name !== "__metadata__",
  );
  const entries = tensors
    .map(([name, value]) => entryOf(path, start, name, value))
    .sort((a, b) => a.begin - b.begin || a.end - b.end);
  // A name that stands there twice leaves a gap too: JSON keeps one of the two.
  let at = start;
  for (const { name, begin, end } of entries) {
    if (begin !== at) {
      throw invalid(
        `${path}: tensor ${quoted(name)} begins at byte ${begin}; expected ${at}, where the one before it ends`,
      );
    }
    if (end > fileBytes) {
      throw invalid(`${path}: tensor ${quoted(name)} ends after the file; is the download complete?`);
    }
    at = end;
  }
  if (at !== fileBytes) {
    throw invalid(`${path}: has ${fileBytes} bytes; expected ${at}, where the last tensor ends`);
  }
  return { fileBytes, entries };
}

const isCount = (value: unknown): value is number => Number.isSafeInteger(value) && (value as number) >= 0;

function entryOf(path: string, start: number, name: string, value: unknown): Entry {
  const refuse = (text: string): InhouseError => invalid(`${path}: tensor ${quoted(name)} ${text}`);
  const { dtype: type, shape, data_offsets: offsets } = isObject(value) ? value : {};
  const size = typeof type === "string" && Object.hasOwn(typeBytes, type) ? typeBytes[type] : undefined;
  if (size === undefined) throw refuse(`has dtype ${show(type)}; expected F32, F16 or BF16`);
  if (!Array.isArray(shape) || !shape.every(isCount)) {
    throw refuse(`has shape ${show(shape)}; expected a list of sizes`);
  }
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw refuse(`has data_offsets ${show(offsets)}; expected where it begins and ends`);
  }
  const [begin, end] = offsets as [number, number];
  const bytes = shape.reduce((product, count) => product * count, size);
  if (end - begin !== bytes || !Number.isSafeInteger(start + end)) {
    throw refuse(`has data_offsets ${show(offsets)}; expected ${bytes} bytes by its shape ${show(shape)}`);
  }
  return { name, type: type as string, shape, begin: start + begin, end: start + end };
}

/** The place of a module: "model.layers.3.self_attn.q_proj". */
function placeOf(module: string): { layer: number; target: NativeLoraTarget } | undefined {
  if (module === "lm_head") return { layer: 0, target: "head" };
  const [, layer, projection] = layerName.exec(module) ?? [];
  if (projection === undefined || !Object.hasOwn(projections, projection)) return undefined;
  return { layer: Number(layer), target: projections[projection]! };
}

function pairsOf(path: string, entries: readonly Entry[], config: Config): NativeLoraPair[] {
  const noPlace = ({ name }: Entry): InhouseError =>
    invalid(
      `${path}: tensor ${quoted(name)} has no place; expected lora_A and lora_B of attention and feed-forward ` +
        'projections and of lm_head alone, such as "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"',
    );
  const modules = new Map<string, { A?: Entry; B?: Entry; copy?: Entry }>();
  for (const entry of entries) {
    const [, module = "", half] = tensorName.exec(entry.name) ?? copyName.exec(entry.name) ?? [];
    if (placeOf(module) === undefined) throw noPlace(entry);
    const found = modules.get(module) ?? {};
    found[(half ?? "copy") as "A" | "B" | "copy"] = entry;
    modules.set(module, found);
  }
  const matrix = ({ name, type, shape, begin }: Entry): NativeMatrix => {
    if (shape.length === 2) return { name, type, rows: shape[0]!, cols: shape[1]!, offset: begin };
    throw invalid(`${path}: tensor ${quoted(name)} has shape ${show(shape)}; expected two sizes`);
  };
  return Array.from(modules, ([module, { A, B, copy }]) => {
    if (A === undefined || B === undefined) {
      if (copy !== undefined && A === B) throw noPlace(copy);
      const half = A === undefined ? "A" : "B";
      throw invalid(`${path}: tensor ${quoted(`base_model.model.${module}.lora_${half}.weight`)} is missing`);
    }
    const [a, b] = [matrix(A), matrix(B)];
    const rank = config.rankOf(module);
    if (a.rows !== rank) {
      throw invalid(
        `${path}: tensor ${quoted(A.name)} has rank ${a.rows}; expected ${rank} by adapter_config.json`,
      );
    }
    const own = copy && matrix(copy);
    if (own && (own.rows !== b.rows || own.cols !== a.cols)) throw noPlace(copy);
    return { ...placeOf(module)!, scale: config.scaleOf(module), a, b };
  });
}
