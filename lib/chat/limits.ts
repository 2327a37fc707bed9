import { createContext, Script } from "node:vm";

import { InhouseError } from "../errors.js";

/** Bounds of one parse or rendering. A template comes with a file and is as untrusted as the file. */
export const templateLimits = {
  /** Characters of template source. The longest templates in use have about 60,000. */
  sourceLength: 512 * 1024,
  /** Characters of one string value, of one list or mapping written out, and of the output, beyond the input's. */
  valueLength: 1024 * 1024,
  /** Characters that all operations of one rendering may produce together, in multiples of the value limit. */
  totalValues: 256,
  /** Items that `range()` may produce. */
  rangeItems: 50_000,
  /** Evaluated template nodes. */
  steps: 5_000_000,
  /** Milliseconds of wall time, as the net below the deterministic limits above. */
  milliseconds: 650,
  /** Characters of the input, written as JSON, that add a millisecond. */
  charactersPerMillisecond: 10_000,
} as const;

export function limitError(what: string, cause?: unknown): InhouseError {
  return new InhouseError(
    "ERR_INHOUSE_TEMPLATE_LIMIT",
    `chat template stopped: ${what}`,
    cause === undefined ? undefined : { cause },
  );
}

const script = new Script("task()", { filename: "inhouse-template-guard.js" });
let context: { task?: (() => unknown) | undefined } | undefined;

/**
 * Runs `task` on this thread and interrupts it when the time is over. The watchdog of `node:vm` is the only way to
 * interrupt running JavaScript from within a process; what `task` calls needs not live in the other context.
 */
export function runGuarded<T>(inputLength: number, task: () => T): T {
  const timeout =
    templateLimits.milliseconds + Math.floor(inputLength / templateLimits.charactersPerMillisecond);
  context ??= createContext(Object.create(null) as object) as { task?: () => unknown };
  const outer = context.task;
  context.task = task;
  try {
    return script.runInContext(context, { timeout }) as T;
  } catch (error) {
    if ((error as NodeJS.ErrnoException | null)?.code === "ERR_SCRIPT_EXECUTION_TIMEOUT") {
      throw limitError(`it ran longer than ${timeout} ms`, error);
    }
    // Deep nesting or recursion, or a string longer than the engine can hold.
    if (error instanceof RangeError) throw limitError(error.message, error);
    throw error;
  } finally {
    context.task = outer;
  }
}
