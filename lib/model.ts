/// <reference lib="esnext.disposable" />
// Loading a model and what one can do with it.
import { CallSite } from "./call-site.js";
import { ChatTemplate } from "./chat/template.js";
import { InhouseError } from "./errors.js";
import { evaluate, tokenIds } from "./evaluate.js";
import { type Generation, makeGeneration } from "./generate.js";
import { type Loaded, load } from "./load.js";
import { resolveLoad } from "./load-options.js";
import { quantizationOf, textOf } from "./metadata.js";
import { invalidArgument, show } from "./options.js";
import {
  type ChatOptions,
  chatRules,
  type CompleteOptions,
  completeRules,
  type GenerateOptions,
  type RequestDefaults,
  resolveRequest,
} from "./request.js";
import { Run, type RunHost, type RunInput } from "./run.js";
import { dryBreakerSequences, samplingFromMetadata } from "./sampling.js";
import type { Tokenizer } from "./tokenizer/tokenizer.js";
import type { ChatMessage, EvaluateOptions, EvaluateResult, LoadOptions, ModelInfo } from "./types.js";

/** A loaded model, made by `loadModel`. Many generations can run on it at once. */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  /**
   * Answers a conversation, through the file's chat template.
   *
   * Throws ERR_INHOUSE_INVALID_ARGUMENT, _TEMPLATE_MISSING, _TEMPLATE_INVALID, _TEMPLATE_LIMIT and _DISPOSED at the
   * call; the generation rejects with _CONTEXT_OVERFLOW, _QUEUE_FULL, _NUMERIC and the like.
   */
  chat(messages: readonly ChatMessage[], options?: ChatOptions): Generation;
  /**
   * Continues a text, or a list of token ids, without a template.
   *
   * Throws ERR_INHOUSE_INVALID_ARGUMENT and _DISPOSED at the call; the generation rejects with _TOKEN_OUT_OF_RANGE
   * and as in `chat`.
   */
  complete(prompt: string | ArrayLike<number>, options?: CompleteOptions): Generation;
  /**
   * Log-probabilities of a list of at least one and at most `info.contextLength` token ids, as they are (nothing is
   * put in front).
   *
   * Rejects with ERR_INHOUSE_INVALID_ARGUMENT, _TOKEN_OUT_OF_RANGE, _CONTEXT_OVERFLOW, _QUEUE_FULL, _DISPOSED,
   * `signal.reason`, or what `onRows` threw.
   */
  evaluate(tokens: ArrayLike<number>, options?: EvaluateOptions): Promise<EvaluateResult>;
  /** Cancels what runs, waits for it and frees the model. May be called again, with the same result. */
  dispose(): Promise<void>;
}

/**
 * Loads a GGUF file. `file` is a path or a file URL; of a split model, its first part.
 *
 * Rejects with an InhouseError (docs/errors.md), with `signal.reason`, or with what `onProgress` threw.
 */
export async function loadModel(file: string | URL, options: LoadOptions = {}): Promise<Model> {
  const site = new CallSite(loadModel);
  const resolved = resolveLoad(file, options);
  return new LoadedModel(await load(resolved, site, options.signal, options.onProgress));
}

class LoadedModel implements Model, RunHost, RequestDefaults {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  /** @internal */ readonly engine: Loaded["engine"];
  /** @internal */ readonly requests: Loaded["requests"];
  /** @internal */ readonly running = new Set<Run>();
  /** @internal */ readonly sampling: RequestDefaults["sampling"];
  /** @internal */ readonly stopTokens: Int32Array;
  /** @internal */ readonly vocabularySize: number;
  readonly #templateSource: string | undefined;
  #template: ChatTemplate | undefined;
  #breakers: { key: string; sequences: Int32Array[] } | undefined;
  #disposed: Promise<void> | undefined;

  constructor(loaded: Loaded) {
    this.engine = loaded.engine;
    this.requests = loaded.requests;
    this.tokenizer = loaded.tokenizer;
    this.stopTokens = loaded.tokenizer.stopTokenIds;
    this.vocabularySize = loaded.described.vocabularySize;
    try {
      this.sampling = samplingFromMetadata(loaded.header.metadata);
      this.#templateSource = textOf(loaded.header, "tokenizer.chat_template");
      this.info = infoOf(loaded, this.#templateSource !== undefined);
    } catch (error) {
      this.engine.dispose(() => undefined);
      throw error;
    }
    Object.defineProperties(this, hidden);
  }

  chat(messages: readonly ChatMessage[], options: ChatOptions = {}): Generation {
    const site = new CallSite(this, "chat");
    this.#check("chat");
    const resolved = resolveRequest("chat", options, chatRules, this);
    const { template, templateVariables: variables, tools, addGenerationPrompt } = options;
    const text = this.#templateFor(template).render(messages, { variables, tools, addGenerationPrompt });
    const prompt = this.#encoder(text, { special: true, addEos: false });
    return this.#generate({ ...resolved, site, signal: options.signal, prompt });
  }

  complete(prompt: string | ArrayLike<number>, options: CompleteOptions = {}): Generation {
    const site = new CallSite(this, "complete");
    this.#check("complete");
    const resolved = resolveRequest("complete", options, completeRules, this);
    return this.#generate({
      ...resolved,
      site,
      signal: options.signal,
      prompt: this.#prompt(prompt, options),
    });
  }

  async evaluate(tokens: ArrayLike<number>, options: EvaluateOptions = {}): Promise<EvaluateResult> {
    const site = new CallSite(this, "evaluate");
    this.#check("evaluate");
    return evaluate(this, this.vocabularySize, tokens, options, site);
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#end();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** @internal */
  breakers(texts: readonly string[]): Int32Array[] {
    const key = JSON.stringify(texts);
    if (this.#breakers?.key !== key) {
      const { tokenizer } = this;
      const encode = (text: string): number[] => [
        ...tokenizer.encode(text, { addBos: false, addEos: false }),
      ];
      const sequences = dryBreakerSequences(texts, tokenTexts(tokenizer), encode);
      this.#breakers = { key, sequences: sequences.map((sequence) => Int32Array.from(sequence)) };
    }
    return this.#breakers.sequences;
  }

  async #end(): Promise<void> {
    for (const run of this.running) run.cancel();
    await new Promise<void>((resolve) => this.engine.dispose(resolve));
    this.requests.endAll();
  }

  #check(call: string): void {
    if (this.#disposed) {
      throw new InhouseError("ERR_INHOUSE_DISPOSED", `${call}: this model was disposed of; load it again`);
    }
  }

  #generate(input: Omit<RunInput, "spec" | "seed"> & ReturnType<typeof resolveRequest>): Generation {
    return makeGeneration(new Run(this, input));
  }

  #prompt(prompt: unknown, options: CompleteOptions & GenerateOptions): RunInput["prompt"] {
    if (typeof prompt !== "string") {
      const ids = tokenIds("complete", prompt);
      return () => ids;
    }
    if (prompt === "" && options.addSpecialTokens === false) {
      throw invalidArgument(`complete: the prompt is ${show(prompt)}; expected a text that is not empty`);
    }
    const { addSpecialTokens, parseSpecialTokens } = options;
    return this.#encoder(prompt, {
      special: parseSpecialTokens ?? false,
      addEos: false,
      ...(addSpecialTokens === undefined ? {} : { addBos: addSpecialTokens }),
    });
  }

  /** Short texts are encoded at once, so that their generation is on its way when the call returns. */
  #encoder(
    text: string,
    options: { special: boolean; addEos: boolean; addBos?: boolean },
  ): RunInput["prompt"] {
    if (text.length <= 4096) return () => this.tokenizer.encode(text, options);
    return (signal) => this.tokenizer.encodeAsync(text, { ...options, signal });
  }

  #templateFor(source: string | undefined): ChatTemplate {
    const tokens = {
      bosToken: tokenText(this.tokenizer, this.tokenizer.bosTokenId),
      eosToken: tokenText(this.tokenizer, this.tokenizer.eosTokenId),
    };
    if (source !== undefined) return new ChatTemplate(source, tokens);
    this.#template ??= new ChatTemplate(this.#templateSource, tokens);
    return this.#template;
  }
}

// Fields that other files of this folder use; a model that is printed shows `info` alone.
const hidden: PropertyDescriptorMap = Object.fromEntries(
  ["engine", "requests", "running", "sampling", "stopTokens", "vocabularySize", "tokenizer"].map((name) => [
    name,
    { enumerable: false, writable: false },
  ]),
);

function tokenText(tokenizer: Tokenizer, id: number | undefined): string | undefined {
  return id === undefined ? undefined : tokenizer.tokenText(id);
}

function* tokenTexts(tokenizer: Tokenizer): Generator<string> {
  const { bytes, offsets } = tokenizer.vocabulary();
  const decoder = new TextDecoder();
  for (let id = 0; id < tokenizer.size; id++)
    yield decoder.decode(bytes.subarray(offsets[id], offsets[id + 1]));
}

function infoOf({ header, described, engine }: Loaded, hasChatTemplate: boolean): ModelInfo {
  const { contextLength, maxConcurrent, maxQueue, maxBatchTokens, ...kv } = engine.describe();
  const { architecture, parameters, trainedContextLength, vocabularySize, layers } = described;
  const info: ModelInfo = {
    path: header.path,
    fileBytes: header.fileBytes,
    architecture,
    name: textOf(header, "general.name"),
    parameters,
    quantization: quantizationOf(header),
    licence: textOf(header, "general.license"),
    contextLength,
    trainedContextLength,
    vocabularySize,
    layers,
    hasChatTemplate,
    device: described.device,
    deviceDescription: described.deviceDescription,
    kvType: { k: kv.kvTypeK, v: kv.kvTypeV },
    maxConcurrent,
    maxQueue,
    maxBatchTokens,
    memory: { weights: described.weightBytes, kv: kv.kvBytes, activations: kv.activationBytes },
  };
  Object.freeze(info.kvType);
  Object.freeze(info.memory);
  return Object.freeze(info);
}
