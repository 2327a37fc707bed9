// Reading a model's weights, with those of its draft, to the device that was asked for, or to the first that takes them.
import { AsyncResource } from "node:async_hooks";

import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
import type { ResolvedLoad } from "./load-options.js";
import {
  loadedAddon,
  native,
  type NativeError,
  type NativeFile,
  type NativeLoadOptions,
  type NativeModel,
} from "./native.js";
import { cudaPart } from "./native/cuda.js";
import type { Device } from "./types.js";

/** A file, and who is told how many of its bytes are done. */
export interface WeightSource {
  file: NativeFile;
  report: (bytes: number) => void;
}

export interface Weights {
  /** One for each source; to be released by whoever has them. */
  models: NativeModel[];
  /** Why an earlier device was not taken. */
  fallback: string | undefined;
}

type Place = Pick<NativeLoadOptions, "device" | "cudaDevice" | "cudaImage" | "cudaDriver">;

function places(device: Device): Place[] {
  const { image, driver } = cudaPart(loadedAddon().path);
  const on = (name: Place["device"], index = 0): Place => ({
    device: name,
    cudaDevice: index,
    cudaImage: image,
    cudaDriver: driver,
  });
  if (device === "auto") return image === "" ? [on("cpu")] : [on("cuda"), on("cpu")];
  if (device === "cpu" || device === "reference") return [on(device)];
  return [on("cuda", Number(device.slice("cuda:".length)))];
}

/** Reads all sources. Once `signal` is aborted it rejects with its reason. */
export async function loadWeights(
  sources: readonly WeightSource[],
  device: Device,
  options: ResolvedLoad["model"],
  site: CallSite,
  signal: AbortSignal,
): Promise<Weights> {
  const tried = places(device);
  let fallback: string | undefined;
  for (;;) {
    const place = tried.shift()!;
    const stop = new AbortController();
    const either = AbortSignal.any([signal, stop.signal]);
    const loads = sources.map((source) =>
      startLoad(source, { ...options, ...place }, site, either).catch((error: unknown) => {
        stop.abort(error);
        throw error;
      }),
    );
    const models = (await Promise.allSettled(loads)).flatMap((load) =>
      load.status === "fulfilled" ? [load.value] : [],
    );
    if (!either.aborted) return { models, fallback };
    for (const model of models) model.release();
    const reason: unknown = either.reason;
    if (signal.aborted || tried.length === 0 || !isOfTheDevice(reason)) throw reason;
    fallback = reason.message;
  }
}

/** Errors after which another device may do. */
function isOfTheDevice(error: unknown): error is InhouseError {
  const codes = ["DEVICE_UNAVAILABLE", "DEVICE_LOST", "OUT_OF_MEMORY"] as const;
  return codes.some((code) => InhouseError.is(error, `ERR_INHOUSE_${code}`));
}

function startLoad(
  { file, report }: WeightSource,
  options: NativeLoadOptions,
  site: CallSite,
  signal: AbortSignal,
): Promise<NativeModel> {
  return new Promise<NativeModel>((resolve, reject) => {
    const onProgress = AsyncResource.bind(report, "InhouseLoad");
    const cancel = native().loadModel(file, options, onProgress, (error: NativeError | null, model) => {
      signal.removeEventListener("abort", cancel);
      if (error) reject(signal.aborted ? (signal.reason as Error) : site.native(error));
      else if (signal.aborted) {
        model.release();
        reject(signal.reason as Error);
      } else resolve(model);
    });
    signal.addEventListener("abort", cancel, { once: true });
  });
}
