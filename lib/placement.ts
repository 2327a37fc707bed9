// Which device a model runs on, and reading its weights, with those of its draft, to it.
import { AsyncResource } from "node:async_hooks";

import type { CallSite } from "./call-site.js";
import { InhouseError } from "./errors.js";
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

export type Place = Pick<NativeLoadOptions, "device" | "cudaDevice" | "cudaImage" | "cudaDriver">;

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

/** What `work` gives on the first device that can do it, and why an earlier one could not. */
export async function place<T>(
  device: Device,
  signal: AbortSignal,
  work: (on: Place) => Promise<T>,
): Promise<{ result: T; fallback: string | undefined }> {
  const tried = places(device);
  for (let fallback: string | undefined; ;) {
    try {
      return { result: await work(tried.shift()!), fallback };
    } catch (error) {
      if (signal.aborted || tried.length === 0 || !isOfTheDevice(error)) throw error;
      fallback = error.message;
    }
  }
}

/** The models of all sources, to be released by whoever has them. Once `signal` is aborted it rejects with its reason. */
export async function loadWeights(
  sources: readonly WeightSource[],
  options: NativeLoadOptions,
  site: CallSite,
  signal: AbortSignal,
): Promise<NativeModel[]> {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const loads = sources.map((source) =>
    startLoad(source, options, site, either).catch((error: unknown) => {
      stop.abort(error);
      throw error;
    }),
  );
  const models = (await Promise.allSettled(loads)).flatMap((load) =>
    load.status === "fulfilled" ? [load.value] : [],
  );
  if (!either.aborted) return models;
  for (const model of models) model.release();
  throw either.reason;
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
