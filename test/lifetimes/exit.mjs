// Ends a process in many ways while a model works. Each case must end by itself, with the exit code its name's table
// gives, and never by a signal.
//
//   node --expose-gc test/lifetimes/exit.mjs CASE MODEL [DEVICE]
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";

const { loadModel } = createRequire(import.meta.url)("../../dist/index.js");
const [name, file, device = "auto"] = process.argv.slice(2);
const load = (options = {}) => loadModel(file, { device, contextLength: 2048, ...options });
const long = new Array(1500).fill(100);
const endless = { ignoreStopTokens: true, temperature: 0 };

async function firstDelta(generation) {
  for await (const delta of generation) return delta;
}

/** What `action` gives, or "timeout" after a minute. */
const within = (action) => Promise.race([action, sleep(60_000, "timeout", { ref: false })]);

const cases = {
  async "exit at load"() {
    void load();
    await sleep(15);
    process.exit(7);
  },
  async "exit in the prompt"() {
    const model = await load();
    model.complete(long, endless);
    await sleep(20);
    process.exit(7);
  },
  async "exit in decoding"() {
    const model = await load();
    const generation = model.complete([100, 101], endless);
    for await (const _ of generation) process.exit(7);
  },
  async "throw in decoding"() {
    const model = await load();
    for await (const _ of model.complete([100, 101], endless)) throw new Error("on purpose");
  },
  // An idle model does not keep the process alive …
  async idle() {
    globalThis.model = await load();
  },
  async "idle after a generation"() {
    globalThis.model = await load();
    await globalThis.model.complete([100, 101], { maxTokens: 2 }).result();
  },
  // … a running generation and a load do.
  async "a generation keeps the process"() {
    const model = await load();
    process.exitCode = 1;
    void model
      .complete([100, 101], { maxTokens: 3, ignoreStopTokens: true })
      .result()
      .then(({ tokens }) => (process.exitCode = tokens.length === 3 ? 7 : 1));
  },
  async "a load keeps the process"() {
    process.exitCode = 1;
    void load().then(() => (process.exitCode = 7));
  },
  // A generation that nobody reads or keeps is cancelled; that nobody handles its end is no unhandled rejection.
  async unread() {
    const model = await load();
    model.complete([100, 101], endless);
    for (let i = 0; i < 3; i++) {
      await sleep(20);
      globalThis.gc();
    }
    const other = model.complete([100, 101], { maxTokens: 1 });
    await other.result();
    process.exitCode = 7;
  },
  async "unread and aborted"() {
    const model = await load();
    const control = new AbortController();
    model.complete([100, 101], { ...endless, signal: control.signal });
    control.abort();
    await sleep(20);
    process.exitCode = 7;
  },
  // While somebody awaits its result, a generation is not forgotten.
  async "awaited only"() {
    const model = await load();
    const result = model.complete([100, 101], { maxTokens: 4, ignoreStopTokens: true }).result();
    const collect = setInterval(globalThis.gc, 5);
    const { finishReason, tokens } = await result;
    clearInterval(collect);
    process.exitCode = finishReason === "length" && tokens.length === 4 ? 7 : 1;
  },
  // A model that is dropped is freed: its weights are not found in memory any more.
  async dropped() {
    const collected = new Promise((resolve) => {
      globalThis.registry = new FinalizationRegistry(resolve);
    });
    await (async () => {
      const model = await load();
      await model.complete([100, 101], { maxTokens: 1 }).result();
      globalThis.registry.register(model, "freed");
    })();
    const collect = setInterval(globalThis.gc, 20);
    const what = await within(collected);
    clearInterval(collect);
    await sleep(200);
    process.exitCode = what === "freed" ? 7 : 1;
  },
  async "disposed in decoding"() {
    const model = await load();
    const generation = model.complete([100, 101], endless);
    await firstDelta(generation);
    await model.dispose();
    const { finishReason } = await generation.result();
    process.exitCode = finishReason === "cancelled" ? 7 : 1;
  },
  async "two models, one disposed"() {
    const [one, two] = await Promise.all([load(), load()]);
    const rest = two.complete([100, 101], { maxTokens: 3, ignoreStopTokens: true }).result();
    await one.dispose();
    process.exitCode = (await rest).tokens.length === 3 ? 7 : 1;
  },
};

if (name === "list") console.log(JSON.stringify(Object.keys(cases)));
else await cases[name]();
