import { resolve } from "../hub/index.js";
import { loadModel, type Model } from "../model.js";
import type { LoadOptions, ScaledAdapter } from "../types.js";
import type { Shell } from "./command.js";
import type { Values } from "./flags.js";
import type { AdapterFlag, loadFlags } from "./settings.js";
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

/** The adapter of `--adapter`, loaded; undefined where none is given. */
export async function adapterOf(
  model: Model,
  values: Values<typeof loadFlags>,
  shell: Shell,
): Promise<ScaledAdapter | undefined> {
  const given = values.adapter as AdapterFlag | undefined;
  if (given === undefined) return undefined;
  const adapter = await model.loadAdapter(given.path, { signal: shell.signal });
  return { adapter, scale: given.scale };
}
