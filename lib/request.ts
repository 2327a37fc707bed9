// The options of one generation: their table, and their translation for the native core.
import { adapterRule, type AdapterUse, adapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import type { NativeGeneration, NativeOrder, NativeSampling } from "./native.js";
import { invalidArgument, readOptions, type Rules, show } from "./options.js";
import {
  resolveSampling,
  type ResolvedSampling,
  samplingAliases,
  type SamplingOptions,
  samplingRules,
} from "./sampling.js";
import { timeLeft } from "./time-limit.js";
import type { OrderOptions, PromptOptions, RequestOptions, TemplateOptions } from "./types.js";

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

/** Every value of the option `speculation`. */
export const speculations = ["auto", "off", "lookup", "draft"] as const;

const maxTimeoutMs = 1e9;

export const orderRules = {
  priority: { kind: "integer", min: -1_000_000, max: 1_000_000 },
  queueTimeoutMs: { kind: "number", min: 0, max: maxTimeoutMs },
  timeoutMs: { kind: "number", min: 0, max: maxTimeoutMs },
  cacheScope: { kind: "string" },
  cachePrompt: { kind: "boolean" },
} as const satisfies Rules & Record<keyof OrderOptions, unknown>;

/**
 * The options as the engine takes them, with what is left of the time since the call. A time of 0 is over at once, where
 * 0 means none to the engine.
 */
export function nativeOrder(options: OrderOptions, site: CallSite): NativeOrder {
  const milliseconds = (value: number | undefined): number =>
    value === undefined ? 0 : Math.max(value, 1e-3);
  return {
    priority: options.priority ?? 0,
    queueTimeoutMs: milliseconds(options.queueTimeoutMs),
    timeoutMs: milliseconds(timeLeft(options.timeoutMs, site)),
    cacheScope: options.cacheScope ?? "",
    sharePrefix: options.cachePrompt ?? true,
  };
}

const requestRules = {
  ...orderRules,
  maxTokens: { kind: "integer", min: 0, max: maxInt },
  minTokens: { kind: "integer", min: 0, max: maxInt },
  bannedTokens: { kind: "other", read: toArray, problem: tokensProblem },
  forcedTokens: { kind: "other", read: toArray, problem: tokensProblem },
  logitsProcessor: { kind: "function" },
  promptLogprobs: { kind: "boolean" },
  overflow: { kind: "choice", values: ["error", "shift"] },
  n: { kind: "integer", min: 1, max: 1024 },
  speculation: { kind: "choice", values: speculations },
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

/** Without what stands only when the engine gets it. */
export type GenerateSpec = Omit<NativeGeneration, keyof NativeOrder>;

/** What a model brings to every request. */
export interface RequestDefaults {
  sampling: SamplingOptions;
  stopTokens: Int32Array;
  vocabularySize: number;
  /** Whose adapters can be used. */
  adapterOwner: object;
  /** Was a draft model loaded along? */
  hasDraft: boolean;
  /** A text's own tokens. */
  encode(text: string): Int32Array;
}

/** A request whose options have been read. */
export interface ResolvedRequest<Options> {
  options: Options;
  spec: GenerateSpec;
  seed: number;
  adapter: AdapterUse | undefined;
}

/** Reads and checks all options of `call`; `options` are what was read. Throws ERR_INHOUSE_INVALID_ARGUMENT. */
export function resolveRequest<Options extends GenerateOptions>(
  call: string,
  given: Options,
  rules: Rules,
  defaults: RequestDefaults,
): ResolvedRequest<Options> {
  const options = readOptions(call, given, rules, samplingAliases);
  const sampling = resolveSampling(options, defaults.sampling);
  const { stop = [], logprobs = false } = options;
  const [stopTokens, bannedTokens, forcedTokens] = [
    options.stopTokens,
    options.bannedTokens,
    options.forcedTokens,
  ].map((ids) => (ids ?? []) as readonly number[]) as [
    readonly number[],
    readonly number[],
    readonly number[],
  ]; // by `toArray`
  if (options.speculation === "draft" && !defaults.hasDraft) {
    throw invalidArgument(
      `${call}: option 'speculation' is "draft"; expected another, as no draft model was loaded along`,
    );
  }
  const { maxTokens = -1, minTokens = 0 } = options;
  if (maxTokens >= 0 && minTokens > maxTokens) {
    throw invalidArgument(
      `${call}: option 'minTokens' is ${minTokens}; expected at most maxTokens, which is ${maxTokens}`,
    );
  }
  const biased = sampling.logitBias.map(([token]) => token);
  for (const [name, ids] of Object.entries({ stopTokens, bannedTokens, forcedTokens, logitBias: biased })) {
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
      logitsFrom: 0,
      sampling: nativeSampling(sampling, bannedTokens, defaults),
      maxTokens,
      minTokens,
      forcedTokens: Int32Array.from(forcedTokens),
      promptLogprobs: options.promptLogprobs ?? false,
      processLogits: options.logitsProcessor !== undefined,
      shiftKeep: -1,
      speculation: options.speculation ?? "auto",
      stop: typeof stop === "string" ? [stop] : [...stop],
      stopTokens: Int32Array.from([...fromFile, ...stopTokens]),
      topLogprobs: logprobs === false ? -1 : logprobs === true ? 0 : logprobs,
    },
  };
}

function nativeSampling(
  sampling: ResolvedSampling,
  banned: readonly number[],
  defaults: RequestDefaults,
): NativeSampling {
  const { seed, ...others } = sampling;
  const logitBias = [...sampling.logitBias, ...banned.map((token) => [token, -Infinity] as const)];
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
