// Serving a plan of requests, as a service's clients would ask for them, and what each of them saw.
import { setTimeout as sleep } from "node:timers/promises";

import { InhouseError } from "../../errors.js";
import type { Model } from "../../model.js";
import type { ModelStats, ScaledAdapter, Usage } from "../../types.js";
import type { PlannedRequest } from "./workload.js";

/** What became of one request. Times are milliseconds from when it was asked for. */
export interface Served {
  outcome: "finished" | "cancelled" | "refused" | "failed";
  /** Why it failed. */
  error?: unknown;
  /** To the first step that carried it, and to the first token; of those that got one. */
  queueMs?: number;
  firstTokenMs?: number;
  /** Between tokens; those that came together are apart by 0. */
  gapsMs: number[];
  totalMs: number;
  usage?: Usage;
}

/** All of a run. */
export interface Serving {
  served: Served[];
  /** From the first request to the end of the last. */
  seconds: number;
  /** Before and after. */
  before: ModelStats;
  after: ModelStats;
  /** Looked at every `lookMs`. */
  looks: Pick<ModelStats, "running" | "waiting" | "kv">[];
}

const lookMs = 50;

/**
 * Asks for each of the requests, of which there is one at least, when its time has come, whatever became of those before. Once `signal` is aborted nothing more
 * is asked for, and it throws the signal's reason.
 */
export async function serve(
  model: Model,
  requests: readonly PlannedRequest[],
  promptOf: (own: number) => number[],
  adapter: ScaledAdapter | undefined,
  signal: AbortSignal,
  onLook: (ended: number) => void,
): Promise<Serving> {
  const ask = (prompt: number[], maxTokens: number, cachePrompt: boolean) =>
    // Without guesses, which prompts without sense would make too good to be true.
    model.complete(prompt, {
      maxTokens,
      temperature: 0,
      ignoreStopTokens: true,
      speculation: "off",
      cachePrompt,
      adapter,
      signal,
    });
  await ask(promptOf(requests[0]!.promptTokens), 1, false).result(); // all is warm
  const before = model.stats();
  const looks: Serving["looks"] = [];
  const served: Promise<Served>[] = [];
  let ended = 0;
  const looking = setInterval(() => {
    looks.push(model.stats());
    onLook(ended);
  }, lookMs);
  const start = performance.now();
  try {
    for (const { at, promptTokens, answerTokens, cancelAfter } of requests) {
      const wait = start + at - performance.now();
      if (wait > 0) await sleep(wait, undefined, { signal }).catch(() => undefined);
      signal.throwIfAborted();
      const prompt = promptOf(promptTokens);
      served.push(follow(() => ask(prompt, answerTokens, true), cancelAfter).finally(() => ++ended));
    }
    const all = await Promise.all(served);
    signal.throwIfAborted();
    const seconds = (performance.now() - start) / 1000;
    return { served: all, seconds, before, after: model.stats(), looks };
  } finally {
    clearInterval(looking);
  }
}

/** Reads an answer to its end, or cancels it after so many tokens. Never rejects. */
async function follow(
  ask: () => ReturnType<Model["complete"]>,
  cancelAfter: number | undefined,
): Promise<Served> {
  const start = performance.now();
  const sinceStart = () => performance.now() - start;
  const gapsMs: number[] = [];
  let firstTokenMs: number | undefined;
  try {
    const generation = ask();
    if (cancelAfter === 0) generation.cancel();
    let [tokens, last] = [0, 0];
    for await (const delta of generation) {
      const now = sinceStart();
      for (const _ of delta.tokens) {
        if (firstTokenMs === undefined) firstTokenMs = now;
        else gapsMs.push(now - last);
        last = now;
      }
      tokens += delta.tokens.length;
      if (cancelAfter !== undefined && tokens >= cancelAfter) generation.cancel();
    }
    const { finishReason, usage, timings } = await generation.result();
    return {
      outcome: finishReason === "cancelled" ? "cancelled" : "finished",
      ...(firstTokenMs === undefined ? {} : { queueMs: timings.queueMs, firstTokenMs }),
      gapsMs,
      totalMs: sinceStart(),
      usage,
    };
  } catch (error) {
    const outcome = InhouseError.is(error, "ERR_INHOUSE_QUEUE_FULL") ? "refused" : "failed";
    return { outcome, error, gapsMs, totalMs: sinceStart() };
  }
}
