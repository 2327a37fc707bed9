// What a bench ran on, for its document.
import { availableParallelism, cpus } from "node:os";

import type { Model } from "../../model.js";
import { manifest } from "../../native/manifest.js";

export interface Environment {
  model: Pick<Model["info"], "path" | "fileBytes" | "architecture" | "quantization" | "parameters">;
  machine: { processor: string; processors: number };
  versions: { inhouse: string; node: string };
  settings: Pick<
    Model["info"],
    "device" | "deviceDescription" | "kvType" | "maxBatchTokens" | "contextLength"
  > & {
    /** What the device computes with, in its own words: "AVX-512 VNNI". */
    instructionSet: string;
    threads: number;
  };
  memory: Model["info"]["memory"];
}

export function environmentOf(info: Model["info"]): Environment {
  const { path, fileBytes, architecture, quantization, parameters, memory } = info;
  const { device, deviceDescription, kvType, maxBatchTokens, contextLength } = info;
  return {
    model: { path, fileBytes, architecture, quantization, parameters },
    machine: { processor: cpus()[0]?.model ?? "unknown", processors: availableParallelism() },
    versions: { inhouse: manifest.version, node: process.versions.node },
    settings: {
      device,
      deviceDescription,
      ...computingOf(deviceDescription),
      kvType,
      maxBatchTokens,
      contextLength,
    },
    memory,
  };
}

/** "cpu (AVX-512 VNNI), 2 threads" taken apart. */
function computingOf(description: string): { instructionSet: string; threads: number } {
  const [, instructionSet = description, threads = 0] = /\((.*)\), (\d+) thread/.exec(description) ?? [];
  return { instructionSet, threads: Number(threads) };
}
