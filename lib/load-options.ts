// The options of `loadModel`: their table, and their translation for the native core.
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import type { NativeEngineOptions, NativeLoadOptions } from "./native.js";
import { attempt, invalidArgument, namesIn, readOptions, type Rules, show } from "./options.js";
import type { Device, KvType, LoadOptions, OverrideValue } from "./types.js";

/** Every type that cached keys and values can have. */
export const kvTypes = ["f32", "f16", "q8_0", "q4_0"] as const;

function deviceProblem(value: unknown): string | undefined {
  const fits = typeof value === "string" && /^(auto|cpu|reference|cuda(:(0|[1-9]\d{0,2}))?)$/.test(value);
  return fits ? undefined : '"auto", "cpu", "cuda", "cuda:0", "cuda:1" …, or "reference"';
}

const isKvType = (value: unknown): value is KvType => (kvTypes as readonly unknown[]).includes(value);

function kvTypeProblem(value: unknown): string | undefined {
  if (isKvType(value)) return undefined;
  const { k, v } = (value ?? {}) as Record<string, unknown>;
  const given = [k, v].filter((type) => type !== undefined);
  const fits =
    given.length > 0 &&
    given.every(isKvType) &&
    namesIn(value as object).every((name) => name === "k" || name === "v");
  if (fits) return undefined;
  const names = kvTypes.map((name) => `"${name}"`).join(", ");
  return `${names}, or an object with one of these for k, for v or for both`;
}

function instructionSetProblem(value: unknown): string | undefined {
  const fits = typeof value === "string" && value !== "" && !value.includes("\0");
  return fits ? undefined : 'a string without zero bytes, not empty, such as "avx2"';
}

/** A copy of a plain object, so that getters are read once. What can be iterated over has its entries elsewhere. */
const copyOverrides = (value: unknown): unknown =>
  typeof value === "object" && value !== null && !(Symbol.iterator in value) ? { ...value } : value;

function overridesProblem(value: unknown): string | undefined {
  const expected = "an object from metadata key to string, finite number or boolean";
  if (typeof value !== "object" || value === null || Symbol.iterator in value) return expected;
  for (const [key, item] of Object.entries(value)) {
    if (key === "" || key.includes("=") || key.includes("\0"))
      return `${expected}; the key ${show(key)} is not one`;
    const fits =
      typeof item === "boolean" ||
      (typeof item === "number" && Number.isFinite(item)) ||
      (typeof item === "string" && !item.includes("\0"));
    if (!fits) return `${expected}; ${key} is ${show(item)}`;
  }
  return undefined;
}

/** Tokens that a draft model may guess ahead. */
const mostDraftTokens = 23;

/** A copy, so that getters are read once. */
const copyDraft = (value: unknown): unknown =>
  typeof value === "object" && value !== null ? { ...value } : value;

function draftProblem(value: unknown): string | undefined {
  const expected = `an object with a file and, if need be, tokens from 1 to ${mostDraftTokens}`;
  if (typeof value !== "object" || value === null) return expected;
  const { file, tokens } = value as Record<string, unknown>;
  const known = namesIn(value).every((name) => name === "file" || name === "tokens");
  const counts =
    tokens === undefined ||
    (Number.isInteger(tokens) && (tokens as number) >= 1 && (tokens as number) <= mostDraftTokens);
  return known && counts && file !== undefined ? undefined : expected;
}

/** What each option may be; types.ts says what it means. */
export const loadRules = {
  contextLength: { kind: "integer", min: 1, max: 1 << 20 },
  device: { kind: "other", problem: deviceProblem },
  instructionSet: { kind: "other", problem: instructionSetProblem },
  threads: { kind: "integer", min: 1, max: 512, words: ["auto"] },
  repack: { kind: "boolean" },
  lockMemory: { kind: "boolean" },
  overrides: { kind: "other", read: copyOverrides, problem: overridesProblem },
  kvType: { kind: "other", problem: kvTypeProblem },
  maxConcurrent: { kind: "integer", min: 1, max: 1024 },
  maxQueue: { kind: "integer", min: 0, max: 1_000_000 },
  maxBatchTokens: { kind: "integer", min: 1, max: 65_536 },
  maxSlowdown: { kind: "number", min: 1, max: 1000 },
  kvTokens: { kind: "integer", min: 32, max: 2 ** 31 - 1 },
  kvMemory: { kind: "integer", min: 1, max: Number.MAX_SAFE_INTEGER },
  draft: { kind: "other", read: copyDraft, problem: draftProblem },
  signal: { kind: "signal" },
  onProgress: { kind: "function" },
} as const satisfies Rules & Record<keyof LoadOptions, unknown>;

/** A path from a path, a file URL, or the text of one. */
export function filePath(call: string, file: unknown): string {
  let path: string;
  const expected = "expected a path or a file URL";
  const url = attempt(`${call}: the file`, () =>
    typeof file === "object" && file !== null ? (file as { href?: unknown }).href : file,
  );
  if (typeof file !== "string" && typeof url !== "string") {
    throw invalidArgument(`${call}: the file is ${show(file)}; ${expected}`);
  }
  if (/^(?!file:)[a-z][a-z0-9+.-]+:\/\//i.test(url as string)) {
    throw invalidArgument(
      `${call}: the file is ${show(url)}; ${expected}: what is not on this machine is fetched first, ` +
        "known models with npx inhouse pull",
    );
  }
  if (typeof file !== "string" || /^file:/i.test(file)) {
    try {
      path = fileURLToPath(url as string);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw invalidArgument(`${call}: the file is ${show(url)}; ${expected} (${reason})`);
    }
  } else path = file;
  if (path === "" || path.includes("\0")) {
    throw invalidArgument(
      `${call}: the file is ${show(path)}; expected a path without zero bytes, not empty`,
    );
  }
  return resolve(path);
}

/** `key=value`, as the native core reads overrides. */
export function overrideList(overrides: Readonly<Record<string, OverrideValue>> = {}): string[] {
  return Object.entries(overrides).map(([key, value]) => `${key}=${String(value)}`);
}

export interface ResolvedLoad {
  path: string;
  overrides: string[];
  signal: AbortSignal | undefined;
  onProgress: LoadOptions["onProgress"];
  device: Device;
  /** All but the device. */
  model: Omit<NativeLoadOptions, "device" | "cudaDevice" | "cudaImage" | "cudaDriver">;
  engine: NativeEngineOptions;
  /** The draft model's file. */
  draft: string | undefined;
}

/** Checks everything. Throws ERR_INHOUSE_INVALID_ARGUMENT. */
export function resolveLoad(file: unknown, given: LoadOptions): ResolvedLoad {
  const path = filePath("loadModel", file);
  const options = readOptions("loadModel", given, loadRules);
  const { kvType, instructionSet, maxConcurrent, maxBatchTokens } = options;
  if (options.device === "reference" && instructionSet !== undefined) {
    throw invalidArgument(
      `loadModel: option 'instructionSet' is ${show(instructionSet)}; expected none with device "reference", ` +
        "which has no kernels to choose from",
    );
  }
  if (maxConcurrent !== undefined && maxBatchTokens !== undefined && maxBatchTokens < maxConcurrent) {
    throw invalidArgument(
      `loadModel: option 'maxBatchTokens' is ${maxBatchTokens}; expected at least maxConcurrent, ` +
        `which is ${maxConcurrent}: a step has a token of each generation`,
    );
  }
  const { contextLength, kvTokens, kvMemory } = options;
  if (kvTokens !== undefined && kvMemory !== undefined) {
    throw invalidArgument(
      "loadModel: options 'kvTokens' and 'kvMemory' are both given; expected one of them",
    );
  }
  if (kvTokens !== undefined && contextLength !== undefined && kvTokens < contextLength) {
    throw invalidArgument(
      `loadModel: option 'kvTokens' is ${kvTokens}; expected at least contextLength, which is ${contextLength}: ` +
        "the cache has to hold one whole generation",
    );
  }
  // What only the CPU obeys is never ignored: "auto" keeps to the CPU then.
  const forCpu = (["instructionSet", "repack", "lockMemory"] as const).find(
    (name) => options[name] !== undefined,
  );
  if (options.device?.startsWith("cuda") && forCpu !== undefined) {
    throw invalidArgument(
      `loadModel: option '${forCpu}' is ${show(options[forCpu])}; expected none with device "${options.device}", ` +
        "which computes on the GPU",
    );
  }
  const [k, v] = typeof kvType === "object" ? [kvType.k, kvType.v] : [kvType, kvType];
  const gpuTypes: unknown[] = ["f16", "q8_0", undefined];
  const onlyCpu = forCpu !== undefined || !gpuTypes.includes(k) || !gpuTypes.includes(v);
  return {
    path,
    draft: options.draft && filePath("loadModel: option 'draft'", options.draft.file),
    overrides: overrideList(options.overrides),
    signal: options.signal,
    onProgress: options.onProgress,
    device: onlyCpu && (options.device ?? "auto") === "auto" ? "cpu" : (options.device ?? "auto"),
    model: {
      threads: typeof options.threads === "number" ? options.threads : 0,
      instructionSet: instructionSet ?? "",
      repack: options.repack ?? true,
      lockMemory: options.lockMemory ?? false,
    },
    engine: {
      contextLength: contextLength ?? 0,
      maxConcurrent: maxConcurrent ?? Math.min(8, maxBatchTokens ?? 8),
      maxQueue: options.maxQueue ?? 256,
      maxBatchTokens: maxBatchTokens ?? Math.max(512, maxConcurrent ?? 0),
      maxSlowdown: options.maxSlowdown ?? 2,
      kvTokens: kvTokens ?? 0,
      kvMemory: kvMemory ?? 0,
      draftTokens: options.draft?.tokens ?? 8,
      kvTypeK: k ?? "",
      kvTypeV: v ?? "",
    },
  };
}
