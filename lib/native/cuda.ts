// Where the CUDA part is. It is data, an image of kernels for every supported GPU; the addon needs nothing else but the
// driver's library.
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";

const imageName = "inhouse-cuda.fatbin";

export interface CudaPart {
  /** The image's path; empty: there is none. */
  image: string;
  /** The driver's library; empty: the system's. */
  driver: string;
}

/** What belongs to the addon at `addonPath`: an image of the same build, else the one of the package @inhouse/cuda. */
export function cudaPart(addonPath: string | undefined, env: NodeJS.ProcessEnv = process.env): CudaPart {
  const local = addonPath === undefined ? undefined : join(dirname(addonPath), "..", imageName);
  return {
    image: env.INHOUSE_CUDA_IMAGE ?? (local !== undefined && existsSync(local) ? local : packaged()),
    driver: env.INHOUSE_CUDA_DRIVER ?? "",
  };
}

function packaged(): string {
  try {
    return createRequire(__filename).resolve(`@inhouse/cuda/${imageName}`);
  } catch {
    return "";
  }
}
