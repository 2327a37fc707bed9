// The TypeScript parts, with a model's own tokenizer and chat template: speeds in MB/s of UTF-8 and microseconds. Values
// are medians; `low` and `high` are the fastest sample and the 99th percentile of the times, whichever is which.
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { Bench } from "tinybench";

import sites from "../dist/call-site.js";
import templates from "../dist/chat/template.js";
import generations from "../dist/generate.js";
import headers from "../dist/header.js";
import metadata from "../dist/metadata.js";
import registry from "../dist/requests.js";
import runs from "../dist/run.js";
import tokenizers from "../dist/tokenizer/tokenizer.js";
import { plural } from "./tables.mjs";

const root = join(import.meta.dirname, "..");
const streamed = 256; // tokens of one stream

/** This repository's own English and code, and the tests' texts in other scripts. */
function corpus(folder) {
  return readdirSync(folder, { withFileTypes: true }).flatMap((entry) => {
    const path = join(folder, entry.name);
    if (entry.isDirectory()) return corpus(path);
    return /\.(ts|mjs|py|cpp|h|md)$/.test(entry.name) && statSync(path).size < 200_000 ? [path] : [];
  });
}

/** Streams the engine would feed: the way of a token from the addon's callback to the reader's loop. */
async function stream(count) {
  const requests = new registry.Requests();
  let next = 0;
  const engine = { submit: () => next++, cancel() {}, pause() {}, resume() {} };
  const host = { engine, requests, running: new Set() };
  const read = async () => {
    const spec = { topLogprobs: -1 };
    const prompt = () => ({ tokens: new Int32Array(1) });
    const input = { site: new sites.CallSite(stream), spec, order: {}, seed: 1, prompt };
    for await (const _ of generations.makeGeneration(new runs.Run(host, input)));
  };
  const readers = Array.from({ length: count }, read);
  const text = Buffer.from(" tokens ");
  for (let token = 1; token <= streamed; ++token) {
    const last = token === streamed;
    const details = last ? Array.from({ length: count }, () => ({ finish: "length" })) : [];
    requests.deliver(packEvents(count, token, text, last), details);
    await new Promise(setImmediate);
  }
  await Promise.all(readers);
}

/** A token and its text for each of the requests 0 … count - 1, as the addon packs them (NativeEventsCallback). */
function packEvents(count, token, text, last) {
  const words = new Int32Array(text.buffer.slice(text.byteOffset, text.byteOffset + text.length));
  const events = Array.from({ length: count }, (_, request) => [
    ...[request, 0, last ? request + 1 : 0, 1, text.length],
    token,
    ...words,
  ]);
  return Int32Array.from(events.flat());
}

/** The longest time in milliseconds that `work` keeps the event loop. */
async function longestHold(work) {
  let [longest, last, running] = [0, performance.now(), true];
  (function tick() {
    const now = performance.now();
    longest = Math.max(longest, now - last);
    last = now;
    if (running) setImmediate(tick);
  })();
  await work();
  running = false;
  return longest;
}

export async function measureTypescript(path, { time = 1000, warmupTime = 200 } = {}) {
  const header = await headers.readHeader(path);
  const data = metadata.tokenizerData(header);
  const files = ["lib", "native", "test", "scripts"].flatMap((folder) => corpus(join(root, folder)));
  const text = files.map((file) => readFileSync(file, "utf8")).join("\n");
  const megabytes = Buffer.byteLength(text) / 1e6;

  const warm = await tokenizers.createTokenizer(data);
  const ids = warm.encode(text);
  const pieces = Array.from(ids.subarray(0, 20_000), (id) => warm.tokenBytes(id));
  let fresh;
  const bench = new Bench({ time, warmupTime });
  // What each task's latency, in milliseconds, says: a rate, or a time per something.
  const meanings = new Map();
  const add = (name, unit, value, work, hooks) => {
    bench.add(name, work, hooks);
    meanings.set(name, { unit, value });
  };
  const rate = (milliseconds) => (megabytes / milliseconds) * 1e3;
  const micros = (per) => (milliseconds) => (milliseconds * 1e3) / per;
  add(
    "build a tokenizer",
    "ms",
    (milliseconds) => milliseconds,
    async () => {
      fresh = await tokenizers.createTokenizer(data);
    },
  );
  add("encode, first pass", "MB/s", rate, () => fresh.encode(text), {
    beforeEach: async () => (fresh = await tokenizers.createTokenizer(data)),
  });
  add("encode, warm", "MB/s", rate, () => warm.encode(text));
  add("decode", "MB/s", rate, () => warm.decode(ids));
  add("detokenize a stream, per token", "µs", micros(pieces.length), () => {
    const utf8 = new tokenizers.Utf8Stream();
    for (const piece of pieces) utf8.push(piece);
  });
  const source = metadata.textOf(header, "tokenizer.chat_template");
  if (source !== undefined) {
    const template = new templates.ChatTemplate(source);
    const messages = Array.from({ length: 9 }, (_, i) => ({
      role: i % 2 === 0 ? "user" : "assistant",
      content: "The mill was closed, and the bridge was watched by two men with lanterns. ".repeat(5),
    }));
    add("render a template, 9 messages", "µs", micros(1), () => template.render(messages));
  }
  for (const count of [1, 16])
    add(`streaming to ${plural(count, "reader")}, per token`, "µs", micros(streamed * count), () =>
      stream(count),
    );
  await bench.run();
  const measured = bench.tasks.map(({ name, result }) => {
    if (result.latency === undefined) throw new Error(`${name}: ${result.error ?? result.state}`);
    const { unit, value } = meanings.get(name);
    const { p50, p99, min } = result.latency;
    const ends = [value(min), value(p99)].sort((a, b) => a - b);
    return { name, unit, value: value(p50), low: ends[0], high: ends[1] };
  });
  const hold = await longestHold(() => warm.encodeAsync(text));
  return [
    ...measured,
    { name: "encodeAsync holds the event loop", unit: "ms", value: hold, low: hold, high: hold },
  ];
}
