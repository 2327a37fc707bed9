// Log-probabilities of a list of tokens.
import { AsyncResource } from "node:async_hooks";

import { onAbort } from "./abort.js";
import { adapterRule, type AdapterUse, adapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import type { NativeDetails } from "./native.js";
import { attempt, checkTokenList, invalidArgument, readOptions, type Rules, show } from "./options.js";
import { nativeOrder, orderRules } from "./request.js";
import { type Receiver, type RequestEvent, tell } from "./requests.js";
import { perSecond, type RunHost } from "./run.js";
import { onTimeout } from "./time-limit.js";
import type { EvaluateTrace } from "./trace.js";
import type { EvaluateOptions, EvaluateResult, ModelInfo } from "./types.js";

/** Rows are copied to JavaScript in pieces of about this size, between which the event loop is free. */
const pieceBytes = 2 << 20;

const evaluateRules = {
  ...orderRules,
  onRows: { kind: "function" },
  adapter: adapterRule,
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof EvaluateOptions, unknown>;

/** Throws ERR_INHOUSE_CONTEXT_OVERFLOW for tokens that no context holds. */
export function checkLength({ length }: ArrayLike<unknown>, contextLength: number): void {
  if (length <= contextLength) return;
  throw new InhouseError(
    "ERR_INHOUSE_CONTEXT_OVERFLOW",
    `the prompt has ${length} tokens, which leaves no room in the context of ${contextLength}; ` +
      "shorten it or load the model with a larger contextLength",
  );
}

/**
 * Token ids as the engine takes them; those outside the vocabulary are left to it. Throws ERR_INHOUSE_INVALID_ARGUMENT,
 * and ERR_INHOUSE_CONTEXT_OVERFLOW before it looks at any.
 */
export function tokenIds(call: string, tokens: unknown, contextLength: number): Int32Array {
  checkTokenList(call, tokens);
  checkLength(tokens, contextLength);
  const { length } = tokens;
  const ids = new Int32Array(length);
  for (let i = 0; i < length; i++) {
    const id = attempt(`${call}: token ${i}`, () => tokens[i]);
    if (typeof id !== "number" || (id | 0) !== id || id < 0) {
      throw invalidArgument(
        `${call}: token ${i} is ${show(id)}; expected a token id (a whole number from 0)`,
      );
    }
    ids[i] = id;
  }
  if (ids.length === 0)
    throw invalidArgument(`${call}: the tokens are empty; expected at least one token id`);
  return ids;
}

/** `Model.evaluate`, for a model that is not disposed of. */
export async function evaluate(
  host: RunHost,
  { vocabularySize, contextLength }: ModelInfo,
  tokens: ArrayLike<number>,
  options: EvaluateOptions,
  site: CallSite,
  trace?: EvaluateTrace,
): Promise<EvaluateResult> {
  const ids = tokenIds("evaluate", tokens, contextLength);
  const read = readOptions("evaluate", options, evaluateRules);
  if (trace) trace.tokens = ids.length;
  return new Promise((resolve, reject) => {
    const adapter = adapterUse("evaluate", read.adapter, host.adapterOwner);
    const evaluation = new Evaluation(host, vocabularySize, ids.length, read, site, resolve, reject);
    evaluation.start(ids, adapter);
  });
}

class Evaluation extends AsyncResource implements Receiver {
  readonly #logprobs: Float32Array;
  #request: number | undefined;
  #over = false;
  #forgetSignal = (): void => undefined;
  #forgetTime = (): void => undefined;
  /** Pieces are handed out one after the other, also of events that come early. */
  #queue: Promise<void> = Promise.resolve();

  constructor(
    private readonly host: RunHost,
    private readonly vocabulary: number,
    count: number,
    private readonly options: EvaluateOptions,
    private readonly site: CallSite,
    private readonly resolve: (result: EvaluateResult) => void,
    private readonly reject: (reason: unknown) => void,
  ) {
    super("InhouseEvaluation");
    this.#logprobs = new Float32Array(count - 1);
  }

  start(ids: Int32Array, use: AdapterUse | undefined): void {
    const { signal, onRows } = this.options;
    if (signal?.aborted) {
      this.#fail(signal.reason);
      return;
    }
    try {
      const spec = {
        evaluate: true,
        evaluateRows: onRows !== undefined,
        evaluateGreedy: false,
        logitsFrom: 0,
        ...nativeOrder(this.options, this.site),
      } as const;
      const adapter = use?.adapter.hold() ?? null;
      try {
        this.#request = this.host.engine.submit(ids, { ...spec, adapter, adapterScale: use?.scale ?? 1 });
      } finally {
        use?.adapter.drop();
      }
      this.host.requests.add(this.#request, this);
      this.#forgetTime = onTimeout(this.options.timeoutMs, this.site, (error) => {
        this.#cancel();
        this.#fail(error);
      });
      this.#forgetSignal = onAbort(signal, () => {
        this.#cancel();
        this.#fail(signal?.reason);
      });
    } catch (error) {
      this.#fail(this.site.translate(error));
    }
  }

  receive({ details }: RequestEvent): void {
    const { finish, error } = details;
    // What ended early does not wait for `onRows`, which may never settle.
    if (finish === "cancelled") this.lost();
    else if (finish === "error") this.#fail(this.site.native(error));
    else {
      if (finish !== "none") this.host.requests.fallBehind(this);
      this.#queue = this.#queue.then(() => this.runInAsyncScope(() => this.#take(details)));
    }
  }

  lost(): void {
    this.#fail(this.site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of while it evaluated"));
  }

  async #take(event: NativeDetails): Promise<void> {
    if (this.#over) return;
    const { finish, first = 0, tokenLogprobs, rowCount = 0 } = event;
    try {
      if (tokenLogprobs) this.#logprobs.set(tokenLogprobs, first);
      if (rowCount > 0) await this.#handOut(first, rowCount);
      if (tokenLogprobs) tell(() => this.host.engine.acknowledge(this.#request!));
    } catch (error) {
      this.#cancel();
      this.#fail(error);
      return;
    }
    if (finish !== "none") this.#end(event);
  }

  async #handOut(first: number, rowCount: number): Promise<void> {
    const step = Math.max(1, Math.floor(pieceBytes / (4 * this.vocabulary)));
    for (let from = 0; from < rowCount && !this.#over; from += step) {
      if (from > 0) await new Promise(setImmediate);
      const count = Math.min(step, rowCount - from);
      const rows = this.#call(() => this.host.engine.rows(this.#request!, from, count));
      await this.options.onRows?.({ first: first + from, count, rows });
    }
  }

  /** What the engine gives; its errors become ours, and those of `onRows` stay as they are. */
  #call<T>(action: () => T): T {
    try {
      return action();
    } catch (error) {
      throw this.site.translate(error);
    }
  }

  #end(event: NativeDetails): void {
    if (this.#over) return;
    this.#finish();
    const { promptTokens = 0, completionTokens = 0, queueMs = 0, promptMs = 0 } = event.usage ?? {};
    this.resolve({
      logprobs: this.#logprobs,
      usage: { promptTokens, cachedTokens: 0, completionTokens },
      timings: { queueMs, promptMs, promptTokensPerSecond: perSecond(promptTokens, promptMs) },
    });
  }

  #fail(reason: unknown): void {
    if (this.#over) return;
    this.#finish();
    this.reject(reason);
  }

  #finish(): void {
    this.#over = true;
    this.host.requests.caughtUp(this);
    this.#forgetSignal();
    this.#forgetTime();
  }

  #cancel(): void {
    const request = this.#request;
    if (request !== undefined) tell(() => this.host.engine.cancel(request));
  }
}
