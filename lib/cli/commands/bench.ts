// `inhouse bench`: how fast a model reads a prompt and writes, in a few rounds.
import { availableParallelism, cpus } from "node:os";

import { readHeader } from "../../header.js";
import type { Model } from "../../model.js";
import type { Timings } from "../../types.js";
import { allFlags, type Command, operands, type Shell } from "../command.js";
import { integerFlag, parseFlags } from "../flags.js";
import { load } from "../loading.js";
import { loadFlags, loadOptions } from "../settings.js";
import { bytes, json, ProgressBar, visible } from "../terminal.js";

const text =
  "The river had been rising since noon, and by evening the lower meadow stood under water. Nobody in the village " +
  "remembered such a spring: the mill was closed, the bridge was watched by two men with lanterns, and the children " +
  "had been sent to their aunt on the hill. In the kitchen the clock went on as if nothing had happened. ";

const benchFlags = {
  promptTokens: integerFlag(
    "prompt-tokens",
    "N",
    1,
    1 << 20,
    "Tokens of the prompt that is timed (default: 512).",
  ),
  decodeTokens: integerFlag(
    "decode-tokens",
    "N",
    1,
    1 << 20,
    "Tokens that are generated and timed (default: 128).",
  ),
  depth: integerFlag("depth", "N", 1, 1 << 20, "Tokens before the generated ones (default: 16)."),
  rounds: integerFlag("rounds", "N", 1, 1000, "Rounds, of which medians are shown (default: 3)."),
  json: { name: "json", help: "Print one JSON document, with every round's figures." },
};

interface Round {
  promptTokensPerSecond: number;
  decodeTokensPerSecond: number;
}

export const benchCommand: Command = {
  name: "bench",
  operands: "MODEL",
  summary: "Measure reading and writing speed, load to first token, and memory.",
  details:
    "Each round reads another text, as a server would. The weights' rate is a lower bound of what decoding reads from " +
    "memory: the bytes of the file's weights that one token needs, times tokens per second.",
  groups: { Measurement: benchFlags, "Loading and device": loadFlags },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const {
      promptTokens = 512,
      decodeTokens = 128,
      depth = 16,
      rounds: count = 3,
    } = values as Partial<Record<string, number>>;
    const options = loadOptions(values);
    options.contextLength ??= Math.max(promptTokens + 1, depth + decodeTokens + 1);

    const start = performance.now();
    const model = await load(name!, options, shell);
    try {
      const loadMs = performance.now() - start;
      const tokens = model.tokenizer.encode(text);
      // Round 0 is the first use after the load and gives its latency alone.
      await timed(model, prompt(tokens, depth, 0), 1, shell);
      const loadToFirstTokenMs = performance.now() - start;
      const bar = new ProgressBar(shell.stderr, "measuring");
      const rounds: Round[] = [];
      try {
        for (let round = 1; round <= count; ++round) {
          bar.update((round - 1) / count, `round ${round} of ${count}`);
          const reading = await timed(model, prompt(tokens, promptTokens, 2 * round), 1, shell);
          const writing = await timed(model, prompt(tokens, depth, 2 * round + 1), decodeTokens + 1, shell);
          rounds.push({
            promptTokensPerSecond: reading.promptTokensPerSecond,
            decodeTokensPerSecond: writing.decodeTokensPerSecond,
          });
        }
      } finally {
        bar.clear();
      }
      const { path, architecture, quantization, parameters, deviceDescription, memory } = model.info;
      const decodeTokensPerSecond = median(rounds.map((round) => round.decodeTokensPerSecond));
      const weightBytesPerToken = await weightBytes(path);
      const result = {
        model: { path, architecture, quantization, parameters },
        device: deviceDescription,
        machine: { processor: cpus()[0]?.model ?? "unknown", parallelism: availableParallelism() },
        promptTokens,
        decodeTokens,
        depth,
        promptTokensPerSecond: median(rounds.map((round) => round.promptTokensPerSecond)),
        decodeTokensPerSecond,
        weightBytesPerToken,
        weightBandwidthGBs: (weightBytesPerToken * decodeTokensPerSecond) / 1e9,
        loadMs,
        loadToFirstTokenMs,
        memory,
        peakMemoryBytes: process.resourceUsage().maxRSS * 1024,
        rounds,
      };
      await shell.stdout.write(values.json === true ? `${json(result)}\n` : visible(table(result)));
    } finally {
      await model.dispose();
    }
  },
};

/** Bytes of the file's weights that each token needs: all but an input embedding that is not the output too. */
async function weightBytes(path: string): Promise<number> {
  const { tensors } = await readHeader(path);
  const apart = tensors.some(({ name }) => name === "output.weight");
  const read = tensors.filter(({ name }) => !(apart && name === "token_embd.weight"));
  return read.reduce((sum, tensor) => sum + tensor.bytes, 0);
}

/** `length` tokens of the text from a place of its own, so that no two prompts begin alike. */
function prompt(tokens: ArrayLike<number>, length: number, round: number): number[] {
  return Array.from({ length }, (_, i) => tokens[(round * 7 + i) % tokens.length]!);
}

async function timed(model: Model, tokens: number[], maxTokens: number, shell: Shell): Promise<Timings> {
  const options = { maxTokens, temperature: 0, ignoreStopTokens: true, signal: shell.signal };
  return (await model.complete(tokens, options).result()).timings;
}

function median(values: number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

interface Result extends Round {
  model: { path: string };
  device: string;
  promptTokens: number;
  decodeTokens: number;
  depth: number;
  weightBandwidthGBs: number;
  loadMs: number;
  loadToFirstTokenMs: number;
  peakMemoryBytes: number;
  rounds: Round[];
}

function table(result: Result): string {
  const range = (key: keyof Round) => {
    const all = result.rounds.map((round) => round[key]);
    return `${Math.min(...all).toFixed(1)} – ${Math.max(...all).toFixed(1)}`;
  };
  const rows = [
    [
      `prompt of ${result.promptTokens}`,
      `${result.promptTokensPerSecond.toFixed(1)} tokens/s`,
      range("promptTokensPerSecond"),
    ],
    [
      `decode ${result.decodeTokens} at ${result.depth}`,
      `${result.decodeTokensPerSecond.toFixed(1)} tokens/s`,
      range("decodeTokensPerSecond"),
    ],
    ["weights read", `${result.weightBandwidthGBs.toFixed(1)} GB/s`, "at least, while decoding"],
    ["load", `${(result.loadMs / 1000).toFixed(2)} s`, ""],
    ["load to first token", `${(result.loadToFirstTokenMs / 1000).toFixed(2)} s`, ""],
    ["peak memory", bytes(result.peakMemoryBytes), ""],
  ];
  const lines = rows.map(([name, value, spread]) =>
    `  ${name!.padEnd(22)} ${value!.padStart(16)}   ${spread!}`.trimEnd(),
  );
  return `${result.model.path}\n${result.device}, median of ${result.rounds.length} rounds\n${lines.join("\n")}\n`;
}
