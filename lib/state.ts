// Computed prefixes of a model, to a file and back. The native core does it on a thread of its own.
import { constants, open, realpath } from "node:fs/promises";

import { onAbort } from "./abort.js";
import { adapterRule, adapterUse } from "./adapter.js";
import type { CallSite } from "./call-site.js";
import { checkLength, tokenIds } from "./evaluate.js";
import { filePath } from "./load-options.js";
import {
  blockTokens,
  type NativeEngine,
  type NativeError,
  type NativeState,
  type NativeStateScope,
} from "./native.js";
import { invalidArgument, readOptions, type Rules } from "./options.js";
import type { RunInput } from "./run.js";
import type { LoadedState, LoadStateOptions, SavedState, SaveStateOptions } from "./types.js";

const loadStateRules = {
  cacheScope: { kind: "string" },
  adapter: adapterRule,
  signal: { kind: "signal" },
} as const satisfies Rules & Record<keyof LoadStateOptions, unknown>;

const saveStateRules = {
  ...loadStateRules,
  tokens: { kind: "other", problem: () => undefined }, // by `tokenIds`
  messages: { kind: "other", problem: () => undefined }, // by the template
  maxBytes: { kind: "integer", min: 0, max: Number.MAX_SAFE_INTEGER },
} as const satisfies Rules & Record<keyof SaveStateOptions, unknown>;

/** What a saved state begins with (native/engine/state_format.cpp). */
const magic = "INHSTATE";

/**
 * Where links lead to, if there is nothing that a state must not replace: another file may be the model itself, and a
 * device would become a file.
 */
async function replaceable(path: string, site: CallSite): Promise<string> {
  const place = await realpath(path).catch(() => path);
  const refuse = (why: string): never => {
    throw site.error("ERR_INHOUSE_FILE_WRITE", `${path}: ${why}; choose another name`);
  };
  const file = await open(place, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0)).catch((error: unknown) => {
    const { code } = error as NodeJS.ErrnoException;
    if (code === "ENOENT" || code === "ENOTDIR") return undefined; // what is wrong is said when it is written
    return refuse(`is there, and cannot be read (${code})`);
  });
  if (!file) return place;
  try {
    const what = await file.stat();
    if (!what.isFile()) refuse("is no regular file");
    const { buffer, bytesRead } = await file.read(Buffer.alloc(magic.length), 0, magic.length, 0);
    if (bytesRead > 0 && buffer.toString("latin1", 0, bytesRead) !== magic)
      refuse("is not a saved state, and would be lost");
    return place;
  } finally {
    await file.close();
  }
}

/** The saves and loads of one engine that run. */
export class StateTransfers {
  readonly #running = new Map<() => void, Promise<unknown>>();
  #ended = false;

  /** `adapterOwner`: whose adapters can be used. */
  constructor(
    private readonly engine: NativeEngine,
    private readonly adapterOwner: object,
  ) {}

  /** `promptOf` renders and encodes a conversation. */
  async save(
    path: unknown,
    given: SaveStateOptions,
    promptOf: (messages: unknown) => RunInput["prompt"],
    site: CallSite,
  ): Promise<SavedState> {
    const file = filePath("saveState", path);
    const options = readOptions("saveState", given, saveStateRules);
    const { tokens, messages, signal, maxBytes = Number.MAX_SAFE_INTEGER } = options;
    if (tokens !== undefined && messages !== undefined)
      throw invalidArgument(
        "saveState: options 'tokens' and 'messages' are both given; expected one of them",
      );
    signal?.throwIfAborted();
    const { contextLength } = this.engine.describe();
    let prompt: Int32Array | null = null;
    if (tokens !== undefined) prompt = tokenIds("saveState", tokens, contextLength);
    if (messages !== undefined) {
      ({ tokens: prompt } = await promptOf(messages)(signal ?? new AbortController().signal));
      checkLength(prompt, contextLength);
    }
    const place = await replaceable(file, site);
    if (this.#ended) throw site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of");
    const { blocks, bytes } = await this.#run("saveState", options, site, (scope, done) =>
      this.engine.saveState(place, { ...scope, prompt, maxBytes }, done),
    );
    return { tokens: blocks * blockTokens, blocks, bytes };
  }

  async load(path: unknown, given: LoadStateOptions, site: CallSite): Promise<LoadedState> {
    const file = filePath("loadState", path);
    const options = readOptions("loadState", given, loadStateRules);
    const { blocks } = await this.#run("loadState", options, site, (scope, done) =>
      this.engine.loadState(file, scope, done),
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
    call: string,
    { cacheScope = "", adapter, signal }: LoadStateOptions,
    site: CallSite,
    start: (
      scope: NativeStateScope,
      done: (error: NativeError | null, report: NativeState) => void,
    ) => () => void,
  ): Promise<NativeState> {
    signal?.throwIfAborted();
    const use = adapterUse(call, adapter, this.adapterOwner);
    const scope = { cacheScope, adapter: use?.adapter.hold() ?? null, adapterScale: use?.scale ?? 1 };
    let cancel = (): void => undefined;
    let forget = cancel;
    const ended = new Promise<NativeState>((resolve, reject) => {
      try {
        cancel = start(scope, (error, report) => {
          if (error === null) resolve(report);
          else if (error.code !== "ERR_INHOUSE_ABORTED") reject(site.native(error));
          else if (this.#ended) reject(site.error("ERR_INHOUSE_DISPOSED", "the model was disposed of"));
          else reject(signal?.reason as Error);
        });
      } catch (error) {
        const reason = site.translate(error) as Error;
        reject(reason);
        return;
      } finally {
        use?.adapter.drop();
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
