// What `inhouse doctor` finds out.
import { statSync } from "node:fs";
import { availableParallelism, cpus, freemem, release, totalmem } from "node:os";

import { InhouseError } from "../../errors.js";
import { list, storeFolder } from "../../hub/index.js";
import { loadedAddon, type NativeMachine } from "../../native.js";
import { cudaPart } from "../../native/cuda.js";
import { manifest } from "../../native/manifest.js";
import { glibcVersion, platformName } from "../../native/platforms.js";
import { groupLimits, type GroupLimits, readText } from "./control-group.js";
import { findGpus, type Gpus } from "./gpu.js";

/** The document of `--json`, less the advice. */
export interface Examination {
  version: string;
  node: string;
  /** As packages are called: "linux-x64-musl". */
  platform: string;
  /** The operating system's version. */
  release: string;
  /** "glibc 2.36"; undefined where there is only one. */
  libc: string | undefined;
  /** Path and size are undefined where they cannot be known, as in a bundle. */
  binary:
    | {
        path: string | undefined;
        package: string | undefined;
        version: string;
        bytes: number | undefined;
      }
    | undefined;
  /** Why there is no binary. */
  error: { code: string; message: string } | undefined;
  processor: {
    model: string;
    logical: number;
    /** That this process may run on. */
    available: number;
    /** That a model uses with `threads: "auto"`. */
    threads: number | undefined;
    /** Those of the processor that matter here, where the system tells them (Linux). */
    features: string[];
    /** Those of the binary, best first. */
    instructionSets: NativeMachine["instructionSets"];
    /** The name of the one in use. */
    chosen: string | undefined;
  };
  /** In bytes, control groups' limits included. */
  memory: { total: number; available: number };
  /** Whether the system backs memory with large pages (Linux): "always", "madvise" or "never". */
  largePages: string | undefined;
  controlGroup: GroupLimits;
  gpus: Gpus;
  /** The CUDA part, where there is one. */
  cudaImage: string | undefined;
  store: { path: string; models: { name: string; bytes: number }[]; error: string | undefined };
}

const relevant =
  /^(sse4_2|avx|avx2|fma|f16c|avx_vnni|avx512(f|bw|dq|vl|_vnni|_bf16)|amx_(int8|bf16)|asimd|asimddp|i8mm|bf16|sve2?)$/;

/** Looks at everything; what cannot be seen is said to be unknown, never an error. */
export async function examine(): Promise<Examination> {
  const { binary, machine, error } = binaryState();
  const glibc = process.platform === "linux" ? glibcVersion() : undefined;
  const platform = platformName();
  const flags = /^(?:flags|Features)\s*:\s*(.*)$/m.exec(readText("/proc/cpuinfo") ?? "")?.[1] ?? "";
  const pages = readText("/sys/kernel/mm/transparent_hugepage/enabled");
  return {
    version: manifest.version,
    node: process.versions.node,
    platform,
    release: release(),
    libc: glibc === undefined ? (platform.endsWith("-musl") ? "musl" : undefined) : `glibc ${glibc}`,
    binary,
    error,
    processor: {
      model: cpus()[0]?.model.trim() ?? "unknown",
      logical: cpus().length,
      available: availableParallelism(),
      threads: machine?.processors,
      features: flags.split(" ").filter((flag) => relevant.test(flag)),
      instructionSets: machine?.instructionSets ?? [],
      chosen: machine?.instructionSets.find(({ supported }) => supported)?.name,
    },
    memory: {
      total: machine?.memoryTotal || totalmem(),
      available: machine?.memoryAvailable || freemem(),
    },
    largePages: /\[(\w+)\]/.exec(pages ?? "")?.[1],
    controlGroup: groupLimits(),
    gpus: findGpus(),
    cudaImage: binary && thereIs(cudaPart(binary.path).image),
    store: await storeState(),
  };
}

function binaryState(): Pick<Examination, "binary" | "error"> & { machine?: NativeMachine } {
  try {
    const { addon, path, package: from } = loadedAddon();
    const binary = { path, package: from, version: addon.version, bytes: sizeOf(path) };
    return { binary, error: undefined, machine: addon.machine() };
  } catch (error) {
    if (!InhouseError.is(error)) throw error;
    return { binary: undefined, error: { code: error.code, message: error.message } };
  }
}

const thereIs = (path: string) => (sizeOf(path) === undefined ? undefined : path);

function sizeOf(path: string | undefined): number | undefined {
  try {
    return path === undefined ? undefined : statSync(path).size;
  } catch {
    return undefined; // --permission
  }
}

async function storeState(): Promise<Examination["store"]> {
  const path = storeFolder();
  try {
    const models = (await list()).filter(({ complete }) => complete);
    return { path, models: models.map(({ name, bytes }) => ({ name, bytes })), error: undefined };
  } catch (error) {
    return { path, models: [], error: (error as Error).message };
  }
}
