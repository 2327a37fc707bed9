/// <reference lib="esnext.disposable" />
// LoRA adapters of a loaded model: loading them, and choosing one for a request.
import { stat } from "node:fs/promises";
import { basename } from "node:path";

import { onAbort } from "./abort.js";
import { bindMethods } from "./bind.js";
import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import { filePath } from "./load-options.js";
import type { NativeAdapter, NativeAdapterSource, NativeEngine } from "./native.js";
import { invalidArgument, namesIn, readOptions, type Rules, show } from "./options.js";
import { readPeft } from "./peft.js";
import type { Adapter, AdapterOptions } from "./types.js";

const adapterRules = { name: { kind: "string" }, signal: { kind: "signal" } } as const satisfies Rules &
  Record<keyof AdapterOptions, unknown>;

class LoadedAdapter implements Adapter {
  readonly name: string;
  readonly rank: number;
  readonly bytes: number;
  readonly #native: NativeAdapter;
  readonly #owner: object;
  #holders = 0;
  #disposed = false;

  constructor(native: NativeAdapter, owner: object, name: string) {
    const { rank, bytes } = native.describe();
    this.name = name;
    this.rank = rank;
    this.bytes = bytes;
    this.#native = native;
    this.#owner = owner;
    bindMethods(this, "dispose");
    Object.freeze(this);
  }

  dispose(): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#releaseUnused();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  isDisposed(): boolean {
    return this.#disposed;
  }

  /** Throws where a request to the model of `owner` cannot use this adapter. */
  check(call: string, owner: object): void {
    if (this.#owner !== owner) {
      throw invalidArgument(
        `${call}: option 'adapter' is ${show(this.name)}, which another model loaded; expected an adapter of this model`,
      );
    }
    if (!this.#disposed) return;
    throw new InhouseError(
      "ERR_INHOUSE_DISPOSED",
      `${call}: the adapter ${show(this.name)} was disposed of; load it again`,
    );
  }

  /** The native adapter, which stays until `drop` is called as often as this was. */
  hold(): NativeAdapter {
    ++this.#holders;
    return this.#native;
  }

  drop(): void {
    --this.#holders;
    this.#releaseUnused();
  }

  #releaseUnused(): void {
    if (this.#disposed && this.#holders === 0) this.#native.release();
  }
}

/** What a request uses: an adapter, and how much of it. */
export class AdapterUse {
  constructor(
    readonly adapter: LoadedAdapter,
    readonly scale: number,
  ) {}
}

/** An AdapterUse from what the option `adapter` may be; anything else stays as it is. */
function toAdapterUse(value: unknown): unknown {
  if (value instanceof LoadedAdapter) return new AdapterUse(value, 1);
  if (typeof value !== "object" || value === null) return value;
  if (!namesIn(value).every((name) => name === "adapter" || name === "scale")) return value;
  const { adapter, scale = 1 } = value as Record<string, unknown>;
  const fits = adapter instanceof LoadedAdapter && typeof scale === "number";
  return fits && Number.isFinite(Math.fround(scale)) ? new AdapterUse(adapter, scale) : value;
}

/** The option `adapter` of requests; once read, it is an AdapterUse. */
export const adapterRule = {
  kind: "other",
  read: toAdapterUse,
  problem: (value: unknown) =>
    value instanceof AdapterUse
      ? undefined
      : "what loadAdapter gave, or { adapter, scale } with that and a finite number",
} as const;

/** The use that was read by `adapterRule`, checked. */
export function adapterUse(call: string, read: unknown, owner: object): AdapterUse | undefined {
  const use = read as AdapterUse | undefined;
  use?.adapter.check(call, owner);
  return use;
}

/** The adapters of one model. */
export class Adapters {
  /** Tells this model's adapters from others', without holding the model. */
  readonly owner = {};
  readonly #engine: NativeEngine;
  #loaded: LoadedAdapter[] = [];
  /** Loads under way: how to stop each, and what settles when its threads have ended. */
  readonly #loading = new Map<AbortController, Promise<unknown>>();

  constructor(engine: NativeEngine) {
    this.#engine = engine;
  }

  /** Those that are not disposed of, in the order in which they were loaded. */
  list(): readonly Adapter[] {
    this.#loaded = this.#loaded.filter((adapter) => !adapter.isDisposed());
    return Object.freeze([...this.#loaded]);
  }

  /** `Model.loadAdapter`, for a model that is not disposed of. */
  load(file: unknown, given: AdapterOptions, site: CallSite): Promise<Adapter> {
    const path = filePath("loadAdapter", file);
    const { name = basename(path), signal } = readOptions("loadAdapter", given, adapterRules);
    signal?.throwIfAborted();
    const stop = new AbortController();
    const stopped = new Promise<never>((_, reject) => {
      stop.signal.addEventListener("abort", () => reject(stop.signal.reason as Error), { once: true });
    });
    const forget = onAbort(signal, () => stop.abort(signal?.reason));
    const ended = this.#read(path, name, stop.signal, site).finally(() => this.#loading.delete(stop));
    this.#loading.set(
      stop,
      ended.catch(() => undefined),
    );
    return Promise.race([ended, stopped]).finally(forget);
  }

  async #read(path: string, name: string, signal: AbortSignal, site: CallSite): Promise<Adapter> {
    try {
      const source = await sourceOf(path, signal);
      signal.throwIfAborted();
      const native = await this.#readNative(source, signal);
      if (signal.aborted) native.release();
      signal.throwIfAborted();
      const adapter = new LoadedAdapter(native, this.owner, name);
      this.#loaded = [...this.#loaded.filter((other) => !other.isDisposed()), adapter];
      return adapter;
    } catch (error) {
      throw site.translate(error);
    }
  }

  #readNative(source: NativeAdapterSource, signal: AbortSignal): Promise<NativeAdapter> {
    return new Promise((resolve, reject) => {
      const cancel = this.#engine.loadAdapter(source, (error, adapter) => {
        if (error === null) resolve(adapter);
        else reject(new InhouseError(error.code, error.message));
      });
      signal.addEventListener("abort", cancel, { once: true });
    });
  }

  /** Stops what loads, disposes of what has been loaded, and waits for the threads. */
  async end(): Promise<void> {
    const threads = [...this.#loading.values()];
    for (const stop of this.#loading.keys()) {
      stop.abort(
        new InhouseError("ERR_INHOUSE_DISPOSED", "the model was disposed of while it loaded an adapter"),
      );
    }
    for (const adapter of this.#loaded) adapter.dispose();
    this.#loaded = [];
    await Promise.all(threads);
  }
}

/** A PEFT folder, or the safetensors file in one, is read here as far as its header; a GGUF file natively. */
async function sourceOf(path: string, signal: AbortSignal): Promise<NativeAdapterSource> {
  const isFolder = await stat(path).then(
    (found) => found.isDirectory(),
    () => false, // said natively
  );
  if (isFolder || path.endsWith(".safetensors")) return readPeft(path, isFolder, signal);
  return { path, fileBytes: 0, pairs: null };
}
