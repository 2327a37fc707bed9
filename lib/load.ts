// The steps of a load: the header, then weights and tokenizer side by side, then the engine. All native work runs on
// threads of its own; a load that is aborted rejects at once and its threads end by themselves soon after.
import { AsyncResource } from "node:async_hooks";

import type { CallSite } from "./call-site.js";
import { type ModelHeader, openHeader } from "./header.js";
import type { ResolvedLoad } from "./load-options.js";
import { tokenizerData } from "./metadata.js";
import { native, type NativeEngine, type NativeError, type NativeModel } from "./native.js";
import { Requests } from "./requests.js";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";
import type { LoadProgress } from "./types.js";

/** What a load gives. */
export interface Loaded {
  header: ModelHeader;
  tokenizer: Tokenizer;
  engine: NativeEngine;
  requests: Requests;
  described: ReturnType<NativeModel["describe"]>;
}

/** Runs a load until it is done, fails, or `signal` is aborted. */
export function load(
  { model, engine }: ResolvedLoad,
  site: CallSite,
  signal: AbortSignal | undefined,
  onProgress: ((progress: LoadProgress) => void) | undefined,
): Promise<Loaded> {
  signal?.throwIfAborted();
  const stop = new AbortController();
  const steps = async (): Promise<Loaded> => {
    const header = await openHeader(model.path, model.overrides, site);
    stop.signal.throwIfAborted();
    const progress = new Progress(header, onProgress);
    const weights = startWeights(model, site, stop.signal, progress, (reason) => stop.abort(reason));
    const tokenizer = createTokenizer(tokenizerData(header), { signal: stop.signal });
    tokenizer.catch((error: unknown) => stop.abort(error));
    const [nativeModel, ready] = await Promise.all([weights, tokenizer]);
    stop.signal.throwIfAborted();
    const described = nativeModel.describe();
    const requests = new Requests();
    const made = await startEngine(nativeModel, ready, engine, requests, site);
    // From here on the engine alone holds the weights.
    nativeModel.release();
    if (stop.signal.aborted) {
      made.dispose(() => undefined);
      throw stop.signal.reason;
    }
    progress.finish();
    return { header, tokenizer: ready, engine: made, requests, described };
  };
  return new Promise((resolve, reject) => {
    const onAbort = (): void => stop.abort(signal?.reason);
    signal?.addEventListener("abort", onAbort, { once: true });
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason as Error), { once: true });
    steps()
      .then(resolve, (error: unknown) => reject(site.translate(error) as Error))
      .finally(() => signal?.removeEventListener("abort", onAbort));
  });
}

function startWeights(
  options: ResolvedLoad["model"],
  site: CallSite,
  signal: AbortSignal,
  progress: Progress,
  stop: (reason: unknown) => void,
): Promise<NativeModel> {
  return new Promise<NativeModel>((resolve, reject) => {
    const onProgress = AsyncResource.bind((bytes: number): void => {
      try {
        if (!signal.aborted) progress.report(bytes);
      } catch (error) {
        stop(error);
      }
    }, "InhouseLoad");
    const cancel = native().loadModel(options, onProgress, (error: NativeError | null, model) => {
      if (error) reject(signal.aborted ? (signal.reason as Error) : site.native(error));
      else if (signal.aborted) {
        model.release();
        reject(signal.reason as Error);
      } else resolve(model);
    });
    signal.addEventListener("abort", cancel, { once: true });
  });
}

function startEngine(
  model: NativeModel,
  tokenizer: Tokenizer,
  options: ResolvedLoad["engine"],
  requests: Requests,
  site: CallSite,
): Promise<NativeEngine> {
  const { bytes, offsets } = tokenizer.vocabulary();
  return new Promise((resolve, reject) => {
    model.createEngine({ bytes, offsets }, options, requests.deliver, (error, engine) => {
      if (error) reject(site.native(error));
      else resolve(engine);
    });
  });
}

/** Progress as `onProgress` promises it: never falling, and full at the end. */
class Progress {
  readonly #total: number;
  readonly #tell: ((progress: LoadProgress) => void) | undefined;
  #loaded = -1;

  constructor(header: ModelHeader, tell: ((progress: LoadProgress) => void) | undefined) {
    this.#total = header.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    this.#tell = tell;
    this.report(0);
  }

  report(bytes: number): void {
    // The last byte is reported by `finish` alone.
    const loaded = Math.min(bytes, Math.max(0, this.#total - 1));
    if (loaded <= this.#loaded) return;
    this.#loaded = loaded;
    this.#tell?.({ loaded, total: this.#total });
  }

  finish(): void {
    this.#tell?.({ loaded: this.#total, total: this.#total });
  }
}
