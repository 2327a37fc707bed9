// The options of `loadModel`: their table, and their translation for the native core.
import { resolve } from "node:path";
import { fileURLToPath } from "node:url";

import type { NativeEngineOptions, NativeLoadOptions } from "./native.js";
import { checkOptions, invalidArgument, type Rules, show } from "./options.js";
import type { KvType, LoadOptions, OverrideValue } from "./types.js";

const devices = ["auto", "cpu", "reference"] as const;
const kvTypes = ["f32", "f16", "q8_0"] as const;

const isKvType = (value: unknown): value is KvType => (kvTypes as readonly unknown[]).includes(value);

function kvTypeProblem(value: unknown): string | undefined {
  const names = kvTypes.map((name) => `"${name}"`).join(", ");
  const expected = `${names}, or an object { k, v } of these`;
  if (isKvType(value)) return undefined;
  if (typeof value !== "object" || value === null) return expected;
  for (const [key, type] of Object.entries(value)) {
    if ((key !== "k" && key !== "v") || (type !== undefined && !isKvType(type))) return expected;
  }
  return undefined;
}

function overridesProblem(value: unknown): string | undefined {
  const expected = "an object from metadata key to string, finite number or boolean";
  if (typeof value !== "object" || value === null || Array.isArray(value)) return expected;
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

/** What each option may be; types.ts says what it means. */
export const loadRules = {
  contextLength: { kind: "integer", min: 1, max: 1 << 20 },
  device: { kind: "choice", values: devices },
  instructionSet: { kind: "string" },
  threads: { kind: "integer", min: 1, max: 1024, words: ["auto"] },
  repack: { kind: "boolean" },
  lockMemory: { kind: "boolean" },
  overrides: { kind: "other", problem: overridesProblem },
  kvType: { kind: "other", problem: kvTypeProblem },
  maxConcurrent: { kind: "integer", min: 1, max: 1024 },
  maxQueue: { kind: "integer", min: 0, max: 1_000_000 },
  maxBatchTokens: { kind: "integer", min: 1, max: 65_536 },
  signal: { kind: "signal" },
  onProgress: { kind: "function" },
} as const satisfies Rules & Record<keyof LoadOptions, unknown>;

/** A path from a path, a file URL, or the text of one. */
export function filePath(call: string, file: unknown): string {
  let path: string;
  const url = typeof file === "object" && file !== null ? (file as { href?: unknown }).href : file;
  if (typeof file !== "string" && typeof url !== "string") {
    throw invalidArgument(`${call}: the file is ${show(file)}; expected a path or a file URL`);
  }
  if (typeof file !== "string" || file.startsWith("file:")) {
    try {
      path = fileURLToPath(url as string);
    } catch (error) {
      const reason = error instanceof Error ? error.message : String(error);
      throw invalidArgument(`${call}: the file is ${show(url)}; expected a path or a file URL (${reason})`);
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
  model: NativeLoadOptions;
  engine: NativeEngineOptions;
}

/** Checks everything. Throws ERR_INHOUSE_INVALID_ARGUMENT. */
export function resolveLoad(file: unknown, options: LoadOptions): ResolvedLoad {
  const path = filePath("loadModel", file);
  checkOptions("loadModel", options, loadRules);
  const { kvType } = options;
  const [k, v] = typeof kvType === "object" ? [kvType.k, kvType.v] : [kvType, kvType];
  return {
    model: {
      path,
      overrides: overrideList(options.overrides),
      device: options.device === "reference" ? "reference" : "cpu",
      threads: typeof options.threads === "number" ? options.threads : 0,
      instructionSet: options.instructionSet ?? "",
      repack: options.repack ?? true,
      lockMemory: options.lockMemory ?? false,
    },
    engine: {
      contextLength: options.contextLength ?? 0,
      maxConcurrent: options.maxConcurrent ?? 8,
      maxQueue: options.maxQueue ?? 256,
      maxBatchTokens: options.maxBatchTokens ?? 512,
      kvTypeK: k ?? "",
      kvTypeV: v ?? "",
    },
  };
}
