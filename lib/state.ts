// Computed prefixes of a model, to a file and back. The native core does it on a thread of its own.
import { onAbort } from "./abort.js";
import type { CallSite } from "./call-site.js";
import { filePath } from "./load-options.js";
import type { NativeEngine, NativeError, NativeState } from "./native.js";
import { readOptions, type Rules } from "./options.js";
import type { LoadedState, LoadStateOptions, SavedState, SaveStateOptions } from "./types.js";

const loadStateRules = {
  cacheScope: { kind: "string" },
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof LoadStateOptions, unknown>;

const saveStateRules = {
  ...loadStateRules,
  maxBytes: { kind: "integer", min: 0, max: Number.MAX_SAFE_INTEGER },
} as const satisfies Rules & Record<keyof SaveStateOptions, unknown>;

/** Tokens of a block of the key/value cache. */
const blockTokens = 32;

/** The saves and loads of one engine that run. */
export class StateTransfers {
  readonly #running = new Map<() => void, Promise<unknown>>();
  #ended = false;

  constructor(private readonly engine: NativeEngine) {}

  async save(path: unknown, given: SaveStateOptions, site: CallSite): Promise<SavedState> {
    const file = filePath("saveState", path);
    const { cacheScope = "", maxBytes, signal } = readOptions("saveState", given, saveStateRules);
    const { blocks, bytes } = await this.#run(signal, site, (done) =>
      this.engine.saveState(file, cacheScope, maxBytes ?? Number.MAX_SAFE_INTEGER, done),
    );
    return { tokens: blocks * blockTokens, blocks, bytes };
  }

  async load(path: unknown, given: LoadStateOptions, site: CallSite): Promise<LoadedState> {
    const file = filePath("loadState", path);
    const { cacheScope = "", signal } = readOptions("loadState", given, loadStateRules);
    const { blocks } = await this.#run(signal, site, (done) =>
      this.engine.loadState(file, cacheScope, 0, done),
    );
    return { tokens: blocks * blockTokens, blocks };
  }

  /** Stops all. They have to end before the engine does: the promise, where any runs. */
  end(): Promise<unknown> | undefined {
    this.#ended = true;
    for (const cancel of this.#running.keys()) cancel();
    return this.#running.size > 0 ? Promise.allSettled(this.#running.values()) : undefined;
  }

  #run(
    signal: AbortSignal | undefined,
    site: CallSite,
    start: (done: (error: NativeError | null, report: NativeState) => void) => () => void,
  ): Promise<NativeState> {
    signal?.throwIfAborted();
    let cancel = (): void => undefined;
    let forget = cancel;
    const ended = new Promise<NativeState>((resolve, reject) => {
      try {
        cancel = start((error, report) => {
          if (error === null) resolve(report);
          else if (error.code !== "ERR_INHOUSE_ABORTED") reject(site.native(error));
          else if (this.#ended) reject(site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of"));
          else reject(signal?.reason as Error);
        });
      } catch (error) {
        const reason = site.translate(error) as Error;
        reject(reason);
        return;
      }
      forget = onAbort(signal, cancel);
    }).finally(() => {
      forget();
      this.#running.delete(cancel);
    });
    this.#running.set(cancel, ended);
    return ended;
  }
}
