/** The command line was used wrongly: exit code 2. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

/** Ends a command whose reader has gone away, without a word. */
export class ReaderGone extends Error {
  override readonly name = "ReaderGone";
}

/** The user interrupted: exit code 130. */
export class Interrupted extends Error {
  override readonly name = "Interrupted";
  constructor() {
    super("interrupted");
  }
}
