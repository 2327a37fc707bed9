// inhouse itself, measured as its peers are. Build the project first.
import { loadModel } from "../../dist/index.mjs";
import session from "../../dist/cli/bench/session.js";
import loading from "../../dist/native/manifest.js";

export const version = loading.manifest.version;
export const variants = () => [{}];

export const opener =
  (path, { threads, kvType }) =>
  async ({ streams, contextLength }) =>
    session.sessionOf(
      await loadModel(path, {
        ...{ device: "cpu", threads, kvType, contextLength },
        ...{ maxConcurrent: streams, maxSlowdown: 1000 },
      }),
    );
