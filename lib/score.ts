// How likely texts are to follow another.
import { randomUUID } from "node:crypto";

import { onAbort } from "./abort.js";
import { adapterRule, adapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import { hold, textList, type TextOrTokens } from "./embed.js";
import { InhouseError } from "./errors.js";
import { tokenIds } from "./evaluate.js";
import type { NativeAdapterUse } from "./native.js";
import { invalidArgument, readOptions, type Rules, show } from "./options.js";
import { nativeOrder, orderRules } from "./request.js";
import { type Receiver, type RequestEvent, tell } from "./requests.js";
import type { RunHost } from "./run.js";
import { withinTime } from "./time-limit.js";
import { Pacer } from "./tokenizer/slices.js";
import { encodeText, type Tokenizer } from "./tokenizer/tokenizer.js";
import type { ScoreTrace } from "./trace.js";
import type { Adapter, ModelInfo, OrderOptions, PromptOptions, ScaledAdapter } from "./types.js";

/** Options of `score`. Those of `PromptOptions` are about texts; lists of token ids are taken as they are. */
export interface ScoreOptions extends OrderOptions, PromptOptions {
  /** A LoRA adapter of this model. Default: none. */
  adapter?: Adapter | ScaledAdapter | undefined;
  /** Aborts: the promise then rejects with `signal.reason`. */
  signal?: AbortSignal | undefined;
}

/** How likely one continuation is after the prompt. Natural logarithms. */
export interface Score {
  /** Of the whole continuation: the sum of `logprobs`. */
  logprob: number;
  /** The continuation's token ids. */
  tokens: number[];
  /** Of each token, given the prompt and the tokens before it. */
  logprobs: Float32Array;
  /** Whether each token is the most probable one, so that a greedy answer would begin with the continuation. */
  isGreedy: boolean;
}

const scoreRules = {
  ...orderRules,
  addSpecialTokens: { kind: "boolean" },
  parseSpecialTokens: { kind: "boolean" },
  adapter: adapterRule,
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof ScoreOptions, unknown>;

/** A prompt with a continuation: those of its tokens from `from` on are the continuation's. */
interface Item {
  ids: Int32Array;
  from: number;
}

/** `Model.score`, for a model that is not disposed of. */
export async function score(
  host: RunHost,
  info: ModelInfo,
  tokenizer: Tokenizer,
  prompt: TextOrTokens,
  continuations: readonly TextOrTokens[],
  given: ScoreOptions,
  site: CallSite,
  trace?: ScoreTrace,
): Promise<Score[]> {
  if (typeof prompt !== "string" && (typeof prompt !== "object" || (prompt as unknown) === null)) {
    throw invalidArgument(`score: the prompt is ${show(prompt)}; expected a text or a list of token ids`);
  }
  const list = textList("score", "continuation", continuations);
  const options = readOptions("score", given, scoreRules);
  const use = adapterUse("score", options.adapter, host.adapterOwner);
  if (trace) trace.continuations = list.length;
  options.signal?.throwIfAborted();
  const held = hold(use);
  // With cachePrompt false, the continuations share their prompt among themselves alone.
  const own = options.cachePrompt === false ? randomUUID() : undefined;
  const scoped = own === undefined ? options : { ...options, cachePrompt: true, cacheScope: own };
  try {
    const items = await withinTime(options, site, (ended) =>
      encode(prompt, list, info.contextLength, tokenizer, options, ended),
    );
    if (trace) trace.tokens = items.reduce((sum, { ids }) => sum + ids.length, 0);
    if (items.length === 0) return [];
    return await new Promise((resolve, reject) => {
      new Scoring(host, items, info.maxConcurrent, scoped, held, site, resolve, reject).start();
    });
  } catch (error) {
    throw site.translate(error);
  } finally {
    if (own !== undefined) {
      tell(() => {
        host.engine.forget({ cacheScope: own, ...held });
      });
    }
    use?.adapter.drop();
  }
}

/**
 * Where both are texts, they are encoded as one text, and the continuation has the tokens after those of the prompt by
 * itself; where the two texts run together into other tokens, each is encoded by itself. White space at the prompt's end
 * counts to the continuation, with whose first word it makes one token in most vocabularies.
 */
async function encode(
  prompt: TextOrTokens,
  continuations: readonly TextOrTokens[],
  contextLength: number,
  tokenizer: Tokenizer,
  { addSpecialTokens, parseSpecialTokens = false }: ScoreOptions,
  signal: AbortSignal,
): Promise<Item[]> {
  const pacer = new Pacer(signal);
  const encodeOne = async (text: string, addBos: boolean | undefined): Promise<Int32Array> => {
    const own = { special: parseSpecialTokens, addEos: false, ...(addBos === undefined ? {} : { addBos }) };
    if (pacer.isDue) await pacer.pause();
    return encodeText(tokenizer, text, own, signal);
  };
  const kept = typeof prompt === "string" ? prompt.trimEnd() || prompt : undefined;
  const moved = kept === undefined ? "" : (prompt as string).slice(kept.length);
  const begin =
    kept === undefined ? tokenIds("score", prompt, contextLength) : await encodeOne(kept, addSpecialTokens);
  if (begin.length === 0) {
    throw invalidArgument(
      "score: the prompt is empty, and no BOS begins it; expected at least one token that the continuations follow",
    );
  }
  const items: Item[] = [];
  for (const [i, continuation] of continuations.entries()) {
    let ids: Int32Array;
    if (typeof continuation === "string") {
      const whole =
        kept === undefined ? undefined : await encodeOne(kept + moved + continuation, addSpecialTokens);
      if (whole && begin.every((id, at) => id === whole[at])) ids = whole;
      else ids = joined(begin, await encodeOne(moved + continuation, false));
    } else {
      const own =
        continuation.length === 0 ? [] : tokenIds(`score: continuation ${i}`, continuation, Infinity);
      ids = joined(begin, own);
    }
    if (ids.length > contextLength) {
      throw new InhouseError(
        "ERR_INHOUSE_CONTEXT_OVERFLOW",
        `score: the prompt and continuation ${i} have ${begin.length} and ${ids.length - begin.length} tokens, more than ` +
          `the context of ${contextLength}; shorten them or load the model with a larger contextLength`,
      );
    }
    items.push({ ids, from: begin.length });
  }
  return items;
}

function joined(begin: Int32Array, end: ArrayLike<number>): Int32Array {
  const ids = new Int32Array(begin.length + end.length);
  ids.set(begin);
  ids.set(end, begin.length);
  return ids;
}

/** Keeps as many requests in the engine as can run at once; they share the prompt's blocks. */
class Scoring {
  readonly #scores: Score[];
  readonly #running = new Set<number>();
  #next = 0;
  #over = false;
  #forgetSignal = (): void => undefined;

  constructor(
    private readonly host: RunHost,
    private readonly items: readonly Item[],
    private readonly most: number,
    private readonly options: ScoreOptions,
    private readonly adapter: NativeAdapterUse,
    private readonly site: CallSite,
    private readonly resolve: (scores: Score[]) => void,
    private readonly reject: (reason: unknown) => void,
  ) {
    this.#scores = items.map(({ ids, from }) => ({
      logprob: 0,
      tokens: Array.from(ids.subarray(from)),
      logprobs: new Float32Array(ids.length - from),
      isGreedy: true,
    }));
  }

  start(): void {
    const { signal } = this.options;
    this.#forgetSignal = onAbort(signal, () => this.#fail(signal?.reason));
    this.#go();
  }

  #go(): void {
    while (!this.#over && this.#next < this.items.length && this.#running.size < this.most) {
      const { ids, from } = this.items[this.#next]!;
      // Nothing follows the prompt: that is certain.
      if (ids.length > from && !this.#submit(ids, from)) return;
      this.#next++;
    }
    if (this.#over || this.#running.size > 0) return;
    this.#finish();
    this.resolve(this.#scores);
  }

  /** False where the queue is full of other requests; one of ours that ends then makes room. */
  #submit(ids: Int32Array, from: number): boolean {
    let request: number;
    try {
      request = this.host.engine.submit(ids, {
        ...nativeOrder(this.options, this.site),
        ...this.adapter,
        evaluate: true,
        evaluateRows: false,
        evaluateGreedy: true,
        logitsFrom: from - 1,
      });
    } catch (error) {
      const reason = this.site.translate(error);
      if (InhouseError.is(reason, "ERR_INHOUSE_QUEUE_FULL") && this.#running.size > 0) return false;
      this.#fail(reason);
      return false;
    }
    this.#running.add(request);
    const result = this.#scores[this.#next]!;
    const receiver: Receiver = {
      receive: (event) => this.#take(event, from, result),
      lost: () => this.#lost(),
    };
    this.host.requests.add(request, receiver);
    return true;
  }

  #take({ request, details }: RequestEvent, from: number, result: Score): void {
    if (this.#over) return;
    const { finish, first = 0, tokenLogprobs, greedy, error } = details;
    if (tokenLogprobs) {
      result.logprobs.set(tokenLogprobs, first + 1 - from);
      for (const logprob of tokenLogprobs) result.logprob += logprob;
      if (greedy?.includes(0)) result.isGreedy = false;
    }
    if (finish === "none") tell(() => this.host.engine.acknowledge(request));
    else if (finish === "error") this.#fail(this.site.native(error));
    else if (finish === "cancelled") this.#lost();
    else {
      this.#running.delete(request);
      this.#go();
    }
  }

  #lost(): void {
    this.#fail(this.site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of while it scored"));
  }

  #fail(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    for (const request of this.#running) tell(() => this.host.engine.cancel(request));
    this.reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.#forgetSignal();
  }
}
