#!/usr/bin/env node
// A command-line tool: asks a question about what comes on stdin.
//
//   git diff | node examples/ask.mjs MODEL "What does this change?"
//
// The answer goes to stdout as it is written, everything else to stderr. Ctrl-C ends the answer and keeps what is there.
import { text as readAll } from "node:stream/consumers";
import { parseArgs } from "node:util";
import { InhouseError, loadModel } from "inhouse";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { "max-tokens": { type: "string", default: "300" } },
});
const [file, question = "What is this?"] = positionals;

try {
  const showProgress = ({ loaded, total }) =>
    process.stderr.write(`\rloading ${Math.round((100 * loaded) / total)}%`);
  const model = await loadModel(file, process.stderr.isTTY ? { onProgress: showProgress } : {});
  const input = process.stdin.isTTY ? "" : await readAll(process.stdin);
  const messages = [
    { role: "system", content: "You answer questions about a text, in few words." },
    { role: "user", content: `${input}\n\n${question}` },
  ];
  const answer = model.chat(messages, { maxTokens: Number(values["max-tokens"]) });
  process.once("SIGINT", () => answer.cancel());
  for await (const { text } of answer) process.stdout.write(text);
  const { finishReason, usage, timings } = await answer.result();
  process.stdout.write("\n");
  const speed = timings.decodeTokensPerSecond.toFixed(0);
  console.error(
    `${usage.promptTokens} + ${usage.completionTokens} tokens, ${speed} tokens/s, ${finishReason}`,
  );
  await model.dispose();
} catch (error) {
  if (!InhouseError.is(error)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}
