// The native addon, and the types of what it offers. Nothing is loaded before it is needed: importing the package must
// not fail on a machine that lacks the addon.
import { join } from "node:path";

import { InhouseError, type InhouseErrorCode } from "./errors.js";
import { load, type LoadedAddon } from "./native/load.js";
import type { KvType, Speculation } from "./types.js";

/** An error as the addon passes it to callbacks; those it throws are Error objects with the same `code`. */
export interface NativeError {
  code: InhouseErrorCode;
  message: string;
}

/** A metadata value; arrays are fetched one at a time with `NativeFile.array`. */
export type NativeValue = string | boolean | number | bigint | { type: number; count: number };

export interface NativeArray {
  type: number;
  count: number;
  /** Numbers: little-endian elements; strings: all texts, one after the other. */
  bytes: Uint8Array;
  /** Strings alone: [count + 1] into bytes. */
  offsets: Uint32Array;
}

export interface NativeTensor {
  name: string;
  type: string;
  shape: number[];
  bytes: number;
  part: number;
  offset: number;
}

export interface NativeFile {
  summary(): {
    path: string;
    version: number;
    alignment: number;
    fileBytes: number;
    metadataCount: number;
    tensorCount: number;
  };
  metadata(from: number, to: number): { key: string; type: number; value: NativeValue }[];
  tensors(from: number, to: number): NativeTensor[];
  array(entry: number, path: Uint32Array): NativeArray;
  /** How the model attends. Throws where the architecture is unknown. */
  attention(): NativeAttention;
  /** Frees the header. */
  close(): void;
}

export interface NativeAttention {
  heads: number;
  kvHeads: number;
  /** Numbers of one head's key, and of its value. */
  keyLength: number;
  valueLength: number;
  /** Tokens that each layer sees; 0: all. */
  windows: number[];
}

/** What the machine can do at most, per second. */
export interface NativeLimits {
  readBytes: number;
  /** Of 8-bit integers. */
  dotMultiplyAdds: number;
  /** Of float32. */
  floatMultiplyAdds: number;
  /** Of BF16 weights; as of float32 where the kernels have nothing faster. */
  bf16MultiplyAdds: number;
}

export interface NativeLoadOptions {
  device: "cpu" | "cuda" | "reference";
  cudaDevice: number;
  cudaImage: string;
  cudaDriver: string;
  /** 0: as many as the process may use. */
  threads: number;
  /** Empty: the best. */
  instructionSet: string;
  repack: boolean;
  lockMemory: boolean;
}

export interface NativeModel {
  describe(): {
    architecture: string;
    parameters: number;
    weightBytes: number;
    trainedContextLength: number;
    vocabularySize: number;
    layers: number;
    embeddingLength: number;
    pooling: "none" | "mean" | "cls" | "last" | "rank";
    device: string;
    deviceDescription: string;
  };
  createEngine(
    vocabulary: { bytes: Uint8Array; offsets: Uint32Array },
    options: NativeEngineOptions,
    onEvents: NativeEventsCallback,
    onReady: (error: NativeError | null, engine: NativeEngine) => void,
    draft: NativeModel | undefined,
  ): void;
  release(): void;
}

export interface NativeEngineOptions {
  /** 0: the trained one, at most 8,192 and `kvTokens`. */
  contextLength: number;
  maxConcurrent: number;
  maxQueue: number;
  maxBatchTokens: number;
  maxSlowdown: number;
  /** 0: automatic; at most one of the two is given. */
  kvTokens: number;
  kvMemory: number;
  draftTokens: number;
  /** Empty: the device's choice. */
  kvTypeK: string;
  kvTypeV: string;
}

export interface NativeSampling {
  temperature: number;
  topK: number;
  topP: number;
  minP: number;
  typicalP: number;
  topNSigma: number;
  repeatPenalty: number;
  frequencyPenalty: number;
  presencePenalty: number;
  penaltyLastN: number;
  dryMultiplier: number;
  dryBase: number;
  dryAllowedLength: number;
  dryPenaltyLastN: number;
  dryBreakers: readonly string[];
  /** Those of several tokens, as these; the core finds the tokens that contain a breaker. */
  dryBreakerTokens: Int32Array[];
  xtcProbability: number;
  xtcThreshold: number;
  seed: bigint;
  logitBiasTokens: Int32Array;
  logitBiases: number[];
}

/** An adapter of one model. */
export interface NativeAdapter {
  describe(): { rank: number; bytes: number };
  /** Requests that use it keep it until they end. */
  release(): void;
}

export type NativeLoraTarget = "q" | "k" | "v" | "output" | "gate" | "up" | "down" | "head";

/** A matrix in a safetensors file. */
export interface NativeMatrix {
  name: string;
  /** "F32", "F16" or "BF16". */
  type: string;
  rows: number;
  cols: number;
  /** Of its first byte in the file. */
  offset: number;
}

export interface NativeLoraPair {
  layer: number;
  target: NativeLoraTarget;
  /** Of the product: alpha over rank. */
  scale: number;
  a: NativeMatrix;
  b: NativeMatrix;
}

export interface NativeAdapterSource {
  path: string;
  /** What the file had when its header was read; not looked at for GGUF. */
  fileBytes: number;
  /** Null: a GGUF file. */
  pairs: NativeLoraPair[] | null;
}

/** The adapter of a request, and how much of it. */
export interface NativeAdapterUse {
  adapter: NativeAdapter | null;
  adapterScale: number;
}

/** How a request stands among others. */
export interface NativeOrder {
  priority: number;
  /** Milliseconds; 0: none. */
  queueTimeoutMs: number;
  timeoutMs: number;
  cacheScope: string;
  sharePrefix: boolean;
}

export interface NativeEvaluation extends NativeOrder {
  evaluate: true;
  evaluateRows: boolean;
  evaluateGreedy: boolean;
  /** The first token whose logits are wanted. */
  logitsFrom: number;
}

export interface NativeGeneration extends NativeOrder {
  evaluate: false;
  evaluateRows: false;
  logitsFrom: 0;
  sampling: NativeSampling;
  /** -1: until the context is full. */
  maxTokens: number;
  minTokens: number;
  forcedTokens: Int32Array;
  stop: string[];
  stopTokens: Int32Array;
  promptLogprobs: boolean;
  /** Wait for `provide` before each draw. */
  processLogits: boolean;
  /** Tokens that stay where the context is full and the oldest ones are dropped; -1: the answer ends there. */
  shiftKeep: number;
  speculation: Speculation;
  /** -1: none. */
  topLogprobs: number;
}

export interface NativeEmbedding extends NativeOrder {
  pooling: "mean" | "cls" | "last";
  normalize: boolean;
  /** 0: all. */
  dimensions: number;
}

export type NativeSpec = NativeEvaluation | NativeGeneration;

/** Counts of values: counts[i] of those below bounds[i] and not below bounds[i - 1]. */
export interface NativeHistogram {
  count: number;
  sum: number;
  bounds: number[];
  counts: number[];
}

export interface NativeStats {
  running: number;
  waiting: number;
  paused: number;
  requests: number;
  finished: number;
  cancelled: number;
  failed: number;
  refused: number;
  promptTokens: number;
  cachedTokens: number;
  completionTokens: number;
  draftTokens: number;
  acceptedDraftTokens: number;
  setAside: number;
  steps: number;
  rows: number;
  /** Of 32 tokens. */
  kvBlocks: number;
  kvHeld: number;
  kvIdle: number;
  step: NativeHistogram;
  batch: NativeHistogram;
  firstToken: NativeHistogram;
  betweenTokens: NativeHistogram;
}

export interface NativeUsage {
  promptTokens: number;
  cachedTokens: number;
  /** The others; fewer where the request ended before. */
  computedPromptTokens: number;
  droppedTokens: number;
  completionTokens: number;
  draftTokens: number;
  acceptedDraftTokens: number;
  queueMs: number;
  promptMs: number;
  decodeMs: number;
}

/**
 * The events of a step, at most one call for all requests. Of each event: its request (low and high 32 bits), 1 + the
 * place of its details (0: it has none), how many tokens and bytes of text it has, the tokens, the bytes and what fills
 * them up to 32 bits. Numbers in one array, since an object of each would cost several times as much.
 */
export type NativeEventsCallback = (packed: Int32Array, details: NativeDetails[]) => void;

/** Tokens of a block of the key/value cache. */
export const blockTokens = 32;

/** What few events have. */
export interface NativeDetails {
  /** Not "none": it is the request's last event. */
  finish: "none" | "stop" | "length" | "cancelled" | "error";
  logprobs?: { token: number; logprob: number; top: { token: number; logprob: number }[] }[];
  /** With the last event. */
  usage?: NativeUsage;
  stop?: string;
  error?: NativeError;
  /** Evaluating: log-probabilities of tokens first + 1 and on; `rowCount` rows can be fetched. */
  first?: number;
  tokenLogprobs?: Float32Array;
  rowCount?: number;
  /** One per log-probability, 1 for the highest, where asked for. */
  greedy?: Uint8Array;
  /** Embedding: texts that are done, and their vectors, one after the other. */
  texts?: number[];
  vectors?: Float32Array;
}

/** The requests whose prefixes are meant. */
export interface NativeStateScope extends NativeAdapterUse {
  cacheScope: string;
}

export interface NativeSaveState extends NativeStateScope {
  /** null: all prefixes. */
  prompt: Int32Array | null;
  maxBytes: number;
}

/** What was written to a file, or read from it. */
export interface NativeState {
  /** Of 32 tokens. */
  blocks: number;
  bytes: number;
}
type StateCallback = (error: NativeError | null, report: NativeState) => void;

export interface NativeEngine {
  describe(): {
    contextLength: number;
    maxConcurrent: number;
    maxQueue: number;
    maxBatchTokens: number;
    kvTokens: number;
    kvTypeK: KvType;
    kvTypeV: KvType;
    kvBytes: number;
    activationBytes: number;
  };
  submit(prompt: Int32Array, spec: NativeSpec & NativeAdapterUse): number;
  /** The tokens of texts, one after the other, each before its entry of `ends`. */
  embed(tokens: Int32Array, ends: Uint32Array, spec: NativeEmbedding & NativeAdapterUse): number;
  cancel(request: number): void;
  acknowledge(request: number): void;
  /** The logits to draw from, after an event with one row. */
  provide(request: number, logits: Float32Array): void;
  /** A paused request computes nothing and does not keep the event loop alive. */
  pause(request: number): void;
  resume(request: number): void;
  /** Frees the prefixes of a scope that no request to come will have. */
  forget(scope: NativeStateScope): void;
  stats(): NativeStats;
  /** Both return a function that cancels: the error then is ERR_INHOUSE_ABORTED. */
  saveState(path: string, options: NativeSaveState, callback: StateCallback): () => void;
  loadState(path: string, options: NativeStateScope, callback: StateCallback): () => void;
  rows(request: number, from: number, count: number): Float32Array;
  /** Returns a function that cancels the load. */
  loadAdapter(
    source: NativeAdapterSource,
    onEnd: (error: NativeError | null, adapter: NativeAdapter) => void,
  ): () => void;
  dispose(callback: () => void): void;
}

export interface NativeAddon {
  /** Of the package it was built for. */
  version: string;
  openFile(
    path: string,
    overrides: { list: string[] },
    callback: (error: NativeError | null, file: NativeFile) => void,
  ): void;
  /** Loads the weights of an open file. Returns a function that cancels the load. */
  loadModel(
    file: NativeFile,
    options: NativeLoadOptions,
    onProgress: (loadedBytes: number) => void,
    onEnd: (error: NativeError | null, model: NativeModel) => void,
  ): () => void;
  /** For benchmarks; takes about a second. Threads and instruction set as in NativeLoadOptions. */
  measureLimits(
    options: Pick<NativeLoadOptions, "threads" | "instructionSet">,
    callback: (error: NativeError | null, limits: NativeLimits) => void,
  ): void;
  machine(): NativeMachine;
}

/** What the core knows of this machine. Memory is in bytes, within the control groups' limits; 0 where unknown. */
export interface NativeMachine {
  /** Those of this build, best first; the first that is supported is used. */
  instructionSets: { name: string; title: string; supported: boolean }[];
  /** That `threads: "auto"` uses. */
  processors: number;
  memoryTotal: number;
  memoryAvailable: number;
}

let loaded: LoadedAddon | undefined;

/** The addon and where it came from. Loaded at the first call; throws ERR_INHOUSE_NATIVE_LOAD. */
export function loadedAddon(): LoadedAddon {
  if (typeof __dirname === "undefined") {
    throw new InhouseError(
      "ERR_INHOUSE_NATIVE_LOAD",
      "a bundle of ES modules cannot load the native part of inhouse: leave inhouse out of the bundle (external), " +
        "or bundle as CommonJS",
    );
  }
  loaded ??= load(join(__dirname, ".."));
  return loaded;
}

export const native = (): NativeAddon => loadedAddon().addon;
