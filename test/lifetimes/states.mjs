// Ends a model's work in each state it may be in: the process exits, the worker is terminated, the model is disposed of,
// signals are aborted, or all is let go. Nothing may crash, hang, or settle as it should not.
//
//   node --expose-gc test/lifetimes/states.mjs STATE ENDING ROUNDS DEVICE MODEL DRAFT ADAPTER FOLDER
//
// Passes if it ends by itself with 7. `list` in place of STATE prints the states and which endings each one has.
import assert from "node:assert/strict";
import { createRequire } from "node:module";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { isMainThread, parentPort, threadId, Worker, workerData } from "node:worker_threads";

const { loadModel } = createRequire(import.meta.url)("../../dist/index.js");
const endless = { ignoreStopTokens: true, temperature: 0, speculation: "off" };
const prompt = (length, salt = 0) => Array.from({ length }, (_, i) => 1000 + ((i * 37 + salt * 101) % 5000));
const never = () => new Promise(() => undefined);

async function until(condition) {
  while (!condition()) await sleep(1);
}

/** Does `action` again and again until it fails. */
async function forever(action) {
  for (;;) await action();
}

/**
 * How a model comes into each state. Work that goes on is given to `track`, which waits for its end; `signal` is to be
 * handed to it. `settings` are of the load, `endings` those that it has besides the usual ones.
 */
const states = {
  queued: {
    settings: { maxConcurrent: 1 },
    async enter({ model, track, signal }) {
      for (let i = 0; i < 4; i++) track(model.complete(prompt(20, i), { ...endless, signal }).result());
      await until(() => model.stats().waiting === 3);
    },
  },
  "held back by its reader": {
    endings: ["leave"],
    async enter({ model, track, signal }) {
      const generation = model.complete([100, 101], { ...endless, signal });
      const reader = generation[Symbol.asyncIterator]();
      await reader.next();
      await until(() => model.stats().paused === 1);
      // Reads on once it has ended, which `result` would do before.
      const ended = new Promise((resolve) => signal.addEventListener("abort", resolve, { once: true }));
      track(ended.then(() => generation.result()));
      return { generation, reader };
    },
  },
  "waiting for a logitsProcessor": {
    async enter({ model, track, signal }) {
      await new Promise((resolve) => {
        const logitsProcessor = (_, tokens) => (tokens.length < 2 ? undefined : (resolve(), never()));
        track(model.complete([100, 101], { ...endless, signal, logitsProcessor }).result());
      });
    },
  },
  "with a logitsProcessor that throws": {
    async enter({ model, track, signal }) {
      const boom = new Error("boom");
      const one = (count) => {
        const logitsProcessor = (_, tokens) => {
          if (tokens.length >= count) throw boom;
        };
        return model.complete([100, 101], { ...endless, signal, logitsProcessor }).result();
      };
      const again = (count) =>
        forever(() =>
          one(count).then(
            ({ finishReason }) => assert.equal(finishReason, "cancelled"),
            (error) => {
              if (error !== boom) throw error;
            },
          ),
        );
      for (let count = 0; count < 4; count++) track(again(count));
      await until(() => model.stats().cancelled > 4);
    },
  },
  "with a reader that blocks": {
    async enter({ model, track, signal }) {
      const block = async () => {
        for await (const _ of model.complete([100, 101], { ...endless, signal })) {
          const end = performance.now() + 10;
          while (performance.now() < end);
        }
        return { finishReason: "cancelled" };
      };
      track(block());
      track(model.complete([100, 102], { ...endless, signal }).result());
      await until(() => model.stats().steps > 5);
    },
  },
  "with a thousand unread": {
    settings: { maxQueue: 1000 },
    endings: ["leave"],
    async enter({ model, track, signal, ending }) {
      const start = (i) => model.complete(prompt(8, i), { ...endless, signal });
      // Nobody keeps them, where they are to be let go.
      for (let i = 0; i < 1000; i++)
        if (ending === "leave") start(i);
        else track(start(i).result());
      if (ending !== "leave") return undefined;
      const collecting = setInterval(() => {
        globalThis.gc();
        const { running, waiting, paused } = model.stats();
        if (running + waiting + paused === 0) clearInterval(collecting);
      }, 20);
      return undefined;
    },
  },
  encoding: {
    async enter({ model, track, signal }) {
      track(model.complete("some words of it ".repeat(100_000), { ...endless, signal }).result());
      await sleep(5);
    },
  },
  "in a long prompt": {
    async enter({ model, track, signal }) {
      track(model.complete(prompt(2000), { ...endless, signal }).result());
      await until(() => model.stats().steps > 0);
    },
  },
  embedding: {
    async enter({ model, track, signal }) {
      const texts = Array.from({ length: 200 }, (_, i) => prompt(5 + (i % 60), i));
      track(forever(() => model.embed(texts, { signal })));
      await until(() => model.stats().steps > 0);
    },
  },
  scoring: {
    async enter({ model, track, signal }) {
      // Some take several steps, each of which waits until its values have been taken.
      const continuations = Array.from({ length: 40 }, (_, i) => prompt(i % 4 < 2 ? 700 : 1 + (i % 20), i));
      track(forever(() => model.score(prompt(100), continuations, { signal })));
      await until(() => model.stats().steps > 0);
    },
  },
  "waiting for onRows": {
    async enter({ model, track, signal }) {
      await new Promise((resolve) => {
        const onRows = () => (resolve(), never());
        track(model.evaluate(prompt(300), { signal, onRows }));
      });
    },
  },
  "saving its state": {
    async enter({ model, track, signal, folder }) {
      await Promise.all([1, 2].map((i) => model.complete(prompt(320, i), { maxTokens: 1 }).result()));
      const path = join(folder, `saved-${process.pid}-${threadId}`);
      track(forever(() => model.saveState(path, { signal })));
    },
  },
  "loading a state": {
    async enter({ model, track, signal, folder }) {
      await Promise.all([1, 2].map((i) => model.complete(prompt(320, i), { maxTokens: 1 }).result()));
      const path = join(folder, `loaded-${process.pid}-${threadId}`);
      await model.saveState(path);
      let scope = 0;
      const again = () => forever(() => model.loadState(path, { signal, cacheScope: `${++scope % 3}` }));
      for (let i = 0; i < 3; i++) track(again());
    },
  },
  "saving and loading states at once": {
    async enter({ model, track, signal, folder }) {
      await Promise.all([1, 2].map((i) => model.complete(prompt(320, i), { maxTokens: 1 }).result()));
      const path = (i) => join(folder, `state-${process.pid}-${threadId}-${i}`);
      await Promise.all([0, 1].map((i) => model.saveState(path(i))));
      for (const i of [0, 1]) {
        track(forever(() => model.saveState(path(i), { signal })));
        track(forever(() => model.loadState(path(i), { signal, cacheScope: `${i}` })));
      }
      track(model.complete([100, 101], { ...endless, signal }).result());
    },
  },
  "loading an adapter": {
    async enter({ model, track, signal, adapter }) {
      const once = async () => {
        const loaded = await model.loadAdapter(adapter, { signal });
        await model.complete([100, 101], { ...endless, maxTokens: 2, signal, adapter: loaded }).result();
        loaded.dispose();
      };
      track(forever(once));
      track(forever(once));
    },
  },
  "guessing with a draft": {
    settings: { draft: true },
    async enter({ model, track, signal }) {
      const again = (i) =>
        forever(async () => {
          const options = { ...endless, speculation: "draft", maxTokens: 200, signal };
          const { finishReason } = await model.complete(prompt(40, i), options).result();
          if (finishReason === "cancelled")
            throw Object.assign(new Error(), { code: "ERR_INHOUSE_DISPOSED" });
        });
      for (let i = 0; i < 3; i++) track(again(i));
      await until(() => model.stats().steps > 10);
    },
  },
};

const usual = ["exit", "terminate", "dispose", "abort"];

function load(state, { device, model, draft }) {
  const { draft: drafting, ...settings } = states[state].settings ?? {};
  return loadModel(model, {
    device,
    contextLength: 2048,
    ...(drafting ? { draft: { file: draft } } : {}),
    ...settings,
  });
}

/** A fresh model in the state, and all that goes on. */
async function enter(state, ending, files) {
  const model = await load(state, files);
  const control = new AbortController();
  const tracked = [];
  const track = (promise) => {
    const settled = promise.then(
      (value) => ({ value }),
      (reason) => ({ reason }),
    );
    tracked.push(settled);
  };
  const kept = await states[state].enter({ ...files, model, track, signal: control.signal, ending });
  return { model, control, tracked, kept };
}

const enough = new Error("enough");

const endings = {
  async exit({ state, files }) {
    globalThis.kept = await enter(state, "exit", files);
    process.exit(7);
  },
  async terminate({ state, files, delay }) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { state, files } });
    await new Promise((resolve, reject) => {
      worker.once("message", resolve);
      worker.once("error", reject);
      worker.once("exit", (code) => reject(new Error(`the worker ended by itself with ${code}`)));
    });
    worker.removeAllListeners("exit");
    await sleep(delay);
    assert.equal(await worker.terminate(), 1);
  },
  async dispose({ state, files, delay }) {
    const { model, control, tracked } = await enter(state, "dispose", files);
    await sleep(delay);
    await model.dispose();
    control.abort(enough); // what is over does not mind
    for (const { value, reason } of await Promise.all(tracked)) {
      if (value) assert.equal(value.finishReason, "cancelled");
      else assert.equal(reason.code, "ERR_INHOUSE_DISPOSED", reason);
    }
  },
  async abort({ state, files, delay }) {
    const { model, control, tracked } = await enter(state, "abort", files);
    await sleep(delay);
    control.abort(enough);
    for (const { reason } of await Promise.all(tracked)) assert.equal(reason, enough);
    const { tokens } = await model.complete([100, 101], { ...endless, maxTokens: 3 }).result();
    assert.equal(tokens.length, 3);
    await until(() => model.stats().running + model.stats().waiting + model.stats().paused === 0);
    // Not disposed of: the process ends all the same.
    return model;
  },
  /** Nothing is ended: what nobody reads does not keep the process. */
  async leave({ state, files }) {
    globalThis.kept = await enter(state, "leave", files);
  },
};

async function main([state, ending, rounds, device, model, draft, adapter, folder]) {
  const files = { device, model, draft, adapter, folder };
  // Keeps the weights in memory for the others.
  const holder = await load(state, files);
  for (let round = 0; round < Number(rounds); round++) {
    const delay = ((round * 7919) % 101) / 5;
    await endings[ending]({ state, files, delay });
  }
  if (ending === "dispose") await holder.dispose();
  process.exitCode = 7;
}

async function work({ state, files }) {
  globalThis.kept = await enter(state, "terminate", files);
  parentPort.postMessage("reached");
  parentPort.on("message", () => undefined); // stays until it is terminated
}

if (!isMainThread) await work(workerData);
else if (process.argv[2] === "list") {
  const table = Object.entries(states).map(([state, { endings: more = [] }]) => [state, [...usual, ...more]]);
  console.log(JSON.stringify(table));
} else await main(process.argv.slice(2));
