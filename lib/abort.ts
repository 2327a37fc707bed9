// Waiting for a signal to be aborted. However many wait for one signal, it has a single listener of ours: Node takes
// more than ten for a leak and says so on stderr.

/** What waits for a signal, and the listener that calls it. */
interface Waiting {
  actions: Set<() => void>;
  run: () => void;
}

const waiting = new WeakMap<AbortSignal, Waiting>();

function listen(signal: AbortSignal): Waiting {
  const actions = new Set<() => void>();
  const run = (): void => {
    for (const action of actions) action();
  };
  const here = { actions, run };
  signal.addEventListener("abort", run);
  waiting.set(signal, here);
  return here;
}

/** Calls `action`, which must not throw, when `signal` is aborted from now on. Returns what ends the waiting. */
export function onAbort(signal: AbortSignal | undefined, action: () => void): () => void {
  if (signal === undefined) return () => undefined;
  const { actions, run } = waiting.get(signal) ?? listen(signal);
  actions.add(action);
  return () => {
    if (!actions.delete(action) || actions.size > 0) return;
    signal.removeEventListener("abort", run);
    waiting.delete(signal);
  };
}
