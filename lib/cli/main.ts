#!/usr/bin/env node
// The `inhouse` program: picks the command, and turns errors into exit codes.
import { InhouseError } from "../errors.js";
import { knownModels } from "../hub/index.js";
import type { Command, Shell } from "./command.js";
import { benchServingCommand } from "./commands/bench-serving.js";
import { benchCommand } from "./commands/bench.js";
import { doctorCommand } from "./commands/doctor.js";
import { perplexityCommand } from "./commands/perplexity.js";
import { embedCommand } from "./commands/embed.js";
import { inspectCommand } from "./commands/inspect.js";
import { runCommand } from "./commands/run.js";
import { listCommand, pullCommand, removeCommand } from "./commands/store.js";
import { commandHelp, programHelp } from "./help.js";
import { nearest } from "../options.js";
import { inFlags } from "./settings.js";
import { Output, visible } from "./terminal.js";
import { Interrupted, ReaderGone, systemReason, UsageError } from "./usage.js";
import { manifest } from "../native/manifest.js";

/** The first whose name the arguments begin with is meant: longer names stand before their beginnings. */
const commands: readonly Command[] = [
  runCommand,
  embedCommand,
  inspectCommand,
  pullCommand,
  listCommand,
  removeCommand,
  benchServingCommand,
  benchCommand,
  perplexityCommand,
  doctorCommand,
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
  const onSignal = (name: NodeJS.Signals) => {
    if (name === "SIGINT" && shell.onInterrupt) {
      shell.onInterrupt();
    } else if (controller.signal.aborted) {
      endBy(name); // the second does what it would have done without us
    } else controller.abort(new Interrupted(name));
  };
  for (const name of ["SIGINT", "SIGTERM"] as const) process.on(name, onSignal);
  try {
    await dispatch(args, shell);
    const { reason } = controller.signal as { reason: unknown };
    if (reason instanceof Interrupted) process.exitCode = reason.exitCode;
  } catch (error) {
    process.exitCode = report(error, stderr);
    // A call of which the system never comes back, as on a dead network mount, would keep the process.
    if (error instanceof Interrupted) setTimeout(() => endBy(error.by), 1000).unref();
  }
}

/** Ends the process as if nobody listened to the signal. */
function endBy(name: NodeJS.Signals): void {
  process.removeAllListeners(name);
  process.kill(process.pid, name);
}

async function dispatch(args: readonly string[], shell: Shell): Promise<void> {
  const [first] = args;
  if (first === "--version" || first === "-v") {
    await shell.stdout.write(`${manifest.version}\n`);
    return;
  }
  const end = args.indexOf("--");
  if (first === "help" || args.slice(0, end < 0 ? args.length : end).some(isHelp)) {
    await shell.stdout.write(help((first === "help" ? args.slice(1) : args).filter((arg) => !isHelp(arg))));
    return;
  }
  if (first === undefined) throw new UsageError("no command given; inhouse --help lists them");
  const command = find(args);
  if (command === undefined) throw unknown(first);
  await command.run(args.slice(command.name.split(" ").length), shell);
}

const isHelp = (arg: string) => arg === "--help" || arg === "-h";

/** Help of what the words begin with: a command, the first word of several, or nothing. */
function help(words: readonly string[]): string {
  const [first] = words;
  if (first === undefined) {
    return programHelp(
      commands,
      knownModels.map((model) => model.name),
    );
  }
  const command = find(words);
  const found = command ? [command] : commandsOf(first);
  if (found.length === 0) throw unknown(first);
  return found.map(commandHelp).join("\n");
}

/** Commands of two words that begin with this one. */
const commandsOf = (word: string) => commands.filter(({ name }) => name.startsWith(`${word} `));

function unknown(word: string): UsageError {
  const longer = commandsOf(word).map(({ name, operands }) => `inhouse ${name} ${operands}`);
  if (longer.length > 0)
    return new UsageError(`inhouse ${word} alone is no command; expected ${longer.join(" or ")}`);
  const near = nearest(
    word,
    commands.map(({ name }) => name),
  );
  const hint = near === undefined ? "" : `; did you mean ${near}?`;
  return new UsageError(`unknown command ${JSON.stringify(word)}${hint} (inhouse --help lists them)`);
}

const find = (args: readonly string[]) =>
  commands.find((command) => command.name === args.slice(0, command.name.split(" ").length).join(" "));

/** Says on stderr, in one line, what went wrong. Returns the exit code. */
function report(error: unknown, stderr: Output): number {
  if (error instanceof ReaderGone) return 0;
  if (error instanceof Interrupted) return error.exitCode;
  stderr.note(`inhouse: ${visible(describe(error))}\n`);
  return error instanceof UsageError || InhouseError.is(error, "ERR_INHOUSE_INVALID_ARGUMENT") ? 2 : 1;
}

function describe(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const reason = systemReason(error);
  const { path, syscall } = error as NodeJS.ErrnoException;
  if (reason !== undefined) return `${path ?? syscall}: ${reason}`;
  const line = error.message.replaceAll("\n", " ");
  if (error instanceof UsageError) return line;
  if (!InhouseError.is(error)) return error.stack ?? line; // a defect
  const code = error.code === "ERR_INHOUSE_INVALID_ARGUMENT" ? "" : ` (${error.code})`;
  return inFlags(line) + code;
}

void main(process.argv.slice(2));
