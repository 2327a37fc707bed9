// `inhouse bench`: how fast a model reads and writes, beside what the machine could do at most.
import { setMaxListeners } from "node:events";
import { availableParallelism, cpus } from "node:os";

import { resolve } from "../../hub/index.js";
import { overrideList } from "../../load-options.js";
import type { Model } from "../../model.js";
import type { NativeLimits } from "../../native.js";
import type { LoadOptions } from "../../types.js";
import { type Figure, figuresOf, noiseOf } from "../bench/figures.js";
import { bestLimits, measureLimits, readShape } from "../bench/limits.js";
import {
  type Case,
  casesOf,
  contextOf,
  measureRound,
  nameOf,
  type Open,
  promptSource,
  type Samples,
} from "../bench/measure.js";
import { sessionOf } from "../bench/session.js";
import { table } from "../bench/table.js";
import { ModelWork } from "../bench/work.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { integerFlag, integersFlag, parseFlags } from "../flags.js";
import { load } from "../loading.js";
import { loadFlags, loadOptions } from "../settings.js";
import { json, ProgressBar, visible } from "../terminal.js";
import { UsageError } from "../usage.js";
import { version } from "../version.js";

const most = 1 << 20;
const benchFlags = {
  prompts: integersFlag("prompt", 1, most, "Tokens of the prompts that are timed (default: 64,512)."),
  depths: integersFlag("depth", 1, most, "Tokens before those that one stream writes (default: 1024,4096)."),
  streams: integersFlag(
    "streams",
    1,
    1024,
    "Streams that write at once, each after a prompt of 64 tokens (default: 1,4,16,32).",
  ),
  tokens: integerFlag("decode-tokens", "N", 1, most, "Tokens that each stream writes (default: 64)."),
  rounds: integerFlag("rounds", "N", 1, 1000, "Rounds, of which medians are shown (default: 3)."),
  json: { name: "json", help: "Print one JSON document, with every round's figures." },
};
const defaults = { prompts: [64, 512], depths: [1024, 4096], streams: [1, 4, 16, 32], tokens: 64 };

/** The document of `--json`. */
export interface BenchResult {
  model: Pick<Model["info"], "path" | "fileBytes" | "architecture" | "quantization" | "parameters">;
  machine: { processor: string; processors: number };
  versions: { inhouse: string; node: string };
  settings: Pick<Model["info"], "device" | "deviceDescription" | "kvType" | "maxBatchTokens"> & {
    decodeTokens: number;
    rounds: number;
  };
  memory: Model["info"]["memory"];
  /** Of the machine: the best of all rounds, per second. */
  limits: NativeLimits;
  figures: Figure[];
  warnings: string[];
}

export const benchCommand: Command = {
  name: "bench",
  operands: "MODEL",
  summary: "Measure speed, time to the first token and memory, beside the machine's limits.",
  details:
    "Each figure stands beside its floor: the bytes that must be read over the machine's read bandwidth, or the " +
    "multiply-adds over the peak of the processor's instructions, whichever takes longer. Both limits are measured " +
    "in the same rounds.",
  groups: { Measurement: benchFlags, "Loading and device": loadFlags },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const given = values as Partial<typeof defaults> & { rounds?: number; json?: boolean };
    const result = await bench(name!, given, given.rounds ?? 3, loadOptions(values), shell);
    for (const warning of result.warnings) shell.stderr.note(`${warning}\n`);
    await shell.stdout.write(given.json === true ? `${json(result)}\n` : visible(table(result)));
  },
};

async function bench(
  name: string,
  given: Partial<typeof defaults>,
  count: number,
  options: LoadOptions,
  shell: Shell,
): Promise<BenchResult> {
  const path = await resolve(name);
  const shape = await readShape(path, overrideList(options.overrides));
  const cases = fitting(given, options.contextLength ?? shape.trainedContextLength, shell);
  const threads = options.threads === "auto" ? 0 : (options.threads ?? 0);

  let info: Model["info"] | undefined;
  const open: Open = async ({ streams, contextLength }) => {
    const model = await load(path, { contextLength, ...options, maxConcurrent: streams }, shell);
    info ??= model.info;
    setMaxListeners(streams + 10, shell.signal);
    return sessionOf(model, shell.signal);
  };
  const prompts = promptSource(shape.vocabularySize);
  const rounds: Samples[] = [];
  const limits: NativeLimits[] = [];
  for (let round = 0; round < count; ++round) {
    const bar = new ProgressBar(shell.stderr, "measuring");
    bar.update(round / count, `round ${round + 1} of ${count}`);
    try {
      const samples = await measureRound(open, cases, prompts, Math.max(...cases.map(contextOf)));
      // The peak of a process never falls: only the first round's is of these figures alone.
      rounds.push({ ...samples, peakBytes: (rounds[0] ?? samples).peakBytes });
    } finally {
      bar.clear();
    }
    limits.push(await measureLimits(threads, options.instructionSet));
    shell.signal.throwIfAborted();
  }
  const { fileBytes, architecture, quantization, parameters, memory, ...settings } = info!;
  const { device, deviceDescription, kvType, maxBatchTokens } = settings;
  const work = new ModelWork(shape.header, shape.attention, kvType);
  const best = bestLimits(limits);
  const figures = figuresOf(rounds, cases, work, best, maxBatchTokens);
  return {
    model: { path, fileBytes, architecture, quantization, parameters },
    machine: { processor: cpus()[0]?.model ?? "unknown", processors: availableParallelism() },
    versions: { inhouse: version(), node: process.versions.node },
    settings: {
      device,
      deviceDescription,
      kvType,
      maxBatchTokens,
      decodeTokens: given.tokens ?? defaults.tokens,
      rounds: count,
    },
    memory,
    limits: best,
    figures,
    warnings: noiseOf(figures, limits),
  };
}

/** The cases that fit a context. Those that flags name must; of the others it says which are left out. */
function fitting(given: Partial<typeof defaults>, contextLength: number, shell: Shell): Case[] {
  const { prompts = [], depths = [], tokens = defaults.tokens } = given;
  const streams = given.streams ?? (given.tokens === undefined ? [] : defaults.streams);
  const named = new Set(casesOf({ prompts, depths, streams, tokens }).map(nameOf));
  const cases = casesOf({ ...defaults, ...given });
  const fit = cases.filter((one) => contextOf(one) <= contextLength);
  for (const one of cases.filter((other) => !fit.includes(other))) {
    const limit = `${nameOf(one)} needs a context of ${contextOf(one)} tokens, more than the ${contextLength} there are`;
    if (named.has(nameOf(one))) throw new UsageError(limit);
    shell.stderr.note(`left out: ${limit}\n`);
  }
  if (fit.length === 0) throw new UsageError(`nothing fits a context of ${contextLength} tokens`);
  return fit;
}
