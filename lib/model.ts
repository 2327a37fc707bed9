/// <reference lib="esnext.disposable" />
// Loading a model and what one can do with it.
import { Adapters } from "./adapter.js";
import { bindMethods } from "./bind.js";
import { CallSite } from "./call-site.js";
import { ChatTemplate } from "./chat/template.js";
import { embed, type EmbedOptions, type TextOrTokens } from "./embed.js";
import { InhouseError } from "./errors.js";
import { evaluate, tokenIds } from "./evaluate.js";
import { type Generation, makeGeneration } from "./generate.js";
import { type Loaded, load } from "./load.js";
import { resolveLoad } from "./load-options.js";
import { quantizationOf, textOf } from "./metadata.js";
import { blockTokens } from "./native.js";
import { invalidArgument, show } from "./options.js";
import { lastTokens, lastTurns } from "./overflow.js";
import {
  type ChatOptions,
  chatRules,
  type CompleteOptions,
  completeRules,
  type GenerateOptions,
  type RequestDefaults,
  type ResolvedRequest,
  resolveRequest,
} from "./request.js";
import { type Prompt, Run, type RunHost, type RunInput } from "./run.js";
import { score, type Score, type ScoreOptions } from "./score.js";
import { StateTransfers } from "./state.js";
import { encodeText, type EncodeOptions, type Tokenizer } from "./tokenizer/tokenizer.js";
import { traced } from "./trace.js";
import type {
  Adapter,
  AdapterOptions,
  ChatMessage,
  EvaluateOptions,
  EvaluateResult,
  LoadedState,
  LoadOptions,
  LoadStateOptions,
  ModelInfo,
  ModelStats,
  SavedState,
  SaveStateOptions,
} from "./types.js";

/** A loaded model, made by `loadModel`. Many generations can run on it at once. Its methods need not be called on it. */
export interface Model extends AsyncDisposable {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  /** The adapters that are loaded, in the order in which they came. */
  readonly adapters: readonly Adapter[];
  /**
   * Answers a conversation, through the file's chat template.
   *
   * Throws ERR_INHOUSE_INVALID_ARGUMENT, _TEMPLATE_MISSING, _TEMPLATE_INVALID, _TEMPLATE_LIMIT and _DISPOSED at the
   * call; the generation rejects with _CONTEXT_OVERFLOW, _QUEUE_FULL, _NUMERIC and the like.
   */
  chat(this: void, messages: readonly ChatMessage[], options: ChatOptions & { n: number }): Generation[];
  chat(this: void, messages: readonly ChatMessage[], options?: ChatOptions): Generation;
  /**
   * Continues a text, or a list of token ids, without a template.
   *
   * Throws ERR_INHOUSE_INVALID_ARGUMENT and _DISPOSED at the call; the generation rejects with _TOKEN_OUT_OF_RANGE
   * and as in `chat`.
   */
  complete(
    this: void,
    prompt: string | ArrayLike<number>,
    options: CompleteOptions & { n: number },
  ): Generation[];
  complete(this: void, prompt: string | ArrayLike<number>, options?: CompleteOptions): Generation;
  /**
   * Log-probabilities of a list of at least one and at most `info.contextLength` token ids, as they are (nothing is
   * put in front).
   *
   * Rejects with ERR_INHOUSE_INVALID_ARGUMENT, _TOKEN_OUT_OF_RANGE, _CONTEXT_OVERFLOW, _QUEUE_FULL, _DISPOSED,
   * `signal.reason`, or what `onRows` threw.
   */
  evaluate(this: void, tokens: ArrayLike<number>, options?: EvaluateOptions): Promise<EvaluateResult>;
  /**
   * A vector for each text, in order: the hidden states of its tokens, pooled. Any number of texts in one call counts as
   * one request; they are computed together, beside generations.
   *
   * Rejects with ERR_INHOUSE_INVALID_ARGUMENT, _TOKEN_OUT_OF_RANGE, _CONTEXT_OVERFLOW, _QUEUE_FULL, _TIMEOUT, _NUMERIC,
   * _DISPOSED or `signal.reason`.
   */
  embed(this: void, texts: string | readonly TextOrTokens[], options?: EmbedOptions): Promise<Float32Array[]>;
  /**
   * How likely each of the continuations is after the prompt, which is computed once.
   *
   * Rejects as `embed` does.
   */
  score(
    this: void,
    prompt: TextOrTokens,
    continuations: readonly TextOrTokens[],
    options?: ScoreOptions,
  ): Promise<Score[]>;
  /**
   * Loads a LoRA adapter for use in requests to this model, while others run. `file` is a path or file URL of a GGUF
   * file, of a folder that PEFT saved, or of the safetensors file in one.
   *
   * Rejects with ERR_INHOUSE_ADAPTER_INVALID, ERR_INHOUSE_GGUF_…, _FILE_…, _INVALID_ARGUMENT, _OUT_OF_MEMORY,
   * _DISPOSED, or `signal.reason`.
   */
  loadAdapter(this: void, file: string | URL, options?: AdapterOptions): Promise<Adapter>;
  /**
   * What the engine does now and has done since the model was loaded. Cheap; may be called at any time.
   *
   * Throws ERR_INHOUSE_DISPOSED.
   */
  stats(this: void): ModelStats;
  /**
   * Writes the computed prefixes of a `cacheScope`, or of one conversation, to a file, in whole blocks of 32 tokens,
   * while generations go on. A saved state at `path` is replaced once the new one is complete; another file never is. The file holds the prompts and
   * answers themselves.
   *
   * Rejects with ERR_INHOUSE_STATE_EMPTY where there is nothing to save; and with _INVALID_ARGUMENT, _TEMPLATE_MISSING,
   * _TEMPLATE_INVALID, _TEMPLATE_LIMIT, _CONTEXT_OVERFLOW, _FILE_WRITE, _DISPOSED, or `signal.reason`.
   */
  saveState(this: void, path: string | URL, options?: SaveStateOptions): Promise<SavedState>;
  /**
   * Reads such a file, also of an earlier process, so that prompts which begin with one of its prefixes need not compute
   * it again; results are the same bit for bit. Takes the place of what was not used for the longest time.
   *
   * Rejects with ERR_INHOUSE_STATE_INVALID, before anything was read in, for a file that is damaged or of another model,
   * adapter, `kvType` or device; and with _INVALID_ARGUMENT, _FILE_NOT_FOUND, _FILE_READ, _DISPOSED, or `signal.reason`.
   */
  loadState(this: void, path: string | URL, options?: LoadStateOptions): Promise<LoadedState>;
  /** Cancels what runs, waits for it and frees the model. May be called again, with the same result. */
  dispose(this: void): Promise<void>;
}

/**
 * Loads a GGUF file. `file` is a path or a file URL; of a split model, its first part.
 *
 * Rejects with an InhouseError (docs/errors.md), with `signal.reason`, or with what `onProgress` threw.
 */
export async function loadModel(file: string | URL, options: LoadOptions = {}): Promise<Model> {
  const site = new CallSite(loadModel);
  const resolved = resolveLoad(file, options);
  return traced(
    "load",
    () => ({ model: resolved.path }),
    async () => new LoadedModel(await load(resolved, site)),
    (model) => model,
    ({ info }) => info,
  );
}

/** Tokens of a list that is shortened to fit, at most. */
const longestPrompt = 1 << 24;

/** Templates given with calls that a model keeps. */
const keptTemplates = 8;

/** As many messages are rendered in any context: a template may leave some out. */
const manyMessages = 1000;

/** What generations need of a model. They hold it, and it does not hold the model, which may be collected before. */
class Core implements RunHost, RequestDefaults {
  readonly engine: Loaded["engine"];
  readonly requests: Loaded["requests"];
  readonly running = new Set<Run>();
  readonly transfers: StateTransfers;
  readonly sampling: RequestDefaults["sampling"];
  readonly stopTokens: Int32Array;
  readonly vocabularySize: number;
  readonly adapters: Adapters;
  readonly adapterOwner: object;
  readonly hasDraft: boolean;
  readonly #tokenizer: Tokenizer;

  constructor({ engine, requests, tokenizer, described, sampling, draft }: Loaded) {
    this.engine = engine;
    this.requests = requests;
    this.sampling = sampling;
    this.stopTokens = tokenizer.stopTokenIds;
    this.vocabularySize = described.vocabularySize;
    this.adapters = new Adapters(engine);
    this.adapterOwner = this.adapters.owner;
    this.transfers = new StateTransfers(engine, this.adapterOwner);
    this.hasDraft = draft !== undefined;
    this.#tokenizer = tokenizer;
  }

  encode(text: string): Int32Array {
    return this.#tokenizer.encode(text, { addBos: false, addEos: false });
  }

  async end(): Promise<void> {
    for (const run of this.running) run.cancel();
    const adapters = this.adapters.end();
    const transfers = this.transfers.end();
    if (transfers) await transfers;
    await new Promise<void>((resolve) => this.engine.dispose(resolve));
    await adapters;
    this.requests.endAll();
  }
}

class LoadedModel implements Model {
  readonly info: ModelInfo;
  readonly tokenizer: Tokenizer;
  readonly #core: Core;
  readonly #templateSource: string | undefined;
  #template: ChatTemplate | undefined;
  /** Those given with calls, the last used one last: one that ran into limits is known again. */
  readonly #givenTemplates = new Map<string, ChatTemplate>();
  #disposed: Promise<void> | undefined;

  constructor(loaded: Loaded) {
    try {
      this.#core = new Core(loaded);
      this.#templateSource = textOf(loaded.header, "tokenizer.chat_template") || undefined; // an empty one is none
      this.info = infoOf(loaded, this.#templateSource !== undefined);
    } catch (error) {
      loaded.engine.dispose(() => undefined);
      throw error;
    }
    this.tokenizer = loaded.tokenizer;
    // A model that is printed shows `info` alone.
    Object.defineProperty(this, "tokenizer", { enumerable: false, writable: false });
    bindMethods(
      this,
      "chat",
      "complete",
      "evaluate",
      "embed",
      "score",
      "loadAdapter",
      "stats",
      "saveState",
      "loadState",
      "dispose",
    );
  }

  chat(messages: readonly ChatMessage[], given: ChatOptions & { n: number }): Generation[];
  chat(messages: readonly ChatMessage[], given?: ChatOptions): Generation;
  chat(messages: readonly ChatMessage[], given: ChatOptions = {}): Generation | Generation[] {
    const site = new CallSite(LoadedModel.prototype, "chat");
    this.#check("chat");
    const resolved = resolveRequest("chat", given, chatRules, this.#core);
    return this.#generate(
      "chat",
      site,
      resolved,
      unlessTooLong(() => this.#conversation(messages, resolved.options)),
    );
  }

  complete(prompt: string | ArrayLike<number>, given: CompleteOptions & { n: number }): Generation[];
  complete(prompt: string | ArrayLike<number>, given?: CompleteOptions): Generation;
  complete(prompt: string | ArrayLike<number>, given: CompleteOptions = {}): Generation | Generation[] {
    const site = new CallSite(LoadedModel.prototype, "complete");
    this.#check("complete");
    const resolved = resolveRequest("complete", given, completeRules, this.#core);
    return this.#generate(
      "complete",
      site,
      resolved,
      unlessTooLong(() => this.#prompt(prompt, resolved.options)),
    );
  }

  async evaluate(tokens: ArrayLike<number>, options: EvaluateOptions = {}): Promise<EvaluateResult> {
    const site = new CallSite(LoadedModel.prototype, "evaluate");
    this.#check("evaluate");
    return traced(
      "evaluate",
      this.#about,
      (trace) => evaluate(this.#core, this.info, tokens, options, site, trace),
      (result) => result,
      ({ usage, timings }) => ({ usage, timings }),
    );
  }

  async embed(texts: string | readonly TextOrTokens[], options: EmbedOptions = {}): Promise<Float32Array[]> {
    const site = new CallSite(LoadedModel.prototype, "embed");
    this.#check("embed");
    return traced(
      "embed",
      this.#about,
      (trace) => embed(this.#core, this.info, this.tokenizer, texts, options, site, trace),
      (vectors) => vectors,
      () => undefined,
    );
  }

  async score(
    prompt: TextOrTokens,
    continuations: readonly TextOrTokens[],
    options: ScoreOptions = {},
  ): Promise<Score[]> {
    const site = new CallSite(LoadedModel.prototype, "score");
    this.#check("score");
    return traced(
      "score",
      this.#about,
      (trace) => score(this.#core, this.info, this.tokenizer, prompt, continuations, options, site, trace),
      (scores) => scores,
      () => undefined,
    );
  }

  get adapters(): readonly Adapter[] {
    return this.#core.adapters.list();
  }

  async loadAdapter(file: string | URL, options: AdapterOptions = {}): Promise<Adapter> {
    const site = new CallSite(LoadedModel.prototype, "loadAdapter");
    this.#check("loadAdapter");
    return this.#core.adapters.load(file, options, site);
  }

  stats(): ModelStats {
    this.#check("stats");
    const { rows, kvBlocks, kvHeld, kvIdle, step, batch, firstToken, betweenTokens, ...counts } =
      this.#core.engine.stats();
    return {
      ...counts,
      stepTokens: rows,
      kv: { tokens: kvBlocks * blockTokens, held: kvHeld * blockTokens, kept: kvIdle * blockTokens },
      stepMs: step,
      batchTokens: batch,
      timeToFirstTokenMs: firstToken,
      timeBetweenTokensMs: betweenTokens,
    };
  }

  async saveState(path: string | URL, options: SaveStateOptions = {}): Promise<SavedState> {
    const site = new CallSite(LoadedModel.prototype, "saveState");
    this.#check("saveState");
    const promptOf = (messages: unknown): RunInput["prompt"] => this.#conversation(messages, {});
    return this.#core.transfers.save(path, options, promptOf, site);
  }

  async loadState(path: string | URL, options: LoadStateOptions = {}): Promise<LoadedState> {
    const site = new CallSite(LoadedModel.prototype, "loadState");
    this.#check("loadState");
    return this.#core.transfers.load(path, options, site);
  }

  dispose(): Promise<void> {
    this.#disposed ??= this.#core.end();
    return this.#disposed;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.dispose();
  }

  /** What every trace of this model begins with. */
  readonly #about = (): { model: string } => ({ model: this.info.path });

  #check(call: string): void {
    if (this.#disposed) {
      throw new InhouseError("ERR_INHOUSE_DISPOSED", `${call}: this model was disposed of; load it again`);
    }
  }

  #generate(
    call: "chat" | "complete",
    site: CallSite,
    { options, spec, seed, adapter }: ResolvedRequest<GenerateOptions>,
    prompt: RunInput["prompt"],
  ): Generation | Generation[] {
    const { signal, logitsProcessor, n } = options;
    const start = (own: Pick<RunInput, "spec" | "seed" | "prompt" | "siblings">): Generation => {
      const input = { ...own, site, order: options, adapter, signal, logitsProcessor };
      const { temperature, topK, topP } = spec.sampling;
      const run = traced(
        "generate",
        () => ({
          ...this.#about(),
          call,
          maxTokens: options.maxTokens,
          temperature,
          topK,
          topP,
          seed: own.seed,
          priority: options.priority ?? 0,
          adapter: adapter?.adapter.name,
        }),
        (trace) => new Run(this.#core, { ...input, trace }),
        (run) => run.ended,
        ({ finishReason, usage, timings }) => ({ finishReason, usage, timings }),
      );
      return makeGeneration(run);
    };
    if (n === undefined) return start({ spec, seed, prompt, siblings: undefined });
    const most = this.info.maxConcurrent + this.info.maxQueue;
    if (n > most) {
      throw invalidArgument(
        `${call}: option 'n' is ${n}; expected at most ${most}, which is all that run (maxConcurrent) and wait (maxQueue)`,
      );
    }
    // One prompt for all: encoded once, and not while any of them still wants it ended.
    const siblings = new AbortController();
    let encoded: Prompt | Promise<Prompt> | undefined;
    const shared = (): Prompt | Promise<Prompt> => (encoded ??= prompt(siblings.signal));
    return Array.from({ length: n }, (_, i) => {
      const own = (seed + i) % 2 ** 53;
      const sampling = { ...spec.sampling, seed: BigInt(own) };
      return start({ spec: { ...spec, sampling }, seed: own, prompt: shared, siblings });
    });
  }

  #conversation(messages: unknown, options: ChatOptions): RunInput["prompt"] {
    const { templateVariables: variables, tools, addGenerationPrompt, overflow, maxTokens } = options;
    const template = this.#templateFor(options.template);
    const encoder = (some: unknown): TokensOf => {
      const { text, own } = template.render(some, {
        variables,
        tools,
        addGenerationPrompt,
        mostMessages: Math.max(this.info.contextLength, manyMessages),
      });
      if (text === "" && !this.#beginsWithBos()) {
        throw new InhouseError(
          "ERR_INHOUSE_TEMPLATE_INVALID",
          `${template.name} renders this conversation to nothing; expected a prompt`,
        );
      }
      return this.#encoder(text, { special: own, addEos: false });
    };
    if (overflow !== "shift") return promptOf(encoder(messages));
    encoder(messages); // what is wrong with them is wrong at the call
    const list = [...(messages as ChatMessage[])];
    return (signal) => lastTurns(list, (some) => encoder(some)(signal), this.info.contextLength, maxTokens);
  }

  #beginsWithBos(asked: boolean = this.tokenizer.addBos): boolean {
    return asked && this.tokenizer.bosTokenId !== undefined;
  }

  #prompt(prompt: unknown, options: CompleteOptions & GenerateOptions): RunInput["prompt"] {
    const { contextLength } = this.info;
    const shifts = options.overflow === "shift";
    const shorten = (tokens: Int32Array, keep: number): Prompt =>
      shifts ? lastTokens(tokens, keep, contextLength, options.maxTokens) : { tokens };
    if (typeof prompt !== "string") {
      if (typeof prompt !== "object" || prompt === null) {
        throw invalidArgument(
          `complete: the prompt is ${show(prompt)}; expected a text or a list of token ids`,
        );
      }
      const ids = tokenIds("complete", prompt, shifts ? longestPrompt : contextLength);
      return () => shorten(ids, ids[0] === this.tokenizer.bosTokenId ? 1 : 0);
    }
    const { addSpecialTokens, parseSpecialTokens } = options;
    const beginsWithBos = this.#beginsWithBos(addSpecialTokens);
    if (prompt === "" && !beginsWithBos) {
      throw invalidArgument(
        `complete: the prompt is ${show(prompt)}; expected a text that is not empty where no BOS begins it`,
      );
    }
    const encode = this.#encoder(prompt, {
      special: parseSpecialTokens ?? false,
      addEos: false,
      ...(addSpecialTokens === undefined ? {} : { addBos: addSpecialTokens }),
    });
    return promptOf(encode, (tokens) => shorten(tokens, beginsWithBos ? 1 : 0));
  }

  /** Short texts are encoded at once, so that their generation is on its way when the call returns. */
  #encoder(text: string, options: EncodeOptions): TokensOf {
    return (signal) => encodeText(this.tokenizer, text, options, signal);
  }

  #templateFor(source: string | undefined): ChatTemplate {
    const make = (text: string | undefined, name?: string): ChatTemplate =>
      new ChatTemplate(
        text,
        {
          bosToken: tokenText(this.tokenizer, this.tokenizer.bosTokenId),
          eosToken: tokenText(this.tokenizer, this.tokenizer.eosTokenId),
        },
        name,
      );
    if (source === undefined) return (this.#template ??= make(this.#templateSource));
    const template = this.#givenTemplates.get(source) ?? make(source, "chat: option 'template'");
    this.#givenTemplates.delete(source);
    this.#givenTemplates.set(source, template);
    const [oldest] = this.#givenTemplates.keys();
    if (this.#givenTemplates.size > keptTemplates) this.#givenTemplates.delete(oldest!);
    return template;
  }
}

/** Encodes a text until the signal is aborted. */
type TokensOf = (signal: AbortSignal) => Int32Array | Promise<Int32Array>;

function promptOf(
  encode: TokensOf,
  make: (tokens: Int32Array) => Prompt = (tokens) => ({ tokens }),
): RunInput["prompt"] {
  return (signal) => {
    const tokens = encode(signal);
    return tokens instanceof Promise ? tokens.then(make) : make(tokens);
  };
}

/** A prompt that is too long for the context is the generation's failure, not the call's. */
function unlessTooLong(prompt: () => RunInput["prompt"]): RunInput["prompt"] {
  try {
    return prompt();
  } catch (error) {
    if (!InhouseError.is(error, "ERR_INHOUSE_CONTEXT_OVERFLOW")) throw error;
    return () => {
      throw error;
    };
  }
}

function tokenText(tokenizer: Tokenizer, id: number | undefined): string | undefined {
  return id === undefined ? undefined : tokenizer.tokenText(id);
}

function infoOf(
  { header, described, deviceFallback, engine, draft }: Loaded,
  hasChatTemplate: boolean,
): ModelInfo {
  const { contextLength, maxConcurrent, maxQueue, maxBatchTokens, kvTokens, ...kv } = engine.describe();
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
    embeddingLength: described.embeddingLength,
    pooling: described.pooling === "none" ? "mean" : described.pooling,
    hasChatTemplate,
    device: described.device,
    deviceDescription: described.deviceDescription,
    deviceFallback,
    kvType: { k: kv.kvTypeK, v: kv.kvTypeV },
    maxConcurrent,
    maxQueue,
    maxBatchTokens,
    kvTokens,
    draft: draft?.path,
    memory: {
      weights: described.weightBytes + (draft?.weightBytes ?? 0),
      kv: kv.kvBytes,
      activations: kv.activationBytes,
    },
  };
  Object.freeze(info.kvType);
  Object.freeze(info.memory);
  return Object.freeze(info);
}
