// `npm run demo`: fetches a small model, asks it a question and streams the answer.
import { loadModel } from "../dist/index.mjs";
import { fetchModel } from "./fetch-models.mjs";

const question = process.argv[2] ?? "Why is the sky blue? Answer in two sentences.";
const megabytes = (bytes) => `${(bytes / 1e6).toFixed(0)} MB`;

const path = await fetchModel("smollm2:135m");
const start = performance.now();
const model = await loadModel(path, { contextLength: 2048, maxConcurrent: 1 });
const loadMs = performance.now() - start;
const { name, parameters, quantization, deviceDescription, memory } = model.info;
console.log(
  `\n${name}: ${(parameters / 1e6).toFixed(0)} M parameters, ${quantization}, on ${deviceDescription}`,
);
console.log(`\n> ${question}\n`);

const answer = model.chat([{ role: "user", content: question }], { maxTokens: 200, temperature: 0 });
for await (const { text } of answer) process.stdout.write(text);
const { usage, timings } = await answer.result();
await model.dispose();

console.log(`

load                 ${(loadMs / 1000).toFixed(2)} s
time to first token  ${(timings.timeToFirstTokenMs / 1000).toFixed(2)} s
prompt               ${usage.promptTokens} tokens, ${timings.promptTokensPerSecond.toFixed(1)} tokens/s
answer               ${usage.completionTokens} tokens, ${timings.decodeTokensPerSecond.toFixed(1)} tokens/s
memory               ${megabytes(memory.weights)} weights, ${megabytes(memory.kv)} key/value cache reserved, ${megabytes(process.resourceUsage().maxRSS * 1024)} peak of the process`);
