import { constants } from "node:os";
import { getSystemErrorMap } from "node:util";

/** What the operating system says, without Node's words around it; undefined for what is no error of the system. */
export function systemReason(error: unknown): string | undefined {
  const { errno, syscall } = (error ?? {}) as NodeJS.ErrnoException;
  return syscall === undefined ? undefined : getSystemErrorMap().get(errno ?? 0)?.[1];
}

/** The command line was used wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Ends a command whose reader has gone away, without a word. */
export class ReaderGone extends Error {
  override readonly name = "ReaderGone";
}

/** A signal interrupted: exit code 130 for Ctrl-C, 143 for SIGTERM. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  readonly exitCode: number;
  constructor(readonly by: NodeJS.Signals = "SIGINT") {
    super("interrupted");
    this.exitCode = 128 + constants.signals[by];
  }
}
