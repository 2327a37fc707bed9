// A model in a worker thread, for programs whose main thread must do nothing else:
//
//   node examples/worker.mjs MODEL "The capital of France is" "The capital of Italy is"
//
// (Not needed for speed: a model computes on threads of its own, wherever it was loaded.)
import { isMainThread, parentPort, Worker, workerData } from "node:worker_threads";
import { loadModel } from "inhouse";

if (isMainThread) {
  const [file, ...prompts] = process.argv.slice(2);
  if (prompts.length === 0) {
    console.error("usage: node worker.mjs MODEL PROMPT…");
    process.exit(2);
  }
  const worker = new Worker(new URL(import.meta.url), { workerData: file });
  let open = prompts.length;
  worker.on("message", ({ id, text, error }) => {
    if (error) console.error(`${prompts[id]}: ${error.code}: ${error.message}`);
    else console.log(`${prompts[id]}${text}`);
    if (--open === 0) worker.postMessage("end");
  });
  worker.on("error", (error) => {
    console.error(error.message);
    process.exitCode = 1;
  });
  prompts.forEach((prompt, id) => worker.postMessage({ id, prompt }));
} else {
  const loading = loadModel(workerData);
  parentPort.on("message", async (request) => {
    const model = await loading;
    if (request === "end") {
      await model.dispose();
      parentPort.close();
      return;
    }
    const { id, prompt } = request;
    try {
      // All requests that have come are computed together.
      const text = await model.complete(prompt, { maxTokens: 12, temperature: 0 }).text();
      parentPort.postMessage({ id, text });
    } catch (error) {
      // Structured cloning drops an error's class and code; toJSON keeps them.
      parentPort.postMessage({ id, error: error.toJSON?.() ?? { message: String(error) } });
    }
  });
}
