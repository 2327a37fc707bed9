// inhouse itself, measured as its peers are. Build the project first.
import { loadModel } from "../../dist/index.mjs";
import session from "../../dist/cli/bench/session.js";
import versions from "../../dist/cli/version.js";

export const version = versions.version();
export const variants = () => [{}];

export const opener =
  (path, { threads, kvType }) =>
  async ({ streams, contextLength }) =>
    session.sessionOf(
      await loadModel(path, { threads, kvType, contextLength, maxConcurrent: streams, maxSlowdown: 1000 }),
    );
