// From what clients saw to the figures of a serving bench, beside what the machine's limits allow.
import { InhouseError } from "../../errors.js";
import type { NativeLimits } from "../../native.js";
import type { Histogram } from "../../types.js";
import type { Served, Serving } from "./serve.js";
import { floorOf, type Floor, type ModelWork, type Span, type Work } from "./work.js";

/** Of many durations in milliseconds: each percentile is one of them. */
export interface Percentiles {
  count: number;
  mean: number;
  p50: number;
  p90: number;
  p95: number;
  p99: number;
  max: number;
}

/** Null of none. */
export function percentilesOf(values: readonly number[]): Percentiles | null {
  if (values.length === 0) return null;
  const sorted = Float64Array.from(values).sort();
  const at = (share: number) => sorted[Math.max(0, Math.ceil(share * sorted.length) - 1)]!;
  return {
    count: sorted.length,
    mean: sorted.reduce((sum, value) => sum + value, 0) / sorted.length,
    p50: at(0.5),
    p90: at(0.9),
    p95: at(0.95),
    p99: at(0.99),
    max: at(1),
  };
}

/** Of what was looked at now and then. */
export interface Level {
  mean: number;
  max: number;
}

/** Fewer looks than this say nothing of a run. */
const leastLooks = 3;

/** Null of too few. */
export function levelOf(values: readonly number[]): Level | null {
  if (values.length < leastLooks) return null;
  const mean = values.reduce((sum, value) => sum + value, 0) / values.length;
  return { mean, max: values.reduce((most, value) => Math.max(most, value), 0) };
}

export interface ServingFigures {
  /** From the first request to the end of the last. */
  seconds: number;
  requests: Record<Served["outcome"], number>;
  /** Of those that failed or were refused: how many, by code. */
  errors: Record<string, number>;
  /** Of all prompts, of them from the cache, and of all answers. */
  tokens: { prompt: number; cached: number; answer: number };
  rates: { requestsPerSecond: number; promptTokensPerSecond: number; answerTokensPerSecond: number };
  /** Of requests that got a token; the total of finished ones. Null where there is none. */
  queueMs: Percentiles | null;
  timeToFirstTokenMs: Percentiles | null;
  timeBetweenTokensMs: Percentiles | null;
  totalMs: Percentiles | null;
  engine: {
    steps: number;
    /** Of one step, on average and counted. */
    stepTokens: number;
    batchTokens: Pick<Histogram, "bounds" | "counts">;
    /** Seconds in steps. */
    busySeconds: number;
    /** Requests in the batch, and waiting; null where the run was too short to tell. */
    running: Level | null;
    waiting: Level | null;
    setAside: number;
    /** Tokens of the cache: in all, and held by requests, null where the run was too short to tell. */
    kv: { tokens: number; heldMean: number | null; heldMax: number | null };
  };
  /** The same work in full batches at the machine's limits, as if all requests had come at once. */
  floor: { seconds: number; by: Floor["by"] };
  /** How near the engine's busy time is to that. */
  share: number;
}

/** Requests in the batch at once, and tokens of a step, at most. */
export interface Batch {
  maxConcurrent: number;
  maxBatchTokens: number;
}

export function servingFigures(
  { served, seconds, before, after, looks }: Serving,
  work: ModelWork,
  limits: NativeLimits,
  batch: Batch,
): ServingFigures {
  const requests = { finished: 0, cancelled: 0, refused: 0, failed: 0 };
  const errors: Record<string, number> = {};
  const tokens = { prompt: 0, cached: 0, answer: 0 };
  for (const { outcome, error, usage } of served) {
    requests[outcome]++;
    if (InhouseError.is(error)) errors[error.code] = (errors[error.code] ?? 0) + 1;
    tokens.prompt += usage?.promptTokens ?? 0;
    tokens.cached += usage?.cachedTokens ?? 0;
    tokens.answer += usage?.completionTokens ?? 0;
  }
  const of = (pick: (one: Served) => number | undefined) =>
    percentilesOf(served.map(pick).filter((value) => value !== undefined));
  const level = (pick: (look: Serving["looks"][number]) => number) => levelOf(looks.map(pick));
  const held = level(({ kv }) => kv.held);
  const busySeconds = (after.stepMs.sum - before.stepMs.sum) / 1000;
  const steps = after.steps - before.steps;
  const floor = floorOf(leastSteps(served, work, batch), limits);
  return {
    seconds,
    requests,
    errors,
    tokens,
    rates: {
      requestsPerSecond: requests.finished / seconds,
      promptTokensPerSecond: tokens.prompt / seconds,
      answerTokensPerSecond: tokens.answer / seconds,
    },
    queueMs: of(({ queueMs }) => queueMs),
    timeToFirstTokenMs: of(({ firstTokenMs }) => firstTokenMs),
    timeBetweenTokensMs: percentilesOf(served.flatMap(({ gapsMs }) => gapsMs)),
    totalMs: of(({ outcome, totalMs }) => (outcome === "finished" ? totalMs : undefined)),
    engine: {
      steps,
      stepTokens: steps > 0 ? (after.stepTokens - before.stepTokens) / steps : 0,
      batchTokens: {
        bounds: after.batchTokens.bounds,
        counts: after.batchTokens.counts.map((count, i) => count - before.batchTokens.counts[i]!),
      },
      busySeconds,
      running: level(({ running }) => running),
      waiting: level(({ waiting }) => waiting),
      setAside: after.setAside - before.setAside,
      kv: { tokens: after.kv.tokens, heldMean: held?.mean ?? null, heldMax: held?.max ?? null },
    },
    floor: { seconds: floor.seconds, by: floor.by },
    share: busySeconds > 0 ? floor.seconds / busySeconds : 0,
  };
}

/**
 * The steps that would do what was done with the least reading: as many requests at once as may be, prompts beside
 * answers, each step full. Prefixes that came from the cache are not computed; of requests without a token nothing
 * counts, as nobody knows how far their prompts were.
 */
export function leastSteps(
  served: readonly Pick<Served, "usage">[],
  work: Pick<ModelWork, "step">,
  { maxConcurrent, maxBatchTokens }: Batch,
): Work[] {
  const waiting = served.flatMap(({ usage }) =>
    usage && usage.completionTokens > 0
      ? [
          {
            done: usage.cachedTokens,
            prompt: usage.promptTokens,
            end: usage.promptTokens + usage.completionTokens - 1,
          },
        ]
      : [],
  );
  const steps: Work[] = [];
  let running: typeof waiting = [];
  let next = 0;
  while (running.length > 0 || next < waiting.length) {
    while (running.length < maxConcurrent && next < waiting.length) running.push(waiting[next++]!);
    let room = maxBatchTokens;
    const spans: Span[] = [];
    // Those that write come first, as in the engine.
    for (const one of [...running].sort((a, b) => Number(a.done < a.prompt) - Number(b.done < b.prompt))) {
      const count = one.done < one.prompt ? Math.min(room, one.prompt - one.done) : Math.min(room, 1);
      if (count === 0) continue;
      spans.push({ position: one.done, count, output: one.done + count >= one.prompt });
      one.done += count;
      room -= count;
    }
    steps.push(work.step(spans));
    running = running.filter(({ done, end }) => done < end);
  }
  return steps;
}
