// The steps of a load: the header, then weights and tokenizer side by side, then the engine. All native work runs on
// threads of its own; a load that is aborted rejects at once and its threads end by themselves soon after.
import { AsyncResource } from "node:async_hooks";

import { onAbort } from "./abort.js";
import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import { type ModelHeader, openHeader } from "./header.js";
import type { ResolvedLoad } from "./load-options.js";
import { tokenizerData } from "./metadata.js";
import { native, type NativeEngine, type NativeError, type NativeFile, type NativeModel } from "./native.js";
import { Requests } from "./requests.js";
import { samplingFromMetadata, type SamplingOptions } from "./sampling.js";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";
import type { LoadOptions } from "./types.js";

/** What a load gives. */
export interface Loaded {
  header: ModelHeader;
  tokenizer: Tokenizer;
  /** What the file recommends. */
  sampling: SamplingOptions;
  engine: NativeEngine;
  requests: Requests;
  described: ReturnType<NativeModel["describe"]>;
}

/** Runs a load until it is done, fails, or its signal is aborted. */
export function load(
  { path, overrides, signal, onProgress, model, engine }: ResolvedLoad,
  site: CallSite,
): Promise<Loaded> {
  signal?.throwIfAborted();
  const stop = new AbortController();
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason as Error), { once: true });
  });
  const reasonOf = (error: unknown): unknown => blameOverride(site.translate(error), overrides, site);
  const steps = async (): Promise<Loaded> => {
    const { header, file } = await openHeader(path, overrides, site);
    stop.signal.throwIfAborted();
    const sampling = samplingFromMetadata(header.metadata);
    const progress = new Progress(header, onProgress, stop);
    stop.signal.throwIfAborted();
    const weights = startWeights(file, model, site, stop.signal, progress);
    try {
      const tokenizer = createTokenizer(tokenizerData(header), { signal: stop.signal });
      const [nativeModel, ready] = await Promise.all([weights, tokenizer]);
      stop.signal.throwIfAborted();
      const described = nativeModel.describe();
      const requests = new Requests();
      const made = await startEngine(nativeModel, ready, engine, requests, site);
      try {
        await Promise.race([progress.finish(), stopped]);
        stop.signal.throwIfAborted();
      } catch (error) {
        made.dispose(() => undefined);
        throw error;
      }
      return { header, tokenizer: ready, sampling, engine: made, requests, described };
    } catch (error) {
      // Whichever of the two goes on ends soon.
      stop.abort(reasonOf(error));
      throw error;
    } finally {
      // From here on the engine alone, if there is one, holds the weights; the header's long arrays are not needed.
      file.close();
      void weights.then(
        (nativeModel) => nativeModel.release(),
        () => undefined,
      );
    }
  };
  const forget = onAbort(signal, () => stop.abort(signal?.reason));
  const ended = steps().catch((error: unknown) => {
    throw reasonOf(error);
  });
  return Promise.race([ended, stopped]).finally(forget);
}

/** An error about a value that the caller has put into the file's place is an error of that argument. */
function blameOverride(error: unknown, overrides: readonly string[], site: CallSite): unknown {
  if (!InhouseError.is(error) || error.code === "ERR_INHOUSE_INVALID_ARGUMENT") return error;
  const { message } = error;
  const override = overrides.find((text) => message.includes(text.slice(0, text.indexOf("="))));
  if (override === undefined) return error;
  const blame = `loadModel: override "${override}": ${message}`;
  return site.error("ERR_INHOUSE_INVALID_ARGUMENT", blame, { cause: error });
}

function startWeights(
  file: NativeFile,
  options: ResolvedLoad["model"],
  site: CallSite,
  signal: AbortSignal,
  progress: Progress,
): Promise<NativeModel> {
  return new Promise<NativeModel>((resolve, reject) => {
    const onProgress = AsyncResource.bind((bytes: number) => progress.report(bytes), "InhouseLoad");
    const cancel = native().loadModel(file, options, onProgress, (error: NativeError | null, model) => {
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

/** Progress as `onProgress` promises it: never falling, and full at the end. What that throws stops the load. */
class Progress {
  readonly #total: number;
  readonly #onProgress: LoadOptions["onProgress"];
  readonly #stop: AbortController;
  #loaded = -1;
  /** Settles with all that was returned so far. */
  #told: Promise<unknown> = Promise.resolve();

  constructor(header: ModelHeader, onProgress: LoadOptions["onProgress"], stop: AbortController) {
    this.#total = header.tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    this.#onProgress = onProgress;
    this.#stop = stop;
    this.report(0);
  }

  report(bytes: number): void {
    // The last byte is reported by `finish` alone.
    const loaded = Math.min(bytes, Math.max(0, this.#total - 1));
    if (loaded <= this.#loaded) return;
    this.#loaded = loaded;
    this.#tell(loaded);
  }

  /** The last call; settles when what all calls returned has. */
  finish(): Promise<unknown> {
    this.#tell(this.#total);
    return this.#told;
  }

  #tell(loaded: number): void {
    if (this.#onProgress === undefined || this.#stop.signal.aborted) return;
    try {
      this.#told = Promise.all([this.#told, this.#onProgress({ loaded, total: this.#total })]);
      this.#told.catch((error: unknown) => this.#stop.abort(error));
    } catch (error) {
      this.#stop.abort(error);
    }
  }
}
