// Tracing: what a model does, published on channels of node:diagnostics_channel to whoever subscribes. Sizes, times and
// settings alone; never the text of a prompt or of an answer.
import { type TracingChannel, tracingChannel } from "node:diagnostics_channel";

import type { FinishReason, ModelInfo, Timings, Usage } from "./types.js";

/** What all messages of one operation have in common: they are one object, to which things are added. */
export interface Trace<Result> {
  /** Of the operation, unlike that of any other in this process or thread. */
  id: number;
  /** The model's path. */
  model: string;
  /** From "asyncStart" on, where the operation has succeeded. */
  result?: Result;
  /** From "error" on: what the caller gets. */
  error?: unknown;
}

/** Of one generation, on the channels `tracing:inhouse:generate:…`. A cancelled one has a result, an aborted one fails. */
export interface GenerateTrace extends Trace<{
  finishReason: FinishReason;
  usage: Usage;
  timings: Timings;
}> {
  call: "chat" | "complete";
  /** Settings as they are in use. */
  maxTokens: number | undefined;
  temperature: number;
  topK: number;
  topP: number;
  seed: number;
  priority: number;
  /** The adapter's name. */
  adapter: string | undefined;
  /** Once the prompt is encoded. */
  promptTokens?: number;
}

/** Of one call of `embed`, on the channels `tracing:inhouse:embed:…`. */
export interface EmbedTrace extends Trace<void> {
  /** Once the call was checked. */
  texts?: number;
  /** Of all texts, once they are encoded. */
  tokens?: number;
}

/** Of one call of `score`, on the channels `tracing:inhouse:score:…`. */
export interface ScoreTrace extends Trace<void> {
  /** Once the call was checked. */
  continuations?: number;
  /** Of all continuations, each with the prompt, once they are encoded. */
  tokens?: number;
}

/** Of one call of `evaluate`, on the channels `tracing:inhouse:evaluate:…`. */
export interface EvaluateTrace extends Trace<{
  usage: Usage;
  timings: Pick<Timings, "queueMs" | "promptMs" | "promptTokensPerSecond">;
}> {
  /** Once the call was checked. */
  tokens?: number;
}

/** Of one call of `loadModel`, on the channels `tracing:inhouse:load:…`. */
export type LoadTrace = Trace<ModelInfo>;

interface Traces {
  generate: GenerateTrace;
  embed: EmbedTrace;
  score: ScoreTrace;
  evaluate: EvaluateTrace;
  load: LoadTrace;
}

const channels: { [Name in keyof Traces]: TracingChannel<unknown, Traces[Name]> } = {
  generate: tracingChannel("inhouse:generate"),
  embed: tracingChannel("inhouse:embed"),
  score: tracingChannel("inhouse:score"),
  evaluate: tracingChannel("inhouse:evaluate"),
  load: tracingChannel("inhouse:load"),
};

let last = 0;

/**
 * What `start` gives, which must not throw. Where somebody subscribes, tells when it is called and has returned and when
 * `ended` settles, in the order of TracingChannel.tracePromise, and before those learn it who await `ended` later.
 * `about` is what is known at the start; `start` may add to the trace; `resultOf` leaves out what is nobody's business.
 */
export function traced<Name extends keyof Traces, T, Value>(
  name: Name,
  about: () => Omit<Traces[Name], "id" | "result" | "error">,
  start: (trace: Traces[Name] | undefined) => T,
  ended: (started: T) => Promise<Value>,
  resultOf: (value: Value) => Traces[Name]["result"],
): T {
  const channel = channels[name];
  if (!channel.hasSubscribers) return start(undefined);
  const trace = { ...about(), id: ++last } as Traces[Name];
  const tellEnd = (): void => {
    channel.asyncStart.publish(trace);
    channel.asyncEnd.publish(trace);
  };
  return channel.start.runStores(trace, () => {
    const started = start(trace);
    ended(started).then(
      (value) => {
        trace.result = resultOf(value);
        tellEnd();
      },
      (error: unknown) => {
        trace.error = error;
        channel.error.publish(trace);
        tellEnd();
      },
    );
    channel.end.publish(trace);
    return started;
  });
}
