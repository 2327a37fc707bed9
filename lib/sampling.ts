// The sampling settings: one table with the type, range, default and meaning of each, which the library, the
// command line and the server share. The native core checks the same ranges again (native/engine/sampling_params.cpp).
import { randomInt } from "node:crypto";

import { InhouseError } from "./errors.js";
import { invalidArgument, problem, type Rule, show } from "./options.js";

/** Added to the logits of tokens, by id; `-Infinity` bans a token. */
export type LogitBias = Readonly<Record<number, number>> | ReadonlyMap<number, number>;

interface NumberSetting {
  kind: "number" | "integer";
  /** Undefined where a value is chosen at each call. */
  default: number | undefined;
  min: number;
  max: number;
  /** The GGUF key of a file's own recommendation. */
  metadataKey?: string;
  description: string;
}
interface StringsSetting {
  kind: "strings";
  default: readonly string[];
  description: string;
}
interface BiasSetting {
  kind: "bias";
  default: LogitBias;
  description: string;
}
/** One row of the table. `description` says which value switches the setting off. */
export type SamplingSetting = NumberSetting | StringsSetting | BiasSetting;

const maxInt = 2 ** 31 - 1;
const maxBias = 1e6;
const maxBreakers = 64;
const maxBreakerBytes = 1024;

/**
 * Every setting, in the order of help texts. They act in this order: logit bias; repeat, frequency and presence
 * penalty; DRY; top-n-sigma; top-k; typical; top-p; min-p; XTC; temperature; draw.
 */
export const samplingSettings = {
  temperature: {
    kind: "number",
    default: 0.8,
    min: 0,
    max: 100,
    metadataKey: "general.sampling.temp",
    description:
      "Divides the logits before the draw: lower is more predictable. 0 always takes the most probable token after " +
      "bias and penalties (of equal ones the lowest id).",
  },
  topK: {
    kind: "integer",
    default: 40,
    min: 0,
    max: maxInt,
    metadataKey: "general.sampling.top_k",
    description: "Keeps the k most probable tokens. 0: off.",
  },
  topP: {
    kind: "number",
    default: 0.95,
    min: 0,
    max: 1,
    metadataKey: "general.sampling.top_p",
    description: "Keeps the fewest most probable tokens that together have this probability. 1: off.",
  },
  minP: {
    kind: "number",
    default: 0.05,
    min: 0,
    max: 1,
    metadataKey: "general.sampling.min_p",
    description: "Keeps tokens at least this many times as probable as the most probable one. 0: off.",
  },
  typicalP: {
    kind: "number",
    default: 1,
    min: 0,
    max: 1,
    description:
      "Keeps the tokens whose information is nearest to the distribution's entropy, until they together have this " +
      "probability. 1: off.",
  },
  topNSigma: {
    kind: "number",
    default: 0,
    min: 0,
    max: 100,
    description: "Keeps tokens within this many standard deviations of the highest logit. 0: off.",
  },
  repeatPenalty: {
    kind: "number",
    default: 1,
    min: 0.01,
    max: 100,
    metadataKey: "general.sampling.penalty_repeat",
    description:
      "Divides positive and multiplies negative logits of tokens that occurred within penaltyLastN. 1: off.",
  },
  frequencyPenalty: {
    kind: "number",
    default: 0,
    min: -100,
    max: 100,
    description: "Subtracted from a token's logit for each time it occurred within penaltyLastN. 0: off.",
  },
  presencePenalty: {
    kind: "number",
    default: 0,
    min: -100,
    max: 100,
    description: "Subtracted from the logits of tokens that occurred within penaltyLastN. 0: off.",
  },
  penaltyLastN: {
    kind: "integer",
    default: 64,
    min: -1,
    max: maxInt,
    metadataKey: "general.sampling.penalty_last_n",
    description: "How many tokens of prompt and answer the penalties look back on. -1: all.",
  },
  dryMultiplier: {
    kind: "number",
    default: 0,
    min: 0,
    max: 100,
    description:
      "DRY: a token that would lengthen a repetition loses dryMultiplier * dryBase^(length - dryAllowedLength). " +
      "0: off.",
  },
  dryBase: {
    kind: "number",
    default: 1.75,
    min: 1,
    max: 100,
    description: "DRY: growth of the penalty per token.",
  },
  dryAllowedLength: {
    kind: "integer",
    default: 2,
    min: 1,
    max: maxInt,
    description: "DRY: the length in tokens from which a repetition is penalized.",
  },
  dryPenaltyLastN: {
    kind: "integer",
    default: -1,
    min: -1,
    max: maxInt,
    description: "DRY: how many tokens of prompt and answer are searched for repetitions. -1: all.",
  },
  dryBreakers: {
    kind: "strings",
    default: ["\n", ":", '"', "*"],
    description: "DRY: texts across which nothing counts as a repetition.",
  },
  xtcProbability: {
    kind: "number",
    default: 0,
    min: 0,
    max: 1,
    metadataKey: "general.sampling.xtc_probability",
    description:
      "XTC: how often the most probable tokens are removed, all but one of those above xtcThreshold. 0: off.",
  },
  xtcThreshold: {
    kind: "number",
    default: 0.1,
    min: 0,
    max: 1,
    metadataKey: "general.sampling.xtc_threshold",
    description: "XTC: the probability from which tokens can be removed; above 0.5 none are.",
  },
  seed: {
    kind: "integer",
    default: undefined,
    min: 0,
    max: Number.MAX_SAFE_INTEGER,
    description: "The same seed, prompt and settings give the same text. Default: a new one for each call.",
  },
  logitBias: {
    kind: "bias",
    default: {},
    description:
      "Added to the logits of tokens, by token id: -1e6 to 1e6, or -Infinity, which bans the token.",
  },
} as const satisfies Record<string, SamplingSetting>;

/** The name of a setting, as it is written in options. */
export type SamplingName = keyof typeof samplingSettings;

/** All names, in the table's order. */
export const samplingNames = Object.keys(samplingSettings) as readonly SamplingName[];

type ValueOf<S> = S extends { kind: "number" | "integer" }
  ? number
  : S extends { kind: "strings" }
    ? readonly string[]
    : LogitBias;

/** The sampling settings of one generation, each optional; `samplingSettings` holds ranges, defaults and meaning. */
export type SamplingOptions = {
  -readonly [Name in SamplingName]?: ValueOf<(typeof samplingSettings)[Name]> | undefined;
};

/** All settings with their values, as the native core takes them. */
export type ResolvedSampling = Record<Exclude<SamplingName, "dryBreakers" | "logitBias">, number> & {
  dryBreakers: readonly string[];
  /** [token id, bias] */
  logitBias: readonly (readonly [number, number])[];
};

function breakersProblem(value: unknown): string | undefined {
  const fits =
    Array.isArray(value) &&
    value.length <= maxBreakers &&
    value.every(
      (text) => typeof text === "string" && text !== "" && Buffer.byteLength(text) <= maxBreakerBytes,
    );
  return fits
    ? undefined
    : `an array of at most ${maxBreakers} strings, each of 1 to ${maxBreakerBytes} bytes`;
}

function biasEntries(value: object): [unknown, unknown][] {
  const entries = value instanceof Map ? [...(value as Map<unknown, unknown>)] : Object.entries(value);
  return entries.map(([key, bias]) => [
    typeof key === "string" && /^(0|[1-9]\d*)$/.test(key) ? Number(key) : key,
    bias,
  ]);
}

function biasProblem(value: unknown): string | undefined {
  const expected = "an object or a Map from token id to -Infinity or a number from -1e6 to 1e6";
  if (typeof value !== "object" || value === null || Array.isArray(value)) return expected;
  for (const [token, bias] of biasEntries(value)) {
    if (typeof token !== "number" || !Number.isInteger(token) || token < 0 || token > maxInt) {
      return `${expected}; the key ${show(token)} is no token id`;
    }
    if (typeof bias !== "number" || !(bias === -Infinity || Math.abs(bias) <= maxBias)) {
      return `${expected}; that of token ${token} is ${show(bias)}`;
    }
  }
  return undefined;
}

function ruleOf(setting: SamplingSetting): Rule {
  if (setting.kind === "strings") return { kind: "other", problem: breakersProblem };
  if (setting.kind === "bias") return { kind: "other", problem: biasProblem };
  return setting;
}

/** What each setting may be, for readOptions. */
export const samplingRules = Object.fromEntries(
  samplingNames.map((name) => [name, ruleOf(samplingSettings[name])]),
) as Readonly<Record<SamplingName, Rule>>;

/** What other programs call some of the settings, for readOptions. */
export const samplingAliases: Readonly<Record<string, SamplingName>> = {
  temp: "temperature",
  t: "temperature",
  k: "topK",
  p: "topP",
  typical: "typicalP",
  nsigma: "topNSigma",
  repetitionpenalty: "repeatPenalty",
  penaltyrepeat: "repeatPenalty",
  penaltyfreq: "frequencyPenalty",
  penaltypresent: "presencePenalty",
  repeatlastn: "penaltyLastN",
  drysequencebreakers: "dryBreakers",
  randomseed: "seed",
  logitbiases: "logitBias",
};

/**
 * Checks the sampling settings among `options` and fills in the others: from `fileDefaults` (see
 * samplingFromMetadata), else the table's defaults. Other options are left to the caller. A missing seed is drawn at
 * random.
 *
 * Throws ERR_INHOUSE_INVALID_ARGUMENT.
 */
export function resolveSampling(
  options: SamplingOptions = {},
  fileDefaults: SamplingOptions = {},
): ResolvedSampling {
  const resolved: Record<string, unknown> = {};
  for (const name of samplingNames) {
    const given: unknown = options[name];
    const value: unknown = given === undefined ? fileDefaults[name] : given;
    resolved[name] = value === undefined ? defaultOf(samplingSettings[name]) : checkValue(name, value);
  }
  return resolved as ResolvedSampling;
}

function defaultOf(setting: SamplingSetting): unknown {
  if (setting.kind === "bias") return [];
  return setting.default ?? randomInt(2 ** 32);
}

function checkValue(name: SamplingName, value: unknown): unknown {
  const wrong = problem(samplingRules[name], value);
  if (wrong !== undefined) throw invalidArgument(`option '${name}' ${wrong}`);
  const { kind } = samplingSettings[name];
  if (kind === "strings") return [...(value as string[])];
  return kind === "bias" ? biasEntries(value as object) : value;
}

/** The shortest decimal that is the same float32: a file's 0.949999988 was written as 0.95. */
function tidy(value: number): number {
  if (Math.fround(value) !== value) return value;
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(value.toPrecision(digits));
    if (Math.fround(short) === value) return short;
  }
  return value;
}

/**
 * The settings that a file recommends (`general.sampling.*`), for the second argument of resolveSampling. The keys
 * for an order of samplers and for Mirostat have no counterpart here and are passed over.
 *
 * Throws ERR_INHOUSE_GGUF_INVALID for values of wrong type or range; metadata overrides can replace them.
 */
export function samplingFromMetadata(
  metadata: ReadonlyMap<string, { readonly value: unknown }>,
): SamplingOptions {
  const options: SamplingOptions = {};
  for (const name of samplingNames) {
    const setting: SamplingSetting = samplingSettings[name];
    if (!("metadataKey" in setting) || setting.metadataKey === undefined) continue;
    const entry = metadata.get(setting.metadataKey);
    if (entry === undefined) continue;
    let value = typeof entry.value === "bigint" ? Number(entry.value) : entry.value;
    if (name === "topK" && typeof value === "number" && value < 0) value = 0; // both mean the whole vocabulary
    if (typeof value === "number") value = tidy(value);
    const wrong = problem(setting, value);
    if (wrong !== undefined)
      throw new InhouseError("ERR_INHOUSE_GGUF_INVALID", `${setting.metadataKey} ${wrong}`);
    (options as Record<string, unknown>)[name] = value;
  }
  return options;
}

/** The command-line flag of a setting, without dashes in front: `topNSigma` is `top-n-sigma`. */
export function samplingFlag(name: SamplingName): string {
  return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/**
 * The value of a setting from the texts given to its flag: one number; any number of strings; or token=bias pairs
 * (`--logit-bias 42=-inf`). Of a repeated number the last counts. Throws ERR_INHOUSE_INVALID_ARGUMENT naming the flag.
 */
export function parseSamplingFlag<Name extends SamplingName>(
  name: Name,
  texts: readonly string[],
): NonNullable<SamplingOptions[Name]> {
  const setting: SamplingSetting = samplingSettings[name];
  const parsed: unknown =
    setting.kind === "strings"
      ? [...texts]
      : setting.kind === "bias"
        ? new Map(texts.map((text) => parseBias(name, text)))
        : parseNumber(texts.at(-1) ?? "");
  const wrong = problem(samplingRules[name], parsed);
  if (wrong !== undefined) throw invalidArgument(`--${samplingFlag(name)} ${wrong}`);
  return parsed as NonNullable<SamplingOptions[Name]>;
}

// Decimal numbers alone: Number() would also take "", "0x10" and " 1 ". Others stay text, for the message.
function parseNumber(text: string): number | string {
  if (/^[+-]?inf(inity)?$/i.test(text)) return text.startsWith("-") ? -Infinity : Infinity;
  return /^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$/i.test(text) ? Number(text) : text;
}

function parseBias(name: SamplingName, text: string): [number, number] {
  const [, token, bias] = /^(\d+)=(.+)$/.exec(text) ?? [];
  const value = bias === undefined ? undefined : parseNumber(bias);
  if (token === undefined || typeof value !== "number") {
    throw invalidArgument(
      `--${samplingFlag(name)} is ${show(text)}; expected TOKEN=BIAS with a token id and a number or -inf`,
    );
  }
  return [Number(token), value];
}
