// `inhouse eval perplexity`: how well a model predicts a text.
import { endianness } from "node:os";

import { InhouseError } from "../../errors.js";
import { resolve } from "../../hub/index.js";
import type { Model } from "../../model.js";
import type { Tokenizer } from "../../tokenizer/tokenizer.js";
import type { EvaluateRows, ScaledAdapter } from "../../types.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { integerFlag, parseFlags } from "../flags.js";
import { readTextFile } from "../input.js";
import { adapterOf, load } from "../loading.js";
import { OutputFile } from "../output-file.js";
import { loadFlags, loadOptions } from "../settings.js";
import { json, plural, ProgressBar, visible } from "../terminal.js";
import { UsageError } from "../usage.js";
import { type Context, cutWindows } from "../windows.js";

const { contextLength: _, ...otherLoadFlags } = loadFlags;

const evalFlags = {
  file: { name: "file", value: "TEXT", help: "A text file to predict." },
  tokens: {
    name: "tokens",
    value: "IDS.json",
    help: "A JSON array of token ids, or an array of such arrays, each a context of its own.",
  },
  context: integerFlag("context", "N", 3, 1 << 20, "With --file: tokens of one window (default: 512)."),
  logprobs: {
    name: "logprobs",
    value: "OUT",
    help: "Write the log-probabilities: float32, little-endian, [tokens, vocabulary], row i for the token after i.",
  },
  json: { name: "json", help: "Print one JSON document." },
};

export const perplexityCommand: Command = {
  name: "eval perplexity",
  operands: "MODEL",
  summary: "Tell how well a model predicts a text.",
  details:
    "With --file the text is cut into windows of --context tokens, of which the second half counts, and whose first " +
    "token is BOS if the model adds one: the windows of llama.cpp's perplexity tool, so that figures compare. What " +
    "does not fill a window is left out; a text shorter than one is taken as it is, and all tokens after the first " +
    "count. With --tokens exactly these ids are evaluated, and all after the first of each context count.",
  groups: { Evaluation: evalFlags, "Loading and device": otherLoadFlags },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const { file, tokens, logprobs } = values as Partial<Record<string, string>>;
    if ((file === undefined) === (tokens === undefined))
      throw new UsageError("give either --file or --tokens");
    const window = (values.context as number | undefined) ?? 512;
    const given =
      tokens === undefined
        ? undefined
        : parseContexts(await readTextFile("tokens", tokens, shell.signal), tokens);
    const text = file === undefined ? undefined : await readTextFile("file", file, shell.signal);

    const options = loadOptions(values);
    options.contextLength = Math.max(
      2,
      given ? Math.max(...given.map((context) => context.tokens.length)) : window,
    );
    const path = await resolve(name!);
    const inputs = {
      "the model": path,
      ...(file === undefined ? {} : { "the text": file }),
      ...(tokens === undefined ? {} : { "the list of tokens": tokens }),
    };
    const out = logprobs === undefined ? undefined : await OutputFile.plan("logprobs", logprobs, inputs);
    const model = await load(path, options, shell);
    try {
      const adapter = await adapterOf(model, values, shell);
      const contexts = given ?? windows(model.tokenizer, text!, window, shell);
      const result = await score(model, contexts, adapter, out, shell);
      await shell.stdout.write(values.json === true ? `${json(result)}\n` : visible(report(result)));
    } finally {
      await model.dispose();
    }
  },
};

function parseContexts(source: string, path: string): Context[] {
  const wrong = (what: string) => new InhouseError("ERR_INHOUSE_INVALID_ARGUMENT", `${path}: ${what}`);
  let data: unknown;
  try {
    data = JSON.parse(source);
  } catch (error) {
    throw wrong(`not JSON: ${(error as Error).message}`);
  }
  if (!Array.isArray(data) || data.length === 0)
    throw wrong("expected an array of token ids, or of such arrays, not empty");
  const lists: unknown[] = Array.isArray(data[0]) ? data : [data];
  return lists.map((list: unknown, i) => {
    const at = lists.length > 1 ? `context ${i}: ` : "";
    if (!Array.isArray(list) || list.length < 2)
      throw wrong(`${at}expected an array of at least two token ids`);
    const bad = list.findIndex((id: number) => !Number.isInteger(id) || id < 0 || id >= 2 ** 31);
    if (bad >= 0) throw wrong(`${at}entry ${bad} is ${JSON.stringify(list[bad])}, expected a token id`);
    return { tokens: list as number[], scoredFrom: 1 };
  });
}

function windows(tokenizer: Tokenizer, text: string, size: number, shell: Shell): Context[] {
  const tokens = Array.from(tokenizer.encode(text, { addEos: false }));
  if (tokens.length < 2) {
    throw new InhouseError(
      "ERR_INHOUSE_INVALID_ARGUMENT",
      `the text has ${plural(tokens.length, "token")}, at least 2 are needed`,
    );
  }
  if (tokens.length < size) {
    shell.stderr.note(
      `the text has ${tokens.length} tokens, less than one window of ${size}: all of them count\n`,
    );
  }
  return cutWindows(tokens, size, tokenizer.addBos ? tokenizer.bosTokenId : undefined);
}

interface Result {
  tokens: number;
  scoredTokens: number;
  contexts: number;
  contextTokens: number;
  meanNegativeLogLikelihood: number;
  perplexity: number;
  vocabularySize: number;
  seconds: number;
}

async function score(
  model: Model,
  contexts: readonly Context[],
  adapter: ScaledAdapter | undefined,
  out: OutputFile | undefined,
  shell: Shell,
): Promise<Result> {
  const start = performance.now();
  const bar = new ProgressBar(shell.stderr, "evaluating");
  let sum = 0;
  let scoredTokens = 0;
  try {
    await out?.create();
    for (const [i, { tokens, scoredFrom }] of contexts.entries()) {
      const soFar = scoredTokens > 0 ? `perplexity ${Math.exp(-sum / scoredTokens).toFixed(3)}` : "";
      bar.update(i / contexts.length, `${i} of ${contexts.length} ${soFar}`);
      const { logprobs } = await model.evaluate(tokens, {
        signal: shell.signal,
        adapter,
        ...(out ? { onRows: ({ rows }: EvaluateRows) => out.append(littleEndian(rows)) } : {}),
      });
      for (let at = scoredFrom; at < tokens.length; ++at) sum += logprobs[at - 1]!;
      scoredTokens += tokens.length - scoredFrom;
    }
    await out?.finish();
  } catch (error) {
    await out?.discard();
    throw error;
  } finally {
    bar.clear();
  }
  const mean = -sum / scoredTokens;
  return {
    tokens: contexts.reduce((count, context) => count + context.tokens.length, 0),
    scoredTokens,
    contexts: contexts.length,
    contextTokens: Math.max(...contexts.map((context) => context.tokens.length)),
    meanNegativeLogLikelihood: mean,
    perplexity: Math.exp(mean),
    vocabularySize: model.info.vocabularySize,
    seconds: (performance.now() - start) / 1000,
  };
}

function littleEndian(rows: Float32Array): Uint8Array {
  const data = Buffer.from(rows.buffer, rows.byteOffset, rows.byteLength);
  return endianness() === "BE" ? data.swap32() : data;
}

function report(result: Result): string {
  return [
    `tokens                        ${result.tokens} in ${plural(result.contexts, "context")}, ${result.scoredTokens} of them scored`,
    `mean negative log-likelihood  ${result.meanNegativeLogLikelihood.toFixed(6)} nats`,
    `perplexity                    ${result.perplexity.toFixed(4)}`,
    `time                          ${result.seconds.toFixed(1)} s (${(result.tokens / result.seconds).toFixed(1)} tokens/s)`,
    "",
  ].join("\n");
}
