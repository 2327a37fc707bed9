import { readFileSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync } from "node:zlib";
import { InhouseError, loadModel, type Model } from "../../lib/index.js";

/** What transformers computed in float32 from the same file; test/golden/README.md describes the files. */
export interface Golden {
  tokens: number[];
  k: number;
  vocabulary: number;
  /** [tokens, k]: the most probable next tokens of each position, best first. */
  ids: Uint32Array;
  /** [tokens, k]: their log-probabilities. */
  logprobs: Float32Array;
  /** [tokens]: the probability of all others together. */
  tails: Float32Array;
  prompts: { text: string; promptTokens: number[]; tokens: number[]; leads: number[] }[];
}

function file(name: string): Buffer {
  return readFileSync(join(import.meta.dirname, "../golden", name));
}

export function readGolden(name: string): Golden {
  const bytes = gunzipSync(file(`${name}.top256.gz`));
  const buffer = bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength);
  const [n, k, vocabulary] = new Uint32Array(buffer, 8, 3);
  return {
    tokens: JSON.parse(file(`${name}.tokens.json`).toString()) as number[],
    k,
    vocabulary,
    ids: new Uint32Array(buffer, 24, n * k),
    logprobs: new Float32Array(buffer, 24 + 4 * n * k, n * k),
    tails: new Float32Array(buffer, 24 + 8 * n * k, n),
    prompts: (JSON.parse(file(`${name}.greedy.json`).toString()) as Pick<Golden, "prompts">).prompts,
  };
}

/** KL(golden ‖ row) over the golden tokens and all others as one, in nats. */
function divergence(golden: Golden, position: number, row: Float32Array): number {
  const { k } = golden;
  const expected = golden.logprobs.subarray(position * k, (position + 1) * k);
  const ids = golden.ids.subarray(position * k, (position + 1) * k);
  const tail = golden.tails[position];
  // Both distributions come as float32 logarithms, which add up to 1 only within about 1e-7.
  let goldenSum = tail;
  for (const logprob of expected) goldenSum += Math.exp(logprob);
  let rowSum = 0;
  for (const logprob of row) rowSum += Math.exp(logprob);
  let kl = 0;
  let shared = 0;
  for (let i = 0; i < k; i++) {
    const q = row[ids[i]] - Math.log(rowSum);
    const p = expected[i] - Math.log(goldenSum);
    kl += Math.exp(p) * (p - q);
    shared += Math.exp(q);
  }
  const others = Math.max(1 - shared, 1e-30);
  return tail > 0 ? kl + (tail / goldenSum) * Math.log(tail / goldenSum / others) : kl;
}

export interface Comparison {
  /** Mean divergence in nats over all positions, and without the first. */
  kl: number;
  klWithoutFirst: number;
  /** Share of positions whose most probable token is the golden one. */
  top1: number;
}

/** Evaluates the golden tokens, or the first `count`, and holds every row against the golden one. */
export async function compareToGolden(
  model: Model,
  golden: Golden,
  count = golden.tokens.length,
): Promise<Comparison> {
  const kls: number[] = [];
  let same = 0;
  await model.evaluate(golden.tokens.slice(0, count), {
    onRows: ({ first, count, rows }) => {
      for (let i = 0; i < count; i++) {
        const row = rows.subarray(i * golden.vocabulary, (i + 1) * golden.vocabulary);
        kls.push(divergence(golden, first + i, row));
        let best = 0;
        for (let t = 1; t < row.length; t++) if (row[t] > row[best]) best = t;
        if (best === golden.ids[(first + i) * golden.k]) same++;
      }
    },
  });
  const mean = (values: number[]): number => values.reduce((a, b) => a + b, 0) / values.length;
  return { kl: mean(kls), klWithoutFirst: mean(kls.slice(1)), top1: same / kls.length };
}

/** Continues every golden prompt greedily; returns those that differ, with the index of the first difference. */
export async function differingGreedy(model: Model, golden: Golden): Promise<string[]> {
  const answers = await Promise.all(
    golden.prompts.map(({ promptTokens, tokens }) =>
      model
        .complete(promptTokens, { temperature: 0, maxTokens: tokens.length, ignoreStopTokens: true })
        .result(),
    ),
  );
  return golden.prompts.flatMap(({ text, tokens, leads }, i) => {
    const at = tokens.findIndex((token, j) => token !== answers[i].tokens[j]);
    return at < 0 ? [] : [`${JSON.stringify(text)} differs at token ${at}, where the lead is ${leads[at]}`];
  });
}

/**
 * The instruction sets that are measured; the others with fused multiply-adds give the bits of AVX2 (see
 * determinism.test.ts) for files like these, without BF16 matrices. The last one is slow and measured on fewer tokens.
 */
export const instructionSets = ["avx512vnni", "avx2", "baseline"] as const;

/**
 * The kernels' divergence from the golden distributions and the peer's (peer-kl.json), each without the first
 * position, which some models spend on an outlier that hides all others. Undefined where this machine lacks the
 * instruction set.
 */
export async function besideThePeer(
  name: string,
  path: string,
  instructionSet: (typeof instructionSets)[number],
): Promise<{ kl: number; peer: number } | undefined> {
  const golden = readGolden(name);
  const options = { device: "cpu", instructionSet, contextLength: 1024 } as const;
  const model = await loadModel(path, options).catch((error: unknown) => {
    if (InhouseError.is(error, "ERR_INHOUSE_DEVICE_UNAVAILABLE")) return undefined;
    throw error;
  });
  if (model === undefined) return undefined;
  const count = instructionSet === "baseline" ? 128 : golden.tokens.length;
  const { klWithoutFirst } = await compareToGolden(model, golden, count);
  await model.dispose();
  const peers = JSON.parse(file("peer-kl.json").toString()) as {
    models: Record<string, { meanKlWithoutFirst: number }>;
  };
  return { kl: klWithoutFirst, peer: peers.models[name].meanKlWithoutFirst };
}
