// The options of one generation: their table, and their translation for the native core.
import { adapterRule, type AdapterUse, adapterUse } from "./adapter.js";
import type { NativeSampling, NativeSpec } from "./native.js";
import { invalidArgument, readOptions, type Rules, show } from "./options.js";
import {
  resolveSampling,
  type ResolvedSampling,
  samplingAliases,
  type SamplingOptions,
  samplingRules,
} from "./sampling.js";
import type { PromptOptions, RequestOptions, TemplateOptions } from "./types.js";

/** Settings of one generation. */
export type GenerateOptions = RequestOptions & SamplingOptions;
/** Settings of `complete`. */
export type CompleteOptions = GenerateOptions & PromptOptions;
/** Settings of `chat`. */
export type ChatOptions = GenerateOptions & TemplateOptions;

const maxInt = 2 ** 31 - 1;
const maxStops = 64;
const maxStopTokens = 65_536;
const maxStopBytes = 1024;
const maxAlternatives = 100;

function stopProblem(value: unknown): string | undefined {
  const list: unknown[] = typeof value === "string" ? [value] : Array.isArray(value) ? value : [0];
  const fits = list.every(
    (text) => typeof text === "string" && text !== "" && Buffer.byteLength(text) <= maxStopBytes,
  );
  return fits && list.length <= maxStops
    ? undefined
    : `a string or at most ${maxStops} of them, each of 1 to ${maxStopBytes} bytes`;
}

/** An array of what a list or an iterable holds, up to one too many; what is neither stays as it is. */
function toArray(value: unknown): unknown {
  if (typeof value !== "object" || value === null) return value;
  if (Symbol.iterator in value) {
    const list: unknown[] = [];
    for (const item of value as Iterable<unknown>) if (list.push(item) > maxStopTokens) break;
    return list;
  }
  const { length } = value as ArrayLike<unknown>;
  if (!Number.isInteger(length) || length < 0) return value;
  return Array.from(
    { length: Math.min(length, maxStopTokens + 1) },
    (_, i) => (value as ArrayLike<unknown>)[i],
  );
}

function tokensProblem(value: unknown): string | undefined {
  const expected = "a list of token ids (whole numbers from 0)";
  if (!Array.isArray(value)) return expected;
  if (value.length > maxStopTokens) return `at most ${maxStopTokens} token ids`;
  const wrong = value.findIndex((id) => !Number.isInteger(id) || id < 0 || id > maxInt);
  return wrong < 0 ? undefined : `${expected}; entry ${wrong} is ${show(value[wrong])}`;
}

function logprobsProblem(value: unknown): string | undefined {
  if (typeof value === "boolean") return undefined;
  const fits = Number.isInteger(value) && (value as number) >= 0 && (value as number) <= maxAlternatives;
  return fits ? undefined : `true, false or a whole number from 0 to ${maxAlternatives}`;
}

const requestRules = {
  maxTokens: { kind: "integer", min: 0, max: maxInt },
  stop: { kind: "other", problem: stopProblem },
  stopTokens: { kind: "other", read: toArray, problem: tokensProblem },
  ignoreStopTokens: { kind: "boolean" },
  logprobs: { kind: "other", problem: logprobsProblem },
  adapter: adapterRule,
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof RequestOptions, unknown>;

export const completeRules = {
  ...samplingRules,
  ...requestRules,
  addSpecialTokens: { kind: "boolean" },
  parseSpecialTokens: { kind: "boolean" },
} as const satisfies Rules & Record<keyof PromptOptions, unknown>;

function variablesProblem(value: unknown): string | undefined {
  return typeof value === "object" && value !== null && !Array.isArray(value) ? undefined : "an object";
}

function templateProblem(value: unknown): string | undefined {
  return typeof value === "string" && value.trim() !== "" ? undefined : "a Jinja template that is not empty";
}

export const chatRules = {
  ...samplingRules,
  ...requestRules,
  template: { kind: "other", problem: templateProblem },
  templateVariables: { kind: "other", problem: variablesProblem },
  tools: { kind: "other", problem: (value: unknown) => (Array.isArray(value) ? undefined : "an array") },
  addGenerationPrompt: { kind: "boolean" },
} as const satisfies Rules & Record<keyof TemplateOptions, unknown>;

export type GenerateSpec = Extract<NativeSpec, { evaluate: false }>;

/** What a model brings to every request. */
export interface RequestDefaults {
  sampling: SamplingOptions;
  stopTokens: Int32Array;
  vocabularySize: number;
  /** Whose adapters can be used. */
  adapterOwner: object;
  /** A text's own tokens. */
  encode(text: string): Int32Array;
}

/** Reads and checks all options of `call`; `options` are what was read. Throws ERR_INHOUSE_INVALID_ARGUMENT. */
export function resolveRequest<Options extends GenerateOptions>(
  call: string,
  given: Options,
  rules: Rules,
  defaults: RequestDefaults,
): { options: Options; spec: GenerateSpec; seed: number; adapter: AdapterUse | undefined } {
  const options = readOptions(call, given, rules, samplingAliases);
  const sampling = resolveSampling(options, defaults.sampling);
  const { stop = [], logprobs = false } = options;
  const stopTokens = (options.stopTokens ?? []) as readonly number[]; // by `toArray`
  const biased = sampling.logitBias.map(([token]) => token);
  for (const [name, ids] of Object.entries({ stopTokens, logitBias: biased })) {
    const outside = ids.find((id) => id >= defaults.vocabularySize);
    if (outside === undefined) continue;
    throw invalidArgument(
      `${call}: option '${name}' has ${outside}; expected token ids below ${defaults.vocabularySize}`,
    );
  }
  const fromFile = options.ignoreStopTokens ? [] : defaults.stopTokens;
  return {
    options,
    seed: sampling.seed,
    adapter: adapterUse(call, options.adapter, defaults.adapterOwner),
    spec: {
      evaluate: false,
      evaluateRows: false,
      sampling: nativeSampling(sampling, defaults),
      maxTokens: options.maxTokens ?? -1,
      stop: typeof stop === "string" ? [stop] : [...stop],
      stopTokens: Int32Array.from([...fromFile, ...stopTokens]),
      topLogprobs: logprobs === false ? -1 : logprobs === true ? 0 : logprobs,
    },
  };
}

function nativeSampling(sampling: ResolvedSampling, defaults: RequestDefaults): NativeSampling {
  const { seed, logitBias, ...others } = sampling;
  const dryBreakers = sampling.dryMultiplier === 0 ? [] : sampling.dryBreakers;
  return {
    ...others,
    seed: BigInt(seed),
    dryBreakers,
    dryBreakerTokens: dryBreakers.map((text) => defaults.encode(text)).filter(({ length }) => length > 1),
    logitBiasTokens: Int32Array.from(logitBias, ([token]) => token),
    logitBiases: logitBias.map(([, bias]) => bias),
  };
}
