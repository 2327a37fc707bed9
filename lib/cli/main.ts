#!/usr/bin/env node
// The `inhouse` program: picks the command, and turns errors into exit codes.
import { InhouseError } from "../errors.js";
import { knownModels } from "../hub/index.js";
import type { Command, Shell } from "./command.js";
import { benchCommand } from "./commands/bench.js";
import { perplexityCommand } from "./commands/perplexity.js";
import { inspectCommand } from "./commands/inspect.js";
import { runCommand } from "./commands/run.js";
import { listCommand, pullCommand, removeCommand } from "./commands/store.js";
import { commandHelp, programHelp } from "./help.js";
import { nearest } from "../options.js";
import { Output, visible } from "./terminal.js";
import { Interrupted, ReaderGone, UsageError } from "./usage.js";
import { version } from "./version.js";

const commands: readonly Command[] = [
  runCommand,
  inspectCommand,
  pullCommand,
  listCommand,
  removeCommand,
  benchCommand,
  perplexityCommand,
];

async function main(args: readonly string[]): Promise<void> {
  const stdout = new Output(process.stdout);
  const stderr = new Output(process.stderr);
  const controller = new AbortController();
  const shell: Shell = {
    stdin: process.stdin,
    stdout,
    stderr,
    stderrStream: process.stderr,
    signal: controller.signal,
    onInterrupt: undefined,
  };
  stdout.onGone(() => controller.abort(new ReaderGone()));
  process.on("SIGINT", () => {
    if (shell.onInterrupt) {
      shell.onInterrupt();
      return;
    }
    if (controller.signal.aborted) {
      // The second Ctrl-C does what it would have done without us.
      process.removeAllListeners("SIGINT");
      process.kill(process.pid, "SIGINT");
      return;
    }
    controller.abort(new Interrupted());
  });
  try {
    await dispatch(args, shell);
    if (controller.signal.reason instanceof Interrupted) process.exitCode = 130;
  } catch (error) {
    process.exitCode = report(error, stderr);
  }
}

async function dispatch(args: readonly string[], shell: Shell): Promise<void> {
  const [first] = args;
  if (first === "--version" || first === "-v") {
    await shell.stdout.write(`${version()}\n`);
    return;
  }
  const names = knownModels.map((model) => model.name);
  if (first === "--help" || first === "-h" || first === "help") {
    const command = find(args.slice(1));
    await shell.stdout.write(command ? commandHelp(command) : programHelp(commands, names));
    return;
  }
  if (first === undefined) throw new UsageError("no command given; inhouse --help lists them");
  const command = find(args);
  if (command === undefined) {
    const near = nearest(
      first,
      commands.map(({ name }) => name),
    );
    const hint = near === undefined ? "" : `; did you mean ${near}?`;
    throw new UsageError(`unknown command ${JSON.stringify(first)}${hint} (inhouse --help lists them)`);
  }
  const rest = args.slice(command.name.split(" ").length);
  const end = rest.indexOf("--");
  if (rest.slice(0, end < 0 ? rest.length : end).some((arg) => arg === "--help" || arg === "-h")) {
    await shell.stdout.write(commandHelp(command));
    return;
  }
  await command.run(rest, shell);
}

const find = (args: readonly string[]) =>
  commands.find((command) => command.name === args.slice(0, command.name.split(" ").length).join(" "));

/** Says on stderr what went wrong. Returns the exit code. */
function report(error: unknown, stderr: Output): number {
  if (error instanceof ReaderGone) return 0;
  if (error instanceof Interrupted) return 130;
  if (error instanceof UsageError || InhouseError.is(error, "ERR_INHOUSE_INVALID_ARGUMENT")) {
    stderr.note(`inhouse: ${visible(error.message)}\n`);
    return 2;
  }
  if (InhouseError.is(error)) stderr.note(`inhouse: ${visible(error.message)} (${error.code})\n`);
  else if (error instanceof Error && "syscall" in error) stderr.note(`inhouse: ${visible(error.message)}\n`);
  else
    stderr.note(
      `inhouse: ${visible(error instanceof Error ? (error.stack ?? error.message) : String(error))}\n`,
    );
  return 1;
}

void main(process.argv.slice(2));
