/// <reference lib="esnext.disposable" />
// Loading a model and what one can do with it.
import { InhouseError } from "./errors.js";
import type { Generation } from "./generate.js";
import type {
  ChatMessage,
  EvaluateOptions,
  EvaluateResult,
  LoadOptions,
  ModelInfo,
  PromptOptions,
  RequestOptions,
  TemplateOptions,
} from "./types.js";

// Placeholders until the parts they belong to are in place: lib/sampling.ts and lib/tokenizer/tokenizer.ts.
export interface SamplingOptions {
  temperature?: number | undefined;
  topK?: number | undefined;
  topP?: number | undefined;
  minP?: number | undefined;
  typicalP?: number | undefined;
  topNSigma?: number | undefined;
  repeatPenalty?: number | undefined;
  frequencyPenalty?: number | undefined;
  presencePenalty?: number | undefined;
  seed?: number | undefined;
}
export interface Tokenizer {
  encode(text: string, options?: PromptOptions): number[];
  decode(tokens: readonly number[]): string;
}

/** Settings of one generation. */
export interface GenerateOptions extends RequestOptions, SamplingOptions {}
/** Settings of `complete`. */
export interface CompleteOptions extends GenerateOptions, PromptOptions {}
/** Settings of `chat`. */
export interface ChatOptions extends GenerateOptions, TemplateOptions {}

/** A loaded model. Made by `loadModel`; safe to use for many generations at once. */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  /** Answers a conversation, through the file's chat template. */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Generation;
  /** Continues a text, or a list of token ids, without a template. */
  complete(prompt: string | ArrayLike<number>, options?: CompleteOptions): Generation;
  /** Log-probabilities of a list of token ids. */
  evaluate(tokens: ArrayLike<number>, options?: EvaluateOptions): Promise<EvaluateResult>;
  /** Cancels what runs, waits for it and frees the model. May be called again. */
  dispose(): Promise<void>;
}

/** Loads a GGUF file. `file` is a path or a file URL; of a split model, its first part. */
export function loadModel(file: string | URL, options: LoadOptions = {}): Promise<Model> {
  return Promise.reject(new InhouseError("ERR_INHOUSE_INTERNAL", `not yet: ${String(file)} ${typeof options}`));
}
