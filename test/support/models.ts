import { existsSync } from "node:fs";
import { join } from "node:path";

import { storeFolder } from "../../lib/hub/folders.js";

/** The file most tests run on. */
export const smollm2 = "SmolLM2-135M-Instruct.Q4_1.gguf";

/** Where a model of the tests is: in the folder INHOUSE_MODELS, in .cache/models, or in this user's store. */
export function modelPath(file: string): string {
  const local = join(import.meta.dirname, "../../.cache/models");
  const folders = [process.env.INHOUSE_MODELS, local, storeFolder()].filter((folder) => folder !== undefined);
  const found = folders.map((folder) => join(folder, file)).find((path) => existsSync(path));
  if (found !== undefined) return found;
  throw new Error(`${file} is needed by this test; not found in ${folders.join(", ")} (set INHOUSE_MODELS)`);
}

/** The device tests run on: INHOUSE_TEST_DEVICE, or the fastest. */
export const device = (process.env.INHOUSE_TEST_DEVICE ?? "auto") as "auto" | "cpu" | "reference";
