// One process of two: "save" answers a prompt and writes the state, "load" reads it first. Prints what it got.
import { loadModel } from "../../dist/index.mjs";

const [mode, path, device, state, kvType] = process.argv.slice(2);
const model = await loadModel(path, { device, kvType, contextLength: 512 });
const loaded = mode === "load" ? await model.loadState(state) : undefined;
const prompt = Array.from({ length: 200 }, (_, i) => 1000 + ((i * 37) % 5000));
const answer = model.complete(prompt, { maxTokens: 12, seed: 3, logprobs: 2, ignoreStopTokens: true });
const { tokens, text, logprobs, usage } = await answer.result();
const saved = mode === "save" ? await model.saveState(state) : undefined;
console.log(JSON.stringify({ tokens, text, logprobs, cached: usage.cachedTokens, report: loaded ?? saved }));
