import { performance } from "node:perf_hooks";

/** The longest time in milliseconds that a slice of work is meant to hold the event loop. */
const sliceTime = 1;

/** Leaves the event loop free now and then in work of many short parts. */
export class Pacer {
  #until = performance.now() + sliceTime;

  constructor(private readonly signal?: AbortSignal) {}

  get isDue(): boolean {
    return performance.now() >= this.#until;
  }

  /** @throws the signal's reason once it is aborted */
  async pause(): Promise<void> {
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.signal?.throwIfAborted();
    this.#until = performance.now() + sliceTime;
  }
}

/** Runs `steps` to the end at once. */
export function atOnce<T>(steps: Generator<void, T>): T {
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
  }
}

/**
 * Runs `steps` in slices of about 1 ms, with the event loop free in between.
 * @throws the signal's reason once it is aborted
 */
export async function inSlices<T>(steps: Generator<void, T>, signal?: AbortSignal): Promise<T> {
  signal?.throwIfAborted();
  const pacer = new Pacer(signal);
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (pacer.isDue) await pacer.pause();
  }
}
