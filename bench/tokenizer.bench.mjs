// Tokenizer speed in MB/s of UTF-8: node bench/tokenizer.bench.mjs MODEL.gguf [FILE …] (after npm run build:ts).
// Without files, the text is this repository's own English and code. "first" is a new tokenizer's first pass over the
// text, "warm" the median of the following ones.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Bench } from "tinybench";
import ts from "typescript";
import tokenizers from "../dist/tokenizer/tokenizer.js";

const root = new URL("..", import.meta.url).pathname;
const [model, ...files] = process.argv.slice(2);
if (!model) throw new Error("usage: node bench/tokenizer.bench.mjs MODEL.gguf [FILE …]");

// The tests' reader of GGUF metadata, so that the bench does not need the native part.
const source = readFileSync(join(root, "test/support/gguf-metadata.ts"), "utf8");
const { outputText } = ts.transpileModule(source, {
  compilerOptions: { module: "esnext", target: "es2022" },
});
const { readTokenizerData } = await import("data:text/javascript," + encodeURIComponent(outputText));

function collect(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return collect(path);
    return /\.(ts|mjs|py|cpp|h|md)$/.test(entry.name) && statSync(path).size < 200_000 ? [path] : [];
  });
}
const chosen = files.length
  ? files
  : [join(root, "LICENSE"), ...["lib", "native", "test", "scripts"].flatMap((f) => collect(join(root, f)))];
const text = chosen.map((path) => readFileSync(path, "utf8")).join("\n");
const megabytes = Buffer.byteLength(text) / 1e6;
const speed = (milliseconds) => (megabytes / milliseconds) * 1e3;

const data = readTokenizerData(model);
let start = performance.now();
const warm = await tokenizers.createTokenizer(data);
const build = performance.now() - start;

// The code is warmed up on other text, so that "first" measures the tokenizer's own caches.
for (let i = 0; i < 3; i++) (await tokenizers.createTokenizer(data)).encode(text.slice(0, 200_000));
const first = [];
for (let i = 0; i < 5; i++) {
  const tokenizer = await tokenizers.createTokenizer(data);
  start = performance.now();
  tokenizer.encode(text);
  first.push(performance.now() - start);
}
first.sort((a, b) => a - b);

const ids = warm.encode(text);
const bench = new Bench({ time: 1500, warmupTime: 300 });
bench.add("encode", () => warm.encode(text)).add("decode", () => warm.decode(ids));
await bench.run();
const [encode, decode] = bench.tasks.map((task) => task.result.latency.p50);

let longest = 0;
let last = performance.now();
let running = true;
(function tick() {
  const now = performance.now();
  longest = Math.max(longest, now - last);
  last = now;
  if (running) setImmediate(tick);
})();
await warm.encodeAsync(text);
running = false;

console.log(
  `${model}: ${megabytes.toFixed(2)} MB of text, ${ids.length} tokens, built in ${build.toFixed(0)} ms`,
);
console.log(`encode first ${speed(first[2]).toFixed(1)} MB/s, warm ${speed(encode).toFixed(1)} MB/s`);
console.log(
  `decode ${speed(decode).toFixed(1)} MB/s; encodeAsync held the event loop for ${longest.toFixed(1)} ms at most`,
);
