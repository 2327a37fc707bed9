// llama.cpp through node-llama-cpp, on the CPU. An adapter, as every engine of bench/ has one, exports
//   version    of the engine
//   variants   (kvType) => settings to try besides numbers of threads
//   opener     (path, { threads, kvType, ...variant }) => Open, as lib/cli/bench/measure.ts describes it
import { createRequire } from "node:module";
import { getLlama, LlamaLogLevel } from "node-llama-cpp";

export const version = createRequire(import.meta.url)("./package.json").dependencies["node-llama-cpp"];
// llama.cpp caches quantized values with flash attention alone.
export const variants = (kvType) =>
  [{ flashAttention: true }, { flashAttention: false }].filter(
    ({ flashAttention }) => flashAttention || !kvType.startsWith("q"),
  );

/** Loads a model once; gives contexts of it. */
export function contexts(modelPath, { threads, kvType = "f16", flashAttention }) {
  let model;
  return async (contextSize, sequences) => {
    model ??= await (
      await getLlama({ gpu: false, build: "never", maxThreads: threads, logLevel: LlamaLogLevel.error })
    ).loadModel({ modelPath });
    const type = kvType.toUpperCase();
    const cache = { experimentalKvCacheKeyType: type, experimentalKvCacheValueType: type };
    const options = { contextSize, sequences, batchSize: 512, threads, flashAttention, ...cache };
    const context = await model.createContext(options);
    if (context.currentThreads !== threads)
      throw new Error(`the peer runs ${context.currentThreads} threads`);
    return { model, context };
  };
}

/** Embeds texts one after the other, as the package's guide does. */
export async function embedder(modelPath, threads) {
  const llama = await getLlama({
    gpu: false,
    build: "never",
    maxThreads: threads,
    logLevel: LlamaLogLevel.error,
  });
  const model = await llama.loadModel({ modelPath });
  const context = await model.createEmbeddingContext({ contextSize: 512, batchSize: 512, threads });
  return async (texts) => {
    const vectors = [];
    for (const text of texts) vectors.push((await context.getEmbeddingFor(text)).vector);
    return vectors;
  };
}

export function opener(path, settings) {
  const open = contexts(path, settings);
  return async ({ streams, contextLength }) => {
    const { context } = await open(contextLength, streams);
    const idle = Array.from({ length: streams }, () => context.getSequence());
    return {
      async *generate(prompt, tokens) {
        const sequence = idle.pop();
        await sequence.clearHistory();
        let left = tokens;
        for await (const _ of sequence.evaluate(prompt, { temperature: 0, yieldEogToken: true })) {
          yield 1;
          if (--left === 0) break;
        }
        idle.push(sequence);
        if (left > 0) throw new Error("the peer stopped early");
      },
      close: () => context.dispose(),
    };
  };
}
