// A request's `timeoutMs`. It counts from the call on: what encoding takes of it is not the engine's any more.
import { performance } from "node:perf_hooks";

import { onAbort } from "./abort.js";
import type { CallSite } from "./call-site.js";
import type { InhouseError } from "./errors.js";

/** Milliseconds that are left, at least 0; undefined where there is no limit. */
export function timeLeft(timeoutMs: number | undefined, { called }: CallSite): number | undefined {
  return timeoutMs === undefined ? undefined : Math.max(0, timeoutMs - (performance.now() - called));
}

/** Calls `action` once no time is left, unless what it returns is called before. */
export function onTimeout(
  timeoutMs: number | undefined,
  site: CallSite,
  action: (error: InhouseError) => void,
): () => void {
  const left = timeLeft(timeoutMs, site);
  if (left === undefined) return () => undefined;
  const timer = setTimeout(() => {
    action(site.error("ERR_INHOUSE_TIMEOUT", "the request was not done within its timeoutMs"));
  }, left);
  return () => clearTimeout(timer);
}

/** Does `work`, whose signal is aborted with the given one, or once no time is left. */
export async function withinTime<T>(
  { signal, timeoutMs }: { signal?: AbortSignal | undefined; timeoutMs?: number | undefined },
  site: CallSite,
  work: (signal: AbortSignal) => Promise<T>,
): Promise<T> {
  const control = new AbortController();
  const forgetSignal = onAbort(signal, () => control.abort(signal?.reason));
  const forgetTime = onTimeout(timeoutMs, site, (error) => control.abort(error));
  try {
    return await work(control.signal);
  } finally {
    forgetSignal();
    forgetTime();
  }
}
