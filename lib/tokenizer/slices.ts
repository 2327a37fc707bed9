import { performance } from "node:perf_hooks";

/** The longest time in milliseconds that a slice of work is meant to hold the event loop. */
const sliceTime = 1;

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
  let until = performance.now() + sliceTime;
  for (;;) {
    const { done, value } = steps.next();
    if (done) return value;
    if (performance.now() < until) continue;
    await new Promise<void>((resolve) => setImmediate(resolve));
    signal?.throwIfAborted();
    until = performance.now() + sliceTime;
  }
}
