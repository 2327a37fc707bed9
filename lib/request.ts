// The options of one generation: their table, and their translation for the native core.
import type { NativeSampling, NativeSpec } from "./native.js";
import { checkOptions, invalidArgument, type Rules, show } from "./options.js";
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

function tokensProblem(value: unknown): string | undefined {
  const expected = "an array of token ids (whole numbers from 0)";
  if (!Array.isArray(value)) return expected;
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
  stopTokens: { kind: "other", problem: tokensProblem },
  ignoreStopTokens: { kind: "boolean" },
  logprobs: { kind: "other", problem: logprobsProblem },
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
  /** A text's own tokens. */
  encode(text: string): Int32Array;
}

/** Checks all options of `call`. Throws ERR_INHOUSE_INVALID_ARGUMENT. */
export function resolveRequest(
  call: string,
  options: GenerateOptions,
  rules: Rules,
  defaults: RequestDefaults,
): { spec: GenerateSpec; seed: number } {
  checkOptions(call, options, rules, samplingAliases);
  const sampling = resolveSampling(options, defaults.sampling);
  const { stop = [], stopTokens = [], logprobs = false } = options;
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
    seed: sampling.seed,
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
