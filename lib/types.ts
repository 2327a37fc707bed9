/// <reference lib="esnext.disposable" />
// The public types of loading, generating and evaluating. Every number's unit and range is given here; values are
// checked when a call is made and refused with ERR_INHOUSE_INVALID_ARGUMENT.

import type { kvTypes } from "./load-options.js";
import type { speculations } from "./request.js";

/**
 * Where a model runs. `"cuda"` is the first NVIDIA GPU, `"cuda:1"` the second and so on; `"auto"` takes a GPU where the
 * CUDA part is installed, there is one and the model fits, else the CPU; `"reference"` is plain float32 C++, for checks.
 */
export type Device = "auto" | "cpu" | "cuda" | `cuda:${number}` | "reference";

/** The number type of cached keys and values. */
export type KvType = (typeof kvTypes)[number];

/** How the hidden states of a text's tokens become one vector: their mean, the first token's, the last one's. */
export type Pooling = "mean" | "cls" | "last";

/** How far a load is, in bytes of the file. `loaded` never falls; the last call has `loaded === total`. */
export interface LoadProgress {
  loaded: number;
  total: number;
}

/** A metadata value that can replace one of the file's. */
export type OverrideValue = string | number | boolean;

/** Options of `loadModel`. */
export interface LoadOptions {
  /**
   * Tokens of prompt and answer of one request, 1 … 1,048,576. Default: the trained context, at most 8,192 and
   * `kvTokens`.
   */
  contextLength?: number | undefined;
  /** Default `"auto"`. */
  device?: Device | undefined;
  /** Forces the CPU kernels of one instruction set, for example `"avx2"`. Default: the best present. Not with "reference". */
  instructionSet?: string | undefined;
  /** Compute threads, 1 … 512. Default `"auto"`: as many as the process may use. */
  threads?: number | "auto" | undefined;
  /** Rearrange weights for speed at load (default true); false computes from the mapped file. */
  repack?: boolean | undefined;
  /** Keep the weights from being swapped out (default false). */
  lockMemory?: boolean | undefined;
  /** Metadata of the file to replace or add. An existing key keeps its type. */
  overrides?: Readonly<Record<string, OverrideValue>> | undefined;
  /** Types of the key/value cache, for both or one by one. Default `"f16"`, on the reference device `"f32"`. */
  kvType?: KvType | { k?: KvType | undefined; v?: KvType | undefined } | undefined;
  /** Generations that compute at once, 1 … 1,024; further ones wait. Default 8, or `maxBatchTokens` if less. */
  maxConcurrent?: number | undefined;
  /**
   * Generations beyond `maxConcurrent` that may wait, 0 … 1,000,000; one more is refused with ERR_INHOUSE_QUEUE_FULL.
   * Default 256. Those whose readers are slow do not count, up to 16,384 of them.
   */
  maxQueue?: number | undefined;
  /** Tokens in one step, 1 … 65,536, at least `maxConcurrent`. Default 512, or `maxConcurrent` if more. */
  maxBatchTokens?: number | undefined;
  /**
   * How many times longer a step may take for prompts beside generations that are writing, 1 … 1,000. Higher values
   * favour prompts, lower ones the pace of what is being written; 1,000 is without limit. Default 2.
   */
  maxSlowdown?: number | undefined;
  /**
   * Tokens that the key/value cache holds for all generations together and for prefixes that are kept, 32 … 2^31 - 1, at
   * least `contextLength`. Default: `maxConcurrent` contexts, or as many tokens as half of the free memory holds.
   */
  kvTokens?: number | undefined;
  /** The same in bytes; one of the two. */
  kvMemory?: number | undefined;
  /**
   * A small model of the same vocabulary that guesses what this one writes (see `speculation`): its file, and how many
   * tokens ahead it guesses at most, 1 … 23 (default 8). It runs on the same device and threads.
   */
  draft?: { file: string | URL; tokens?: number | undefined } | undefined;
  /** Aborts the load, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
  /**
   * Called while weights are read; the load resolves after what it returned has, so a promise that never settles keeps
   * it from ending (an aborted `signal` still does). If it throws or rejects, the load stops and rejects with that.
   */
  onProgress?: ((progress: LoadProgress) => unknown) | undefined;
}

/** What a loaded model is and what it uses; frozen. Memory is in bytes. */
export interface ModelInfo {
  /** The file's path, absolute. */
  readonly path: string;
  /** Size of the file, all parts of a split one together, in bytes. */
  readonly fileBytes: number;
  readonly architecture: string;
  /** `general.name`, where the file has one. */
  readonly name: string | undefined;
  /** Number of weights. */
  readonly parameters: number;
  /** The type most weights have, or the file's own label, for example `"Q4_K_M"`. */
  readonly quantization: string;
  /** `general.license`, where the file has one. */
  readonly licence: string | undefined;
  /** Tokens of prompt and answer that one generation may have. */
  readonly contextLength: number;
  /** Tokens of context the model was trained with. */
  readonly trainedContextLength: number;
  readonly vocabularySize: number;
  readonly layers: number;
  /** Numbers of a vector that `embed` gives. */
  readonly embeddingLength: number;
  /** How `embed` pools by default: as the file says, else `"mean"`. A reranker's `"rank"` gives no vectors. */
  readonly pooling: Pooling | "rank";
  /** Does the file carry a chat template (without one, `chat` throws ERR_INHOUSE_TEMPLATE_MISSING)? */
  readonly hasChatTemplate: boolean;
  /** `"cpu"`, `"cuda"` or `"reference"`. */
  readonly device: string;
  /** For people: `"cpu (AVX-512 VNNI), 2 threads"`. */
  readonly deviceDescription: string;
  /** Why `device: "auto"` took the CPU though the CUDA part is installed; else undefined. */
  readonly deviceFallback: string | undefined;
  readonly kvType: { readonly k: KvType; readonly v: KvType };
  readonly maxConcurrent: number;
  readonly maxQueue: number;
  readonly maxBatchTokens: number;
  /** The draft model's path, where there is one. `memory` counts it. */
  readonly draft: string | undefined;
  /** Tokens that the key/value cache holds for all generations together. */
  readonly kvTokens: number;
  readonly memory: {
    /** Held by weights; models of the same file in one process share it. */
    readonly weights: number;
    /** Reserved for the key/value cache; pages count as used when tokens arrive. */
    readonly kv: number;
    readonly activations: number;
  };
}

/** A LoRA adapter, loaded by `Model.loadAdapter`; frozen. */
export interface Adapter extends Disposable {
  /** The one given, or the file's or folder's. */
  readonly name: string;
  /** The largest of its matrices' ranks. */
  readonly rank: number;
  /** Memory of its matrices. */
  readonly bytes: number;
  /** Unloads it. Requests that use it keep it until they end. May be called again. */
  dispose(this: void): void;
}

/** Options of `loadAdapter`. */
export interface AdapterOptions {
  /** For people; default: the name of the file or folder. */
  name?: string | undefined;
  /** Aborts the load, which then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** An adapter and how much of it is added: 1 is as trained, 0 nothing; any finite number. */
export interface ScaledAdapter {
  adapter: Adapter;
  scale?: number | undefined;
}

/** One message of a conversation. Fields beyond these reach the chat template as they are; they must be plain data. */
export interface ChatMessage {
  role: string;
  /** Null beside a list of `tool_calls` alone, for templates that know it; others want "". */
  content: string | null;
  [field: string]: unknown;
}

/** How a request stands among others of the same model. */
export interface OrderOptions {
  /** Higher ones go first, whole numbers from -1,000,000 to 1,000,000. Default 0. */
  priority?: number | undefined;
  /** Milliseconds it may wait for its first step, once it is encoded; then ERR_INHOUSE_TIMEOUT. Default: none. */
  queueTimeoutMs?: number | undefined;
  /** Milliseconds from the call to its end, encoding included; then ERR_INHOUSE_TIMEOUT. Default: none. */
  timeoutMs?: number | undefined;
  /**
   * Computed prefixes are shared among requests of the same scope alone, so that one tenant cannot find out another's
   * prompts by timing. Default: the scope "".
   */
  cacheScope?: string | undefined;
  /** false: share computed prefixes with no other request. Default true. */
  cachePrompt?: boolean | undefined;
}

/** Where guesses at a generation's next tokens come from. */
export type Speculation = (typeof speculations)[number];

/** Changes the logits of the next token: in place, or by returning others. May return a promise. */
export type LogitsProcessor = (
  /** A copy, one logit per token. */
  logits: Float32Array,
  /** The tokens drawn so far; not to be changed. */
  tokens: readonly number[],
) => Float32Array | void | Promise<Float32Array | void>;

/** Options of one generation besides its sampling settings (see lib/sampling.ts). */
export interface RequestOptions extends OrderOptions {
  /** The most tokens to generate, 0 … 2^31 - 1 (0 only computes the prompt). Default: until the context is full. */
  maxTokens?: number | undefined;
  /** Tokens before which no stop token is drawn, at most `maxTokens`. Default 0. */
  minTokens?: number | undefined;
  /** Token ids that are never drawn; the same as a `logitBias` of -Infinity. */
  bannedTokens?: Iterable<number> | ArrayLike<number> | undefined;
  /** Token ids that the answer begins with. */
  forcedTokens?: Iterable<number> | ArrayLike<number> | undefined;
  /**
   * Called before each draw; this generation waits for what it returns, others go on. What it throws or rejects with
   * ends the generation. `logprobs` then are those of the changed logits.
   */
  logitsProcessor?: LogitsProcessor | undefined;
  /** Log-probabilities of the prompt's tokens, in the result (default false). The prompt is computed as a whole then. */
  promptLogprobs?: boolean | undefined;
  /**
   * Where the context does not hold the prompt, or the answer fills it: `"error"` refuses the prompt and ends the answer
   * (`finishReason: "length"`); `"shift"` drops the oldest turns, of a text the oldest tokens, keeps the system prompt
   * and goes on; the result tells. Default `"error"`.
   */
  overflow?: "error" | "shift" | undefined;
  /**
   * As many generations of one prompt, 1 … 1,024, with the seeds `seed`, `seed + 1`, …; the call then gives a list. The
   * queue takes all of them or none; more than `maxConcurrent + maxQueue` are refused at the call.
   */
  n?: number | undefined;
  /** Strings that end the text before them: at most 64, each of 1 to 1,024 bytes. */
  stop?: string | readonly string[] | undefined;
  /** Further token ids that end the text, besides the file's own. */
  stopTokens?: Iterable<number> | ArrayLike<number> | undefined;
  /** Do not end at the file's stop tokens (default false). */
  ignoreStopTokens?: boolean | undefined;
  /** Log-probabilities: true or 0 for each drawn token's, n ≤ 100 for the n best alternatives too. */
  logprobs?: boolean | number | undefined;
  /** A LoRA adapter of this model to answer with. Default: none. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /**
   * Guesses at the next tokens, several of which one step then computes: `"lookup"` guesses that the text goes on as it
   * did where its last tokens stood before, `"draft"` asks the draft model that was loaded along. The answer is the
   * same to the bit, it only comes sooner; where guesses do not pay, none are made. Default `"auto"`: whichever of
   * them promises more.
   */
  speculation?: Speculation | undefined;
  /** Aborts: iteration and `result()` then reject with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** Options of `complete` for a text prompt; a list of token ids is taken as it is. */
export interface PromptOptions {
  /** Begin with the token that begins a text, BOS. Default: what the file says. */
  addSpecialTokens?: boolean | undefined;
  /** Read names of control tokens in the prompt, such as `<|im_end|>`, as these tokens (default false). */
  parseSpecialTokens?: boolean | undefined;
}

/** Options of `chat`. */
export interface TemplateOptions {
  /** A Jinja template to use in place of the file's. */
  template?: string | undefined;
  /** Further variables for the template. */
  templateVariables?: Readonly<Record<string, unknown>> | undefined;
  /** Tool definitions, for templates that write them out. */
  tools?: readonly unknown[] | undefined;
  /** End the prompt with the opening of an assistant's message (default true). */
  addGenerationPrompt?: boolean | undefined;
}

/**
 * The natural logarithm of a token's probability, in the model's own distribution; with a `logitsProcessor`, in the one
 * that it left.
 */
export interface TokenLogprob {
  token: number;
  logprob: number;
}

/** A drawn token's log-probability and, best first, the best alternatives asked for. */
export interface SampledLogprob extends TokenLogprob {
  top: TokenLogprob[];
}

/** A piece of a generation's text. `tokens` are those drawn since the last delta; `text` never splits a character. */
export interface TextDelta {
  type: "text";
  text: string;
  tokens: number[];
  logprobs?: SampledLogprob[];
}

/** What a generation yields. Further types may come; skip those not known. */
export type Delta = TextDelta;

/** `"stop"`: a stop token or string; `"length"`: maxTokens or the context's end; `"cancelled"`: by the reader. */
export type FinishReason = "stop" | "length" | "cancelled";

/** Tokens of a request, however far it came. */
export interface Usage {
  /** Of the whole prompt; 0 where the generation ended before its prompt was encoded. */
  promptTokens: number;
  /** Of them, those that were computed before, for this or another request, and came from the cache. */
  cachedTokens: number;
  /** Drawn, without a stop token at the end. */
  completionTokens: number;
}

/**
 * Milliseconds, and tokens per second of the phase (0 where it did not happen). A phase that was cut short ends with
 * the generation, and its speed is that of the tokens computed.
 */
export interface Timings {
  /** From the call to the first step that carries the request, tokenizing included. */
  queueMs: number;
  /** From then to the first token. */
  promptMs: number;
  /** From the first token to the last. */
  decodeMs: number;
  /** Of the prompt's tokens that were computed. */
  promptTokensPerSecond: number;
  /** Of the tokens after the first. */
  decodeTokensPerSecond: number;
  /** From the call to the first token's arrival in JavaScript; 0 without any. */
  timeToFirstTokenMs: number;
  /** Tokens that were guessed (see `speculation`), and of them those that were drawn; each of these spared a step. */
  draftTokens: number;
  acceptedDraftTokens: number;
}

/** All of a generation, once it has ended. */
export interface GenerationResult {
  text: string;
  tokens: number[];
  /** The token ids of the prompt, with what the template and the tokenizer put in front. */
  promptTokens: number[];
  finishReason: FinishReason;
  /** The stop string that ended the text, if one did. */
  stopSequence?: string;
  usage: Usage;
  timings: Timings;
  /** The seed used; the same one gives the same text. */
  seed: number;
  /** One per token, where asked for. */
  logprobs?: SampledLogprob[];
  /** Of the prompt's second token and on, where asked for. */
  promptLogprobs?: number[];
  /** With `overflow: "shift"`: what was dropped to make room, messages of the conversation and then tokens. */
  dropped?: { messages: number; tokens: number };
}

/** Counts of durations in milliseconds, or of sizes. `counts[i]` are those below `bounds[i]` and not below the bound before. */
export interface Histogram {
  count: number;
  /** Of all durations. */
  sum: number;
  bounds: number[];
  counts: number[];
}

/** What a model's engine does now and has done since it was loaded. */
export interface ModelStats {
  /** Requests that compute, that wait for a place, and that wait for their reader. */
  running: number;
  waiting: number;
  paused: number;
  /** Requests so far, and how they ended; `refused` ones found the queue full. */
  requests: number;
  finished: number;
  cancelled: number;
  failed: number;
  refused: number;
  /** Tokens of ended requests: of prompts computed and taken from the cache, and drawn. */
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  /** Of these requests, too: tokens guessed, and those of them that were drawn. */
  draftTokens: number;
  acceptedDraftTokens: number;
  /** Times that a request gave up its place or room for another, to go on later; not those it waited for its reader. */
  setAside: number;
  /** Steps computed, and their tokens. */
  steps: number;
  stepTokens: number;
  /** Tokens of the key/value cache: in all, of running requests, and of prefixes kept for requests to come. */
  kv: { tokens: number; held: number; kept: number };
  /** Of a step; from the call into the engine to the first token; between two tokens of a request. */
  stepMs: Histogram;
  timeToFirstTokenMs: Histogram;
  timeBetweenTokensMs: Histogram;
  /** Tokens of a step: those of prompts, and one or, with guesses, several of each request that is writing. */
  batchTokens: Histogram;
}

/** Options of `loadState`. */
export interface LoadStateOptions {
  /** Generations with the same `cacheScope` will find the prefixes. Default: the scope "". */
  cacheScope?: string | undefined;
  /** The adapter that the prefixes were computed with, at the same scale. Default: none. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /** Aborts: the promise then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** Options of `saveState`. */
export interface SaveStateOptions {
  /** Save what these tokens begin with, such as a result's `promptTokens` and `tokens`. Default: all prefixes. */
  tokens?: ArrayLike<number> | undefined;
  /** Save what this conversation begins with, as the file's template has it. Default: all prefixes. */
  messages?: readonly ChatMessage[] | undefined;
  /** The prefixes of generations with this `cacheScope` are saved. Default: the scope "". */
  cacheScope?: string | undefined;
  /** The prefixes of generations with this adapter, at the same scale, are saved. Default: of those without. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /**
   * The largest size of the file; what was not used for the longest time is left out, and of one prompt its end.
   * Default: no limit.
   */
  maxBytes?: number | undefined;
  /** Aborts: the promise then rejects with `signal.reason`, and nothing is written. */
  signal?: AbortSignal | undefined;
}

/** What of the file is in the cache once `loadState` is done: blocks of 32 tokens, and their tokens. */
export interface LoadedState {
  tokens: number;
  blocks: number;
}

/** What `saveState` has written. */
export interface SavedState extends LoadedState {
  /** Of the file. */
  bytes: number;
}

/** Rows of log-probabilities, given to `onRows` in order. */
export interface EvaluateRows {
  /** Index of the first row; row i is the distribution of the token after token i. */
  first: number;
  count: number;
  /** Natural logarithms, [count, vocabularySize]. */
  rows: Float32Array;
}

/** Options of `evaluate`. */
export interface EvaluateOptions extends OrderOptions {
  /** Receives the log-probabilities of the whole vocabulary. The model waits until what it returns has settled. */
  onRows?: ((rows: EvaluateRows) => void | Promise<void>) | undefined;
  /** A LoRA adapter of this model. Default: none. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /** Aborts: the promise then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** How likely a model finds a list of tokens. */
export interface EvaluateResult {
  /** logprobs[i] is the natural logarithm of the probability of token i + 1 given those before; [tokens - 1]. */
  logprobs: Float32Array;
  usage: Usage;
  timings: Pick<Timings, "queueMs" | "promptMs" | "promptTokensPerSecond">;
}
