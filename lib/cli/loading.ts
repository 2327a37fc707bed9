import { resolve } from "../hub/index.js";
import { loadModel, type Model } from "../model.js";
import type { LoadOptions } from "../types.js";
import type { Shell } from "./command.js";
import { bytes, ProgressBar } from "./terminal.js";

/** Loads a model by path or name, with a progress bar on a terminal. Ctrl-C stops the load. */
export async function load(nameOrPath: string, options: LoadOptions, shell: Shell): Promise<Model> {
  const path = await resolve(nameOrPath);
  const draft = options.draft && {
    draft: { ...options.draft, file: await resolve(String(options.draft.file)) },
  };
  const bar = new ProgressBar(shell.stderr, "loading");
  try {
    return await loadModel(path, {
      maxConcurrent: 1, // no command runs two generations at once
      ...options,
      ...draft,
      signal: shell.signal,
      onProgress: ({ loaded, total }) => bar.update(loaded / total, `${bytes(loaded)} of ${bytes(total)}`),
    });
  } finally {
    bar.clear();
  }
}
