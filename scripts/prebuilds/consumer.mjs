// What scripts/check-prebuilds.mjs runs inside a project that has the package, on the Node of each platform.
//
//   node consumer.mjs machine              prints what is loaded and which instruction sets the processor has
//   node consumer.mjs generate MODEL [ISA] prints the first words after "The capital of France is"
//   node consumer.mjs abort MODEL          ends with 7 if an aborted generation rejects with the signal's reason
import { loadModel } from "inhouse";
import { createRequire } from "node:module";

const [what, file, instructionSet] = process.argv.slice(2);

const actions = {
  async machine() {
    const addon = createRequire(import.meta.url)(`@inhouse/${process.env.INHOUSE_PLATFORM}`);
    const sets = addon.machine().instructionSets.filter(({ supported }) => supported);
    console.log(JSON.stringify({ version: addon.version, sets: sets.map(({ name }) => name) }));
  },
  async generate() {
    const model = await loadModel(file, { contextLength: 512, instructionSet });
    const answer = model.complete("The capital of France is", { maxTokens: 6, temperature: 0 });
    let streamed = "";
    for await (const { text } of answer) streamed += text;
    const { text, finishReason } = await answer.result();
    const device = model.info.deviceDescription;
    console.log(JSON.stringify({ text, finishReason, device, same: text === streamed }));
    await model.dispose();
  },
  async abort() {
    const model = await loadModel(file, { contextLength: 512 });
    const control = new AbortController();
    const options = { ignoreStopTokens: true, signal: control.signal };
    const answer = model.complete([100, 101], options);
    const reason = new Error("on purpose");
    try {
      for await (const _ of answer) control.abort(reason);
    } catch (error) {
      process.exitCode = error === reason ? 7 : 1;
    }
    await model.dispose();
  },
};
await actions[what]();
