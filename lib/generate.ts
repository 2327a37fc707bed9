// A generation: what `chat` and `complete` return.
import { bindMethods } from "./bind.js";
import { invalidArgument } from "./options.js";
import type { Run } from "./run.js";
import type { Delta, GenerationResult } from "./types.js";

/**
 * A running generation. It starts at once; iterate over it (one reader, `textStream` counts as one), or await
 * `result()` or `text()`. One whose reader falls far behind waits for it, unless somebody awaits its end; while it waits
 * it does not keep the process alive. One that is neither read nor kept is cancelled when it is collected. Its methods
 * need not be called on it.
 */
export interface Generation extends AsyncIterable<Delta, void, undefined> {
  /** Settles when the generation ends: cancelled ones resolve too, aborted ones reject with `signal.reason`. */
  result(this: void): Promise<GenerationResult>;
  /** The whole text, once the generation ends. */
  text(this: void): Promise<string>;
  /** The text as a web stream, without empty pieces; cancelling the stream cancels the generation. */
  textStream(this: void): ReadableStream<string>;
  /** Ends the generation within a step; `result()` then has `finishReason: "cancelled"`. */
  cancel(this: void): void;
  /**
   * Reads the deltas. Leaving the loop early cancels the generation within a step. Throws
   * ERR_INHOUSE_INVALID_ARGUMENT where somebody reads, or has read, already.
   */
  [Symbol.asyncIterator](): AsyncIterator<Delta, void, undefined>;
}

const forgotten = new FinalizationRegistry<Run>((run) => run.cancel());

/** @internal What users hold over a run. */
export function makeGeneration(run: Run): Generation {
  return new RunningGeneration(run);
}

class RunningGeneration implements Generation {
  readonly #run: Run;
  #read = false;

  constructor(run: Run) {
    this.#run = run;
    bindMethods(this, "result", "text", "textStream", "cancel");
    forgotten.register(this, run, run);
    void run.ended.then(
      () => forgotten.unregister(run),
      () => forgotten.unregister(run),
    );
  }

  result(): Promise<GenerationResult> {
    this.#run.awaitEnd(this);
    return this.#run.ended;
  }

  async text(): Promise<string> {
    return (await this.result()).text;
  }

  cancel(): void {
    this.#run.cancel();
  }

  textStream(): ReadableStream<string> {
    const deltas = this[Symbol.asyncIterator]();
    return new ReadableStream<string>(
      {
        pull: async (controller) => {
          for (;;) {
            const { done, value } = await deltas.next();
            if (done === true) {
              controller.close();
              return;
            }
            if (value.text === "") continue;
            controller.enqueue(value.text);
            return;
          }
        },
        cancel: async () => {
          await deltas.return?.();
        },
      },
      { highWaterMark: 0 },
    );
  }

  // Written by hand: `return` of an async generator waits until the next value arrives.
  [Symbol.asyncIterator](): AsyncIterator<Delta, void, undefined> {
    if (this.#read) {
      throw invalidArgument(
        this.#run.isOver
          ? "this generation has ended and has had its one reader (a loop or a textStream); " +
              "result() and text() give all of it"
          : "this generation is being read already (by a loop or a textStream); a generation has one reader, " +
              "use result() or text() beside it",
      );
    }
    this.#read = true;
    const run = this.#run;
    return {
      next: () => run.next(this),
      return: () => {
        run.close();
        return Promise.resolve({ done: true, value: undefined });
      },
      throw: (reason: Error) => {
        run.close();
        return Promise.reject(reason);
      },
    };
  }
}
