import type { Flags } from "./flags.js";
import { UsageError } from "./usage.js";
import type { Output, Stream } from "./terminal.js";

/** What a command works with. */
export interface Shell {
  stdin: NodeJS.ReadStream;
  stdout: Output;
  stderr: Output;
  /** For what draws on stderr by itself (readline). */
  stderrStream: Stream;
  /** Aborted at the first Ctrl-C or SIGTERM, with an Interrupted, and when nobody reads stdout any more. */
  signal: AbortSignal;
  /** While a listener is set, Ctrl-C calls it in place of aborting `signal`. */
  onInterrupt: (() => void) | undefined;
}

/** A command: what help says and what it does. */
export interface Command {
  /** As it is called: "eval perplexity". */
  name: string;
  /** What follows the name: "MODEL [PROMPT]". */
  operands: string;
  summary: string;
  /** More than the summary, for its own help. */
  details?: string;
  /** Flags under a heading. */
  groups: Readonly<Record<string, Flags>>;
  run(args: readonly string[], shell: Shell): Promise<void>;
}

/** All flags of a command. */
export function allFlags(groups: Command["groups"]): Flags {
  return Object.assign({}, ...Object.values(groups)) as Flags;
}

/** Exactly the operands a command takes. Throws UsageError. */
export function operands(
  command: Pick<Command, "name" | "operands">,
  given: string[],
  min: number,
  max = min,
): string[] {
  if (given.length >= min && given.length <= max) return given;
  const what = given.length < min ? "too few" : "too many";
  throw new UsageError(
    `${what} operands: expected ${`inhouse ${command.name} ${command.operands}`.trimEnd()}`,
  );
}
