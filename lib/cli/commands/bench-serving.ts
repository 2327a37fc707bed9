// `inhouse bench serving`: how a model serves many requests that come as clients send them.
import { InhouseError } from "../../errors.js";
import { resolve } from "../../hub/index.js";
import { overrideList } from "../../load-options.js";
import type { NativeLimits } from "../../native.js";
import { type Environment, environmentOf } from "../bench/environment.js";
import { measureLimits, readShape } from "../bench/limits.js";
import { promptSource } from "../bench/measure.js";
import { serve } from "../bench/serve.js";
import { servingFigures, type ServingFigures } from "../bench/serving.js";
import { servingTable } from "../bench/serving-table.js";
import { ModelWork } from "../bench/work.js";
import { mostTokens, parseLengths, plan, type PlannedRequest, type Workload } from "../bench/workload.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { type Flag, type Flags, integerFlag, parseFlags, type Values } from "../flags.js";
import { adapterOf, load } from "../loading.js";
import { loadFlags, loadOptions, servingFlags } from "../settings.js";
import { json, plural, ProgressBar, visible } from "../terminal.js";
import { UsageError } from "../usage.js";

const mostRequests = 1e6;

function numberFlag(
  name: string,
  value: string,
  max: number,
  help: string,
  words: readonly string[] = [],
): Flag {
  const parse = (texts: string[]) => {
    const text = texts.at(-1)!;
    if (words.includes(text)) return text;
    const number = /^(\d+\.?\d*|\.\d+)$/.test(text) ? Number(text) : NaN;
    if (number >= 0 && number <= max) return number;
    const others = words.map((word) => ` or ${word}`).join("");
    throw new UsageError(`expected a number from 0 to ${max}${others}, got ${JSON.stringify(text)}`);
  };
  return { name, value, help, parse };
}

const lengthsFlag = (name: string, help: string): Flag => ({
  name,
  value: "LENGTHS",
  help,
  parse: (texts) => parseLengths(texts.at(-1)!),
});

const workloadFlags = {
  rate: numberFlag(
    "rate",
    "R",
    10_000,
    "Requests that come in a second, at random and independent of each other; 0 or max: all at once (default: max).",
    ["max"],
  ),
  requests: integerFlag("requests", "N", 1, mostRequests, "Requests in all (default: 100)."),
  duration: numberFlag(
    "duration",
    "SECONDS",
    86_400,
    "In place of --requests: as many as come in this time.",
  ),
  promptTokens: lengthsFlag(
    "prompt-tokens",
    "Tokens of a prompt: N, N-M (each as likely) or lognormal:MEAN,SD (default: 32-256).",
  ),
  answerTokens: lengthsFlag("answer-tokens", "Tokens of an answer, in the same way (default: 64)."),
  sharedTokens: integerFlag(
    "shared-tokens",
    "N",
    0,
    mostTokens,
    "Tokens that all prompts begin with, before their own (default: 0).",
  ),
  cancelled: numberFlag(
    "cancel",
    "SHARE",
    1,
    "The share of requests that are cancelled, somewhere before the end of their answers (default: 0).",
  ),
  seed: integerFlag(
    "seed",
    "N",
    0,
    2 ** 32 - 1,
    "The same seed gives the same requests at the same times (default: 1).",
  ),
  json: { name: "json", help: "Print one JSON document." },
} satisfies Flags;

/** The document of `--json`. */
export interface ServingResult extends Environment {
  settings: Environment["settings"] & { maxConcurrent: number; maxQueue: number; kvTokens: number };
  workload: Omit<Workload, "promptTokens" | "answerTokens"> & { promptTokens: string; answerTokens: string };
  /** Of the machine, measured after the run, per second. */
  limits: NativeLimits;
  figures: ServingFigures;
}

export const benchServingCommand: Command = {
  name: "bench serving",
  operands: "MODEL",
  summary: "Measure how a model serves many requests that come at their own pace.",
  details:
    "Requests come whether or not earlier ones have been answered, each with a prompt of its own. Answers are as long " +
    "as they are to be. Shown are rates, percentiles of what clients wait for, and what the engine did, beside the time " +
    "that the same work takes at the machine's limits in full batches.",
  groups: { Requests: workloadFlags, Serving: servingFlags, "Loading and device": loadFlags },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const result = await benchServing(name!, workloadOf(values), values, shell);
    await shell.stdout.write(values.json === true ? `${json(result)}\n` : visible(servingTable(result)));
  },
};

/** Throws UsageError for what does not go together. */
function workloadOf(values: Values<typeof workloadFlags>): Workload {
  const { requests, duration, ...given } = values as Partial<Workload> & {
    requests?: number;
    duration?: number;
  };
  const rate = given.rate === undefined || given.rate === 0 ? "max" : given.rate;
  if (duration !== undefined) {
    if (requests !== undefined) throw new UsageError("give either --requests or --duration");
    if (rate === "max") throw new UsageError("--duration wants a --rate other than max");
    if (duration * rate > mostRequests)
      throw new UsageError(`--duration and --rate make more than ${mostRequests} requests`);
  }
  return {
    rate,
    amount: duration === undefined ? { requests: requests ?? 100 } : { seconds: duration },
    promptTokens: given.promptTokens ?? parseLengths("32-256"),
    answerTokens: given.answerTokens ?? parseLengths("64"),
    sharedTokens: given.sharedTokens ?? 0,
    cancelled: given.cancelled ?? 0,
    seed: given.seed ?? 1,
  };
}

async function benchServing(
  name: string,
  workload: Workload,
  values: Values<typeof loadFlags & typeof servingFlags>,
  shell: Shell,
): Promise<ServingResult> {
  const path = await resolve(name);
  const options = loadOptions(values);
  const shape = await readShape(path, overrideList(options.overrides));
  const requests = plan(workload);
  if (requests.length === 0) throw new UsageError("no request comes within --duration");
  const contextLength = contextFor(
    requests,
    workload.sharedTokens,
    options.contextLength,
    shape.trainedContextLength,
  );
  const model = await load(path, { maxConcurrent: undefined, ...options, contextLength }, shell);
  const bar = new ProgressBar(shell.stderr, "serving");
  try {
    const prompts = promptSource(shape.vocabularySize);
    const shared = prompts(workload.sharedTokens);
    const serving = await serve(
      model,
      requests,
      (own) => [...shared, ...prompts(own)],
      await adapterOf(model, values, shell),
      shell.signal,
      (ended) => bar.update(ended / requests.length, `${ended} of ${plural(requests.length, "request")}`),
    );
    bar.clear();
    const unknown = serving.served.find(
      ({ outcome, error }) => outcome === "failed" && !InhouseError.is(error),
    );
    if (unknown) throw unknown.error;
    const { maxConcurrent, maxQueue, kvTokens } = model.info;
    const environment = environmentOf(model.info);
    const { settings } = environment;
    const limits = await measureLimits(settings.threads, options.instructionSet);
    shell.signal.throwIfAborted();
    const work = new ModelWork(shape.header, shape.attention, settings.kvType);
    return {
      ...environment,
      settings: { ...settings, maxConcurrent, maxQueue, kvTokens },
      workload: {
        ...workload,
        promptTokens: workload.promptTokens.text,
        answerTokens: workload.answerTokens.text,
      },
      limits,
      figures: servingFigures(serving, work, limits, model.info),
    };
  } finally {
    bar.clear();
    await model.dispose();
  }
}

/** The context that was asked for, or that of the longest request. Throws UsageError where that is too long. */
function contextFor(
  requests: readonly PlannedRequest[],
  shared: number,
  asked: number | undefined,
  trained: number,
): number {
  const longest = requests.reduce((most, one) => Math.max(most, one.promptTokens + one.answerTokens), 0);
  const needed = shared + longest + 1;
  const most = asked ?? trained;
  if (needed <= most) return asked ?? needed;
  throw new UsageError(
    `the longest request needs a context of ${needed} tokens, more than the ${most} there are`,
  );
}
