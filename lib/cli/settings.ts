// Flags for the library's options, made from the library's tables, and the options made from the flags given.
import { kvTypes, loadRules } from "../load-options.js";
import { problem, range } from "../options.js";
import { completeRules } from "../request.js";
import {
  parseSamplingFlag,
  samplingFlag,
  samplingNames,
  type SamplingSetting,
  samplingSettings,
} from "../sampling.js";
import type { LoadOptions } from "../types.js";
import type { GenerateOptions } from "../request.js";
import { type Flag, type Flags, integerFlag, parseInteger, type Values } from "./flags.js";
import { UsageError } from "./usage.js";

export function choice(name: string, value: string, values: readonly string[], help: string): Flag {
  const parse = (texts: string[]) => {
    const text = texts.at(-1)!;
    if (values.includes(text)) return text;
    throw new UsageError(`expected ${values.join(", ")}, got ${JSON.stringify(text)}`);
  };
  return { name, value, help: `${help} One of ${values.join(", ")}.`, parse };
}

type IntegerOption = "contextLength" | "maxBatchTokens" | "maxConcurrent" | "maxQueue" | "kvTokens";

function fromRule(name: string, option: IntegerOption, help: string): Flag {
  const { min, max } = loadRules[option];
  return integerFlag(name, "N", min, max, help);
}

function parseOverrides(texts: string[]): Record<string, string> {
  return Object.fromEntries(
    texts.map((text) => {
      const at = text.indexOf("=");
      if (at > 0) return [text.slice(0, at), text.slice(at + 1)];
      throw new UsageError(`expected KEY=VALUE, got ${JSON.stringify(text)}`);
    }),
  );
}

/** A LoRA adapter that a flag names. */
export interface AdapterFlag {
  path: string;
  scale: number;
}

/** A path may hold "=" too: what comes after the last one counts as a scale where it is a number. */
function parseAdapter(text: string): AdapterFlag {
  const at = text.lastIndexOf("=");
  const number = text.slice(at + 1);
  if (at < 0 || !/^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(number)) return { path: text, scale: 1 };
  return { path: text.slice(0, at), scale: Number(number) };
}

/** How a model is loaded, and with which adapter it is used. */
export const loadFlags = {
  device: {
    name: "device",
    value: "NAME",
    help: "Where the model runs: auto, cpu, cuda, cuda:N or reference (default: auto).",
    parse: (texts) => {
      const expected = loadRules.device.problem(texts.at(-1)!);
      if (expected === undefined) return texts.at(-1)!;
      throw new UsageError(`expected ${expected}, got ${JSON.stringify(texts.at(-1))}`);
    },
  },
  threads: {
    name: "threads",
    short: "t",
    value: "N",
    help: "Compute threads, or auto (default: as many as the process may use).",
    parse: (texts) => {
      const { min, max, words } = loadRules.threads;
      return parseInteger(texts.at(-1)!, min, max, words);
    },
  },
  contextLength: fromRule(
    "context",
    "contextLength",
    "Tokens of prompt and answer (default: as trained, at most 8192).",
  ),
  kvType: choice(
    "kv-type",
    "TYPE",
    kvTypes,
    "Type of the key/value cache (default: f16; f32 on the reference device).",
  ),
  kvTypeK: choice("kv-type-k", "TYPE", kvTypes, "Type of cached keys alone."),
  kvTypeV: choice("kv-type-v", "TYPE", kvTypes, "Type of cached values alone."),
  instructionSet: {
    name: "instruction-set",
    value: "NAME",
    help: "Force the CPU kernels of one instruction set.",
  },
  noRepack: {
    name: "no-repack",
    help: "Compute from the mapped file; do not rearrange weights: 10 to 20 times slower to decode.",
  },
  lockMemory: { name: "lock-memory", help: "Keep weights from being swapped out." },
  maxBatchTokens: fromRule("max-batch-tokens", "maxBatchTokens", "Tokens of one step (default: 512)."),
  adapter: {
    name: "adapter",
    value: "PATH[=SCALE]",
    help: "Use a LoRA adapter: a GGUF file, or a folder that PEFT saved. Scale 1, as trained, by default.",
    parse: (texts) => parseAdapter(texts.at(-1)!),
  },
  overrides: {
    name: "override",
    value: "KEY=VALUE",
    repeats: true,
    help: "Replace metadata of the file.",
    parse: parseOverrides,
  },
} as const satisfies Flags;

/** What is loaded for commands that write. */
export const draftFlags = {
  draft: {
    name: "draft",
    value: "FILE",
    help: "A small model of the same vocabulary that guesses what this one writes.",
  },
} as const satisfies Flags;

/** How many requests a model serves at once. */
export const servingFlags = {
  maxConcurrent: fromRule("max-concurrent", "maxConcurrent", "Requests in the batch at once (default: 8)."),
  maxQueue: fromRule(
    "max-queue",
    "maxQueue",
    "Requests that wait for a place; one more is refused (default: 256).",
  ),
  kvTokens: fromRule(
    "kv-tokens",
    "kvTokens",
    "Tokens that the key/value cache holds (default: a context for each request at once, as memory allows).",
  ),
} as const satisfies Flags;

/** The options of `loadModel` from the flags given, without the adapter, which is loaded after the model. */
export function loadOptions(
  values: Values<typeof loadFlags & typeof draftFlags & typeof servingFlags>,
): LoadOptions {
  const { kvType, kvTypeK, kvTypeV, noRepack, draft, adapter: _, ...rest } = values;
  const kv = { k: kvTypeK ?? kvType, v: kvTypeV ?? kvType };
  const options = Object.fromEntries(
    Object.keys({ ...loadFlags, ...servingFlags }).flatMap((name) => {
      const value = (rest as Record<string, unknown>)[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );
  if (kv.k !== undefined || kv.v !== undefined) options.kvType = kv;
  if (draft !== undefined) options.draft = { file: draft };
  if (noRepack === true) options.repack = false;
  return options;
}

const maxInt = 2 ** 31 - 1;

/** What one generation may do besides drawing tokens. */
export const requestFlags = {
  maxTokens: integerFlag(
    "max-tokens",
    "N",
    completeRules.maxTokens.min,
    completeRules.maxTokens.max,
    "The most tokens to generate; 0 computes the prompt alone (default: until the context is full).",
  ),
  stop: {
    name: "stop",
    value: "TEXT",
    repeats: true,
    help: "End before this text.",
    parse: (texts) => {
      const wrong = problem(completeRules.stop, texts);
      if (wrong === undefined) return texts;
      throw new UsageError(`--stop ${wrong}`);
    },
  },
  stopTokens: {
    name: "stop-token",
    value: "ID",
    repeats: true,
    help: "A further token that ends the text.",
    parse: (texts) => texts.map((text) => parseInteger(text, 0, maxInt)),
  },
  ignoreStopTokens: { name: "ignore-stop-tokens", help: "Go on after the file's stop tokens." },
  speculation: choice(
    "speculation",
    "WAY",
    completeRules.speculation.values,
    "Guesses at the next tokens, which change the speed alone.",
  ),
} as const satisfies Flags;

const flagNames = new Map<string, string>([
  ...Object.entries({ ...loadFlags, ...servingFlags, ...requestFlags }).map(
    ([name, flag]) => [name, flag.name] as const,
  ),
  ...samplingNames.map((name) => [name, samplingFlag(name)] as const),
  ...["template", "pooling", "dimensions"].map((name) => [name, name] as const),
]);

/** What the library says of its options, said of flags. Names within paths and in quotes stay. */
export function inFlags(text: string): string {
  const flag = (name: string) => flagNames.has(name) && `--${flagNames.get(name)}`;
  return text
    .replace(/^\w+: option '(\w+)'/, (option, name: string) => flag(name) || option)
    .replace("or repack: false to", "or --no-repack to")
    .replace("set truncate: true", "give --truncate")
    .replace(/(?<![^\s(])[a-z]+[A-Z]\w*(?=[.,:;^)]*(\s|$)|\^)/g, (name) => flag(name) || name);
}

function samplingHelp(setting: SamplingSetting): string {
  const help = inFlags(setting.description);
  if (setting.kind === "bias") return help;
  if (setting.kind === "strings")
    return `${help} Default: ${setting.default.map((text) => JSON.stringify(text)).join(" ")}.`;
  const preset = setting.default === undefined ? "" : ` Default: ${setting.default}.`;
  return `${help} ${range(setting).replace(/^./, (letter) => letter.toUpperCase())}.${preset}`;
}

/** How tokens are drawn: one flag for each row of the sampling table. */
export const samplingFlags: Flags = Object.fromEntries(
  samplingNames.map((name) => {
    const setting: SamplingSetting = samplingSettings[name];
    const value = { number: "X", integer: "N", strings: "TEXT", bias: "ID=X" }[setting.kind];
    const parse = (texts: string[]) => parseSamplingFlag(name, texts);
    const repeats = setting.kind === "strings" || setting.kind === "bias";
    return [name, { name: samplingFlag(name), value, repeats, help: samplingHelp(setting), parse }];
  }),
);

/** The generation options among the flags given. */
export function generateOptions(values: Readonly<Record<string, unknown>>): GenerateOptions {
  const names = [...Object.keys(requestFlags), ...Object.keys(samplingFlags)];
  return Object.fromEntries(
    names.flatMap((name) => (values[name] === undefined ? [] : [[name, values[name]]])),
  );
}
