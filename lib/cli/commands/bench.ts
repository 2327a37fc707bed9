// `inhouse bench`: how fast a model reads and writes, beside what the machine could do at most.
import { setMaxListeners } from "node:events";

import { resolve } from "../../hub/index.js";
import { overrideList } from "../../load-options.js";
import type { Model } from "../../model.js";
import type { NativeLimits } from "../../native.js";
import { type Case, casesOf, contextOf, fitting, type Lists, nameOf, type Room } from "../bench/cases.js";
import { type Environment, environmentOf } from "../bench/environment.js";
import { type Figure, figuresOf, limitNoiseOf, noiseOf, untimedOf } from "../bench/figures.js";
import { bestLimits, measureLimits, readShape } from "../bench/limits.js";
import { measureRound, type Open, promptSource, type Samples } from "../bench/measure.js";
import { sessionOf } from "../bench/session.js";
import { table } from "../bench/table.js";
import { ModelWork } from "../bench/work.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { integerFlag, integersFlag, parseFlags, type Values } from "../flags.js";
import { adapterOf, load } from "../loading.js";
import { loadFlags, loadOptions } from "../settings.js";
import { json, ProgressBar, visible } from "../terminal.js";
import { UsageError } from "../usage.js";

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
const defaults: Lists = { prompts: [64, 512], depths: [1024, 4096], streams: [1, 4, 16, 32], tokens: 64 };

/** The document of `--json`. */
export interface BenchResult extends Environment {
  /** `contextLength` is that of the sessions of one stream; those of more hold what they need. */
  settings: Environment["settings"] & { decodeTokens: number; rounds: number };
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
    const given = values as Partial<Lists> & { rounds?: number; json?: boolean };
    const result = await bench(name!, given, given.rounds ?? 3, values, shell);
    for (const warning of result.warnings) shell.stderr.note(`${warning}\n`);
    await shell.stdout.write(given.json === true ? `${json(result)}\n` : visible(table(result)));
  },
};

async function bench(
  name: string,
  given: Partial<Lists>,
  count: number,
  values: Values<typeof loadFlags>,
  shell: Shell,
): Promise<BenchResult> {
  const options = loadOptions(values);
  const path = await resolve(name);
  const shape = await readShape(path, overrideList(options.overrides));
  const { maxBatchTokens: batch } = options;
  const room = { contextLength: options.contextLength ?? shape.trainedContextLength, maxBatchTokens: batch };
  const cases = chosen(given, room, shell);
  const threads = options.threads === "auto" ? 0 : (options.threads ?? 0);
  const oneStream = options.contextLength ?? Math.max(...cases.map(contextOf));

  let info: Model["info"] | undefined;
  const open: Open = async ({ streams, contextLength }) => {
    const model = await load(
      path,
      { ...options, contextLength, maxConcurrent: streams, maxSlowdown: 1000 },
      shell,
    );
    info ??= model.info;
    setMaxListeners(streams + 10, shell.signal);
    return sessionOf(model, await adapterOf(model, values, shell), shell.signal);
  };
  const prompts = promptSource(shape.vocabularySize);
  const rounds: Samples[] = [];
  const limits: NativeLimits[] = [];
  for (let round = 0; round < count; ++round) {
    const bar = new ProgressBar(shell.stderr, "measuring");
    bar.update(round / count, `round ${round + 1} of ${count}`);
    try {
      const samples = await measureRound(open, cases, prompts, oneStream);
      // The peak of a process never falls: only the first round's is of these figures alone.
      rounds.push(round === 0 ? samples : { ...samples, peakBytes: undefined });
    } finally {
      bar.clear();
    }
    limits.push(await measureLimits(threads, options.instructionSet));
    shell.signal.throwIfAborted();
  }
  const environment = environmentOf(info!);
  const { settings } = environment;
  const work = new ModelWork(shape.header, shape.attention, settings.kvType);
  const best = bestLimits(limits);
  const figures = figuresOf(rounds, cases, work, best, settings.maxBatchTokens);
  return {
    ...environment,
    settings: { ...settings, decodeTokens: given.tokens ?? defaults.tokens, rounds: count },
    limits: best,
    figures,
    warnings: [
      ...otherDevice(settings.device),
      ...untimedOf(rounds, cases),
      ...limitNoiseOf(limits, settings.threads),
      ...noiseOf(figures),
    ],
  };
}

/** The cases there is room for. Those that flags name must fit; of the others it says which are left out. */
function chosen(given: Partial<Lists>, room: Room, shell: Shell): Case[] {
  const { prompts = [], depths = [], streams = [], tokens = defaults.tokens } = given;
  const named = new Set(casesOf({ prompts, depths, streams, tokens }).map(nameOf));
  const { fit, misfits } = fitting(casesOf({ ...defaults, ...given }), room);
  const refused = misfits.find(({ name }) => named.has(name));
  if (refused !== undefined) throw new UsageError(refused.reason);
  for (const { reason } of misfits) shell.stderr.note(`left out: ${reason}\n`);
  if (fit.length === 0) throw new UsageError(`nothing fits a context of ${room.contextLength} tokens`);
  return fit;
}

function otherDevice(device: string): string[] {
  return device === "cpu"
    ? []
    : [`floors are of the processor's fastest kernels, and device ${device} has others`];
}
