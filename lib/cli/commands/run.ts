// `inhouse run`: one answer, or a conversation on a terminal.
import { InhouseError } from "../../errors.js";
import type { Generation } from "../../generate.js";
import type { Model } from "../../model.js";
import type { GenerateOptions } from "../../request.js";
import type { ChatMessage, GenerationResult } from "../../types.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { converse } from "../conversation.js";
import { type Flags, parseFlags } from "../flags.js";
import { readText, readTextFile } from "../input.js";
import { adapterOf, load } from "../loading.js";
import {
  draftFlags,
  generateOptions,
  loadFlags,
  loadOptions,
  requestFlags,
  samplingFlags,
} from "../settings.js";
import { json, plural } from "../terminal.js";
import { UsageError } from "../usage.js";

const ownFlags = {
  system: { name: "system", value: "TEXT", help: "A system message before the conversation." },
  raw: { name: "raw", help: "Continue the prompt as it is, without the chat template." },
  template: { name: "template", value: "FILE", help: "A Jinja chat template to use in place of the file's." },
  loadState: {
    name: "load-state",
    value: "FILE",
    help: "Begin with what --save-state wrote: prompts that begin alike need not be computed again.",
  },
  saveState: {
    name: "save-state",
    value: "FILE",
    help: "Write what was computed of prompt and answer to a file.",
  },
  json: { name: "json", help: "Print one JSON document when the answer is complete." },
  quiet: { name: "quiet", short: "q", help: "No timings, and no word on a cut answer, on stderr." },
} satisfies Flags;

export const runCommand: Command = {
  name: "run",
  operands: "MODEL [PROMPT]",
  summary: "Answer a prompt; without one on a terminal, hold a conversation.",
  details:
    "PROMPT - reads the prompt from stdin, as does a missing PROMPT where stdin is not a terminal. In a " +
    "conversation Ctrl-C cancels the answer, /clear begins anew, /exit or Ctrl-D ends. Ctrl-C in other uses ends " +
    "after what has been generated so far (exit code 130); a second one ends at once. On a terminal, control " +
    "characters in the text are shown as symbols; elsewhere the text is written as it is.",
  groups: {
    "Prompt and output": ownFlags,
    Generation: requestFlags,
    Sampling: samplingFlags,
    "Loading and device": { ...loadFlags, ...draftFlags },
  },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name, operand] = operands(this, positionals, 1, 2);
    if (values.raw === true && values.system !== undefined)
      throw new UsageError("--system has no place beside --raw");
    if (values.raw === true && values.template !== undefined) {
      throw new UsageError("--template has no place beside --raw");
    }
    const prompt = operand === undefined || operand === "-" ? await readPrompt(operand, shell) : operand;
    if (prompt === undefined && values.json === true) throw new UsageError("--json wants a PROMPT");
    const options = generateOptions(values);
    const template =
      values.template === undefined
        ? {}
        : { template: await readTextFile("template", values.template as string, shell.signal) };
    const system: ChatMessage[] =
      values.system === undefined ? [] : [{ role: "system", content: values.system as string }];

    const model = await load(name!, loadOptions(values), shell);
    try {
      if (values.raw !== true && values.template === undefined && !model.info.hasChatTemplate)
        throw noTemplate();
      const { signal } = shell;
      const adapter = await adapterOf(model, values, shell);
      options.adapter = adapter;
      if (values.loadState !== undefined)
        await model.loadState(values.loadState as string, { adapter, signal });
      const start = (text: string, before: readonly ChatMessage[]) =>
        values.raw === true
          ? model.complete(text, options)
          : model.chat([...before, { role: "user", content: text }], { ...options, ...template });
      // After an interruption too, which keeps what it has.
      const save = async () => {
        if (values.saveState !== undefined) await model.saveState(values.saveState as string, { adapter });
      };
      if (prompt === undefined) {
        await converse(start, system, (result) => cutNote(result, options, model), shell);
        await save();
        return;
      }
      const result = await answer(start(prompt, system), values.json !== true, shell);
      if (values.json === true) await shell.stdout.write(`${json(document(result))}\n`);
      else if (values.quiet !== true)
        shell.stderr.note(`${cutNote(result, options, model)}${timings(result, model)}\n`);
      await save();
    } finally {
      await model.dispose();
    }
  },
};

function noTemplate(): InhouseError {
  return new InhouseError(
    "ERR_INHOUSE_TEMPLATE_MISSING",
    "this model has no chat template: it is probably a base model, which continues texts. Use --raw for that, or " +
      "give it a template with --template FILE",
  );
}

/** The prompt from stdin, or undefined where a conversation is wanted. */
async function readPrompt(operand: string | undefined, shell: Shell): Promise<string | undefined> {
  if (operand === undefined && shell.stdin.isTTY) return undefined;
  const text = (await readText(shell.stdin, "stdin", shell.signal)).replace(/\r?\n$/, "");
  if (text === "") throw new UsageError("no PROMPT given, and nothing on stdin");
  return text;
}

/** Streams a generation to stdout and returns its result. Ctrl-C cancels it. */
async function answer(generation: Generation, stream: boolean, shell: Shell): Promise<GenerationResult> {
  const cancel = () => generation.cancel();
  if (shell.signal.aborted) cancel();
  shell.signal.addEventListener("abort", cancel, { once: true });
  try {
    let last = "\n";
    if (stream) {
      for await (const { text } of generation) {
        await shell.stdout.writeForeign(text);
        last = text.at(-1) ?? last;
      }
    }
    const result = await generation.result();
    shell.stdout.check();
    if (stream && last !== "\n") await shell.stdout.write("\n");
    return result;
  } finally {
    shell.signal.removeEventListener("abort", cancel);
  }
}

/** A line that says what cut an answer short; empty where nothing did. */
function cutNote(
  { finishReason, usage }: GenerationResult,
  { maxTokens }: GenerateOptions,
  model: Model,
): string {
  if (finishReason !== "length") return "";
  if (usage.completionTokens === maxTokens) return `(cut at --max-tokens ${maxTokens})\n`;
  return `(cut: the context of ${plural(model.info.contextLength, "token")} is full; --context N sets another)\n`;
}

function document(result: GenerationResult): unknown {
  const { text, tokens, promptTokens, finishReason, usage, timings, seed } = result;
  return { text, tokens, promptTokens, finishReason, usage, timings, seed };
}

function timings({ usage, timings: times, finishReason }: GenerationResult, model: Model): string {
  const rate = (perSecond: number) => `${perSecond.toFixed(1)} tokens/s`;
  return [
    `prompt ${plural(usage.promptTokens, "token")}, ${rate(times.promptTokensPerSecond)}`,
    `answer ${plural(usage.completionTokens, "token")}, ${rate(times.decodeTokensPerSecond)}`,
    `first token after ${(times.timeToFirstTokenMs / 1000).toFixed(2)} s`,
    finishReason,
    model.info.deviceDescription,
  ].join(" · ");
}
