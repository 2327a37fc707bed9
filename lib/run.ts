// One generation at work, from the call to its last event. What users hold is a Generation over it (generate.ts); a
// run never refers to that, except while somebody waits on it, so that a generation nobody keeps can be noticed.
import { AsyncResource } from "node:async_hooks";
import { types } from "node:util";
import { performance } from "node:perf_hooks";

import { onAbort } from "./abort.js";
import type { AdapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import type { NativeAdapter, NativeEngine, NativeUsage } from "./native.js";
import { invalidArgument, show } from "./options.js";
import { type GenerateSpec, nativeOrder } from "./request.js";
import { type Receiver, type RequestEvent, type Requests, tell } from "./requests.js";
import { onTimeout } from "./time-limit.js";
import { Utf8Stream } from "./tokenizer/tokenizer.js";
import type { GenerateTrace } from "./trace.js";
import type {
  Delta,
  FinishReason,
  GenerationResult,
  LogitsProcessor,
  OrderOptions,
  SampledLogprob,
  Timings,
} from "./types.js";

/** What a run needs of its model; holding it keeps the model alive. */
export interface RunHost {
  readonly engine: NativeEngine;
  readonly requests: Requests;
  readonly adapterOwner: object;
  /** Runs that have not ended, for `dispose`. */
  readonly running: Set<Run>;
}

/** Something that reads the deltas, one at a time. */
interface Reader {
  resolve(result: IteratorResult<Delta, void>): void;
  reject(reason: unknown): void;
  /** What the reader waits through; alive as long as the reader waits, though nobody else refers to it. */
  through: unknown;
}

/** A prompt's token ids, and what became of those that did not fit. */
export interface Prompt {
  tokens: Int32Array;
  /** Tokens that stay where the context is full and the oldest ones are dropped; without, the answer ends there. */
  keep?: number;
  /** Dropped already. */
  dropped?: { messages: number; tokens: number };
}

export interface RunInput {
  site: CallSite;
  spec: GenerateSpec;
  order: OrderOptions;
  seed: number;
  adapter: AdapterUse | undefined;
  signal: AbortSignal | undefined;
  /** Of the samples of one prompt, which are refused together: aborted by the first one that finds the queue full. */
  siblings: AbortController | undefined;
  /** May encode in slices until the signal given to it is aborted. */
  prompt: (signal: AbortSignal) => Prompt | Promise<Prompt>;
  logitsProcessor: LogitsProcessor | undefined;
  trace: GenerateTrace | undefined;
}

/** Tokens that nobody has read, at which a run that nobody waits for is paused, and at which it goes on. */
const mostUnread = 256;
const fewUnread = 64;

/** Tokens that wait for text, at which they make a delta without any. */
const mostUnsent = 32;

const noUsage: NativeUsage = {
  promptTokens: 0,
  cachedTokens: 0,
  computedPromptTokens: 0,
  droppedTokens: 0,
  completionTokens: 0,
  draftTokens: 0,
  acceptedDraftTokens: 0,
  queueMs: 0,
  promptMs: 0,
  decodeMs: 0,
};

/** Tokens per second; 0 where there were none. */
export function perSecond(tokens: number, ms: number): number {
  return ms > 0 && tokens > 0 ? (1000 * tokens) / ms : 0;
}

export class Run extends AsyncResource implements Receiver {
  /** Settles with the run's end; never an unhandled rejection. */
  readonly ended: Promise<GenerationResult>;
  /** What somebody awaits the end through, for the same reason as a reader's. */
  #awaited: unknown;

  readonly #host: RunHost;
  readonly #site: CallSite;
  readonly #input: RunInput;
  #settle!: { resolve(result: GenerationResult): void; reject(reason: unknown): void };
  #request: number | undefined;
  /** Until the engine has it: the adapter may be disposed of while a long prompt is encoded. */
  #adapter: NativeAdapter | null;
  #prompt: Prompt = { tokens: new Int32Array() };
  #paused = false;
  #over = false;
  #closed = false;
  #failure: { reason: unknown } | undefined;
  readonly #encoding = new AbortController();
  /** Ends the waiting for signals and for the time. */
  #forget: (() => void)[] = [];

  // What has come, and what nobody has read of it.
  readonly #utf8 = new Utf8Stream();
  #text = "";
  readonly #tokens: number[] = [];
  readonly #logprobs: SampledLogprob[] = [];
  readonly #promptLogprobs: number[] = [];
  #unsent: { tokens: number[]; logprobs: SampledLogprob[] } = { tokens: [], logprobs: [] };
  readonly #deltas: Delta[] = [];
  /** Tokens of both. */
  #unread = 0;
  readonly #readers: Reader[] = [];

  #submitted = 0;
  #firstToken = 0;

  constructor(host: RunHost, input: RunInput) {
    super("InhouseGeneration");
    this.#host = host;
    this.#site = input.site;
    this.#input = input;
    this.#adapter = input.adapter?.adapter.hold() ?? null;
    this.ended = new Promise((resolve, reject) => {
      this.#settle = { resolve, reject };
    });
    this.ended.catch(() => undefined);
    host.running.add(this);
    for (const signal of [input.signal, input.siblings?.signal]) {
      if (signal?.aborted) {
        this.#fail(signal.reason);
        return;
      }
      this.#forget.push(onAbort(signal, () => this.#stop(signal?.reason)));
    }
    this.#start();
  }

  get isOver(): boolean {
    return this.#over;
  }

  /** Somebody awaits the end, through this object: the run does not wait for readers any more. */
  awaitEnd(through: unknown): void {
    if (this.#over) return;
    this.#awaited = through;
    this.#resume();
  }

  /** The next delta; `done` at the end. */
  next(through: unknown): Promise<IteratorResult<Delta, void>> {
    return new Promise((resolve, reject) => {
      const delta = this.#deltas.shift();
      this.#unread -= delta?.tokens.length ?? 0;
      if (this.#unread <= fewUnread) this.#resume();
      if (delta) resolve({ done: false, value: delta });
      // A signal's reason may be anything.
      // eslint-disable-next-line @typescript-eslint/prefer-promise-reject-errors
      else if (this.#failure && !this.#closed) reject(this.#failure.reason);
      else if (this.#over || this.#closed) resolve({ done: true, value: undefined });
      else this.#readers.push({ resolve, reject, through });
    });
  }

  /** Ends the run within a step; what has come stays. Nothing happens once it is over. */
  cancel(): void {
    if (this.#over) return;
    this.#encoding.abort();
    if (this.#request === undefined) this.#end("cancelled", undefined, noUsage);
    else this.#cancelRequest();
  }

  /** Leaves the loop: pending reads end, unread deltas are dropped. */
  close(): void {
    this.cancel();
    this.#closed = true;
    this.#deltas.length = 0;
    for (const reader of this.#readers.splice(0)) reader.resolve({ done: true, value: undefined });
  }

  /** Fails, whatever it is at. */
  #stop(reason: unknown): void {
    this.#encoding.abort();
    this.#cancelRequest();
    this.#fail(reason);
  }

  #start(): void {
    try {
      const prompt = this.#input.prompt(this.#encoding.signal);
      if (prompt instanceof Promise) {
        const { order, site } = this.#input;
        this.#forget.push(onTimeout(order.timeoutMs, site, (error) => this.#stop(error)));
        prompt.then(
          (tokens) => this.runInAsyncScope(() => this.#submit(tokens)),
          (error: unknown) => this.#fail(this.#site.translate(error)),
        );
      } else this.#submit(prompt);
    } catch (error) {
      this.#fail(this.#site.translate(error));
    }
  }

  #submit(prompt: Prompt): void {
    if (this.#over) return;
    this.#prompt = prompt;
    if (this.#input.trace) this.#input.trace.promptTokens = prompt.tokens.length;
    this.#submitted = performance.now();
    try {
      const { spec, order, adapter } = this.#input;
      const use = { adapter: this.#adapter, adapterScale: adapter?.scale ?? 1 };
      this.#request = this.#host.engine.submit(prompt.tokens, {
        ...spec,
        ...nativeOrder(order, this.#site),
        ...use,
        shiftKeep: prompt.keep ?? -1,
      });
      this.#host.requests.add(this.#request, this);
    } catch (error) {
      const reason = this.#site.translate(error);
      if (InhouseError.is(reason, "ERR_INHOUSE_QUEUE_FULL")) this.#input.siblings?.abort(reason);
      this.#fail(reason);
    }
    this.#dropAdapter();
  }

  #dropAdapter(): void {
    if (this.#adapter === null) return;
    this.#adapter = null;
    this.#input.adapter?.adapter.drop();
  }

  #cancelRequest(): void {
    this.#order((engine, request) => engine.cancel(request));
  }

  #pause(): void {
    if (this.#paused || this.#over || this.#awaited !== undefined) return;
    this.#paused = true;
    this.#order((engine, request) => engine.pause(request));
  }

  #resume(): void {
    if (!this.#paused) return;
    this.#paused = false;
    this.#order((engine, request) => engine.resume(request));
  }

  #order(order: (engine: NativeEngine, request: number) => void): void {
    const request = this.#request;
    if (request !== undefined) tell(() => order(this.#host.engine, request));
  }

  // Nothing of the user's is called here but `#process`: who awaits a promise has his own async context back anyway.
  receive({ tokens, text, details }: RequestEvent): void {
    if (this.#over) return;
    const { finish, logprobs, tokenLogprobs } = details;
    if (tokenLogprobs) this.#promptLogprobs.push(...tokenLogprobs);
    if (details.rowCount) this.runInAsyncScope(() => void this.#process());
    if (tokens.length > 0 && this.#tokens.length === 0) this.#firstToken = performance.now();
    this.#unread += tokens.length;
    for (const token of tokens) {
      this.#tokens.push(token);
      this.#unsent.tokens.push(token);
    }
    for (const entry of logprobs ?? []) {
      this.#logprobs.push(entry);
      this.#unsent.logprobs.push(entry);
    }
    const complete = this.#utf8.push(text);
    if (finish === "none") {
      if (complete !== "" || this.#unsent.tokens.length >= mostUnsent) this.#emit(complete);
      if (this.#unread >= mostUnread) this.#pause();
    } else if (finish === "error") this.#fail(this.#site.native(details.error));
    else {
      this.#flush(complete);
      this.#end(finish, details.stop, details.usage ?? noUsage);
    }
  }

  lost(): void {
    if (this.#over) return;
    this.#flush("");
    this.#end("cancelled", undefined, { ...noUsage, completionTokens: this.#tokens.length });
  }

  /** Those of the next token; none where the request, or the engine, has ended meanwhile, which is told soon. */
  #logits(engine: NativeEngine, request: number): Float32Array | undefined {
    try {
      return engine.rows(request, 0, 1);
    } catch (error) {
      const reason = this.#site.translate(error);
      if (InhouseError.is(reason, "ERR_INHOUSE_OUT_OF_MEMORY")) throw reason;
      return undefined;
    }
  }

  /** Lets the caller change the logits of the next token. */
  async #process(): Promise<void> {
    try {
      const [engine, request] = [this.#host.engine, this.#request!];
      const logits = this.#logits(engine, request);
      if (!logits) return;
      const count = logits.length; // which its array no longer tells where a processor gives it to another thread
      const changed: unknown = (await this.#input.logitsProcessor!(logits, this.#tokens)) ?? logits;
      if (this.#over) return;
      if (!types.isFloat32Array(changed) || changed.length !== count) {
        throw invalidArgument(
          `logitsProcessor: it returned ${show(changed)}; expected nothing or a Float32Array of ${count} logits`,
        );
      }
      this.#order(() => engine.provide(request, changed));
    } catch (error) {
      this.#cancelRequest();
      this.#fail(error);
    }
  }

  /** The last delta: with bytes that never became a character, and tokens without text. */
  #flush(text: string): void {
    const last = text + this.#utf8.flush();
    if (last !== "" || this.#unsent.tokens.length > 0) this.#emit(last);
  }

  #emit(text: string): void {
    this.#text += text;
    const delta: Delta = { type: "text", text, tokens: this.#unsent.tokens };
    if (this.#input.spec.topLogprobs >= 0) delta.logprobs = this.#unsent.logprobs;
    this.#unsent = { tokens: [], logprobs: [] };
    const reader = this.#readers.shift();
    if (!reader && !this.#closed) {
      this.#deltas.push(delta);
      return;
    }
    this.#unread -= delta.tokens.length;
    reader?.resolve({ done: false, value: delta });
  }

  #end(finishReason: FinishReason, stopSequence: string | undefined, usage: NativeUsage): void {
    if (this.#over) return;
    this.#finish();
    for (const reader of this.#readers.splice(0)) reader.resolve({ done: true, value: undefined });
    const result: GenerationResult = {
      text: this.#text,
      tokens: this.#tokens,
      promptTokens: Array.from(this.#prompt.tokens),
      finishReason,
      usage: {
        promptTokens: this.#prompt.tokens.length,
        cachedTokens: usage.cachedTokens,
        completionTokens: usage.completionTokens,
      },
      timings: this.#timings(usage),
      seed: this.#input.seed,
    };
    if (stopSequence !== undefined) result.stopSequence = stopSequence;
    if (this.#input.spec.topLogprobs >= 0) result.logprobs = this.#logprobs;
    if (this.#input.spec.promptLogprobs) result.promptLogprobs = this.#promptLogprobs;
    if (this.#prompt.keep !== undefined) {
      const { messages = 0, tokens = 0 } = this.#prompt.dropped ?? {};
      result.dropped = { messages, tokens: tokens + usage.droppedTokens };
    }
    this.#settle.resolve(result);
  }

  #fail(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.#failure = { reason };
    this.#deltas.length = 0;
    for (const reader of this.#readers.splice(0)) reader.reject(reason);
    this.#settle.reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.#dropAdapter();
    for (const forget of this.#forget) forget();
    this.#host.running.delete(this);
    this.#awaited = undefined;
  }

  #timings(usage: NativeUsage): Timings {
    const encoded = this.#submitted > 0 ? this.#submitted : performance.now();
    return {
      queueMs: encoded - this.#site.called + usage.queueMs,
      promptMs: usage.promptMs,
      decodeMs: usage.decodeMs,
      promptTokensPerSecond: perSecond(usage.computedPromptTokens, usage.promptMs),
      decodeTokensPerSecond: perSecond(usage.completionTokens - 1, usage.decodeMs),
      timeToFirstTokenMs: this.#firstToken > 0 ? this.#firstToken - this.#site.called : 0,
      draftTokens: usage.draftTokens,
      acceptedDraftTokens: usage.acceptedDraftTokens,
    };
  }
}
