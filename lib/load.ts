// The steps of a load: the header, then weights and tokenizer side by side, then the engine. All native work runs on
// threads of its own; a load that is aborted rejects at once and its threads end by themselves soon after.
import { onAbort } from "./abort.js";
import type { CallSite } from "./call-site.js";
import { refuseOtherVocabulary, refuseSameFile } from "./draft.js";
import { InhouseError } from "./errors.js";
import { type ModelHeader, openHeader } from "./header.js";
import type { ResolvedLoad } from "./load-options.js";
import { tokenizerData } from "./metadata.js";
import type { NativeEngine, NativeError, NativeModel } from "./native.js";
import { Requests } from "./requests.js";
import { samplingFromMetadata, type SamplingOptions } from "./sampling.js";
import { createTokenizer, type Tokenizer } from "./tokenizer/tokenizer.js";
import type { LoadOptions } from "./types.js";
import { loadWeights, place, type Place } from "./placement.js";

/** What a load gives. */
export interface Loaded {
  header: ModelHeader;
  tokenizer: Tokenizer;
  /** What the file recommends. */
  sampling: SamplingOptions;
  engine: NativeEngine;
  requests: Requests;
  described: ReturnType<NativeModel["describe"]>;
  /** Why `device: "auto"` took the CPU. */
  deviceFallback: string | undefined;
  /** The draft model's path, and the memory of its weights. */
  draft: { path: string; weightBytes: number } | undefined;
}

/** Runs a load until it is done, fails, or its signal is aborted. */
export function load(
  { path, overrides, signal, onProgress, device, model, engine, draft }: ResolvedLoad,
  site: CallSite,
): Promise<Loaded> {
  signal?.throwIfAborted();
  const stop = new AbortController();
  const stopped = new Promise<never>((_, reject) => {
    stop.signal.addEventListener("abort", () => reject(stop.signal.reason as Error), { once: true });
  });
  const reasonOf = (error: unknown): unknown => blameOverride(site.translate(error), overrides, site);
  const steps = async (): Promise<Loaded> => {
    if (draft !== undefined) await refuseSameFile(path, draft);
    const { header, file } = await openHeader(path, overrides, site);
    const second = draft === undefined ? undefined : await openHeader(draft, [], site);
    stop.signal.throwIfAborted();
    const sampling = samplingFromMetadata(header.metadata);
    const progress = new Progress(second ? [header, second.header] : [header], onProgress, stop);
    stop.signal.throwIfAborted();
    const sources = (second ? [file, second.file] : [file]).map((of) => ({
      file: of,
      report: progress.part(),
    }));
    try {
      const tokenizer = createTokenizer(tokenizerData(header), { signal: stop.signal }).then(async (made) => {
        if (second) await refuseOtherVocabulary({ path, tokenizer: made }, second.header, stop.signal);
        return made;
      });
      const start = async (on: Place) => {
        const models = await loadWeights(sources, { ...model, ...on }, site, stop.signal);
        try {
          const [own, drafting] = models as [NativeModel, NativeModel | undefined];
          const ready = await tokenizer;
          stop.signal.throwIfAborted();
          const requests = new Requests();
          const made = await startEngine(own, drafting, ready, engine, requests, site);
          return { made, requests, described: own.describe(), drafted: drafting?.describe() };
        } finally {
          // From here on the engine alone, if there is one, holds the weights.
          for (const loaded of models) loaded.release();
        }
      };
      const [{ result, fallback }, ready] = await Promise.all([place(device, stop.signal, start), tokenizer]);
      const { made, requests, described, drafted } = result;
      try {
        await Promise.race([progress.finish(), stopped]);
        stop.signal.throwIfAborted();
      } catch (error) {
        made.dispose(() => undefined);
        throw error;
      }
      const drafting = second && drafted && { path: second.header.path, weightBytes: drafted.weightBytes };
      return {
        header,
        tokenizer: ready,
        sampling,
        engine: made,
        requests,
        described,
        deviceFallback: fallback,
        draft: drafting,
      };
    } catch (error) {
      // Whichever of the two goes on ends soon.
      stop.abort(reasonOf(error));
      throw error;
    } finally {
      // The header's long arrays are not needed any more.
      file.close();
      second?.file.close();
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

function startEngine(
  model: NativeModel,
  draft: NativeModel | undefined,
  tokenizer: Tokenizer,
  options: ResolvedLoad["engine"],
  requests: Requests,
  site: CallSite,
): Promise<NativeEngine> {
  const { bytes, offsets } = tokenizer.vocabulary();
  return new Promise((resolve, reject) => {
    const onReady = (error: NativeError | null, engine: NativeEngine): void => {
      if (error) reject(site.native(error));
      else resolve(engine);
    };
    model.createEngine({ bytes, offsets }, options, requests.deliver, onReady, draft);
  });
}

/** Progress as `onProgress` promises it: never falling, and full at the end. What that throws stops the load. */
class Progress {
  readonly #total: number;
  readonly #onProgress: LoadOptions["onProgress"];
  readonly #stop: AbortController;
  readonly #parts: number[] = [];
  #loaded = -1;
  /** Settles with all that was returned so far. */
  #told: Promise<unknown> = Promise.resolve();

  constructor(headers: ModelHeader[], onProgress: LoadOptions["onProgress"], stop: AbortController) {
    const tensors = headers.flatMap((header) => header.tensors);
    this.#total = tensors.reduce((sum, tensor) => sum + tensor.bytes, 0);
    this.#onProgress = onProgress;
    this.#stop = stop;
    this.report(0);
  }

  /** What one of the files reports, in bytes of it. */
  part(): (bytes: number) => void {
    const part = this.#parts.push(0) - 1;
    return (bytes) => {
      this.#parts[part] = bytes;
      this.report(this.#parts.reduce((sum, done) => sum + done, 0));
    };
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
