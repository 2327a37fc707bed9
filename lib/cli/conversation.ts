// A conversation on a terminal: what is typed goes through readline on stderr, answers go to stdout.
import { createInterface, type Interface } from "node:readline";

import { InhouseError } from "../errors.js";
import type { Generation } from "../generate.js";
import type { ChatMessage, GenerationResult } from "../types.js";
import type { Shell } from "./command.js";
import { inFlags } from "./settings.js";
import { visible } from "./terminal.js";
import { Interrupted } from "./usage.js";

const help =
  "/clear begins anew, /exit or Ctrl-D ends, Ctrl-C cancels an answer. A line that ends with \\ goes on in the next.\n";

/** Starts the answer to a text, given the messages before it. */
export type Start = (text: string, before: readonly ChatMessage[]) => Generation;

/** What to say after an answer that was cut short; otherwise empty. */
export type CutNote = (result: GenerationResult) => string;

/**
 * Talks until /exit or Ctrl-D. `beginning`: messages that every conversation begins with. Throws before anything is
 * asked where no conversation can be held.
 */
export async function converse(
  start: Start,
  beginning: readonly ChatMessage[],
  cutNote: CutNote,
  shell: Shell,
): Promise<void> {
  const trial = start("Hello", beginning);
  trial.cancel();
  await trial.result();
  const lines = new Lines(shell);
  shell.stderr.note(help);
  let messages = [...beginning];
  try {
    for (;;) {
      const text = await lines.next();
      if (text === undefined || text === "/exit" || text === "/quit") return;
      if (text.trim() === "") continue;
      if (text === "/clear") {
        messages = [...beginning];
        shell.stderr.note("cleared\n");
      } else if (text === "/help" || /^\/[a-z]+$/.test(text)) {
        shell.stderr.note(text === "/help" ? help : `unknown command ${text}\n${help}`);
      } else {
        const answer = await respond(start, text, messages, lines, cutNote, shell);
        if (answer !== undefined) {
          messages.push({ role: "user", content: text }, { role: "assistant", content: answer });
        }
      }
    }
  } finally {
    lines.close();
  }
}

/** Streams the answer. Undefined where there is none to remember. */
async function respond(
  start: Start,
  text: string,
  messages: readonly ChatMessage[],
  lines: Lines,
  cutNote: CutNote,
  shell: Shell,
): Promise<string | undefined> {
  let cancel: (() => void) | undefined;
  try {
    const generation = start(text, messages);
    cancel = () => generation.cancel();
    lines.onInterrupt = cancel;
    shell.signal.addEventListener("abort", cancel, { once: true });
    for await (const delta of generation) await shell.stdout.writeForeign(delta.text);
    const result = await generation.result();
    await shell.stdout.write("\n");
    shell.stderr.note(result.finishReason === "cancelled" ? "(cancelled)\n" : cutNote(result));
    return result.text;
  } catch (error) {
    if (!InhouseError.is(error)) throw error;
    const hint = error.code === "ERR_INHOUSE_CONTEXT_OVERFLOW" ? "; /clear begins anew" : "";
    shell.stderr.note(`${visible(inFlags(error.message))}${hint}\n`);
    return undefined;
  } finally {
    // The signal outlives the answer, and would keep it.
    if (cancel) shell.signal.removeEventListener("abort", cancel);
    lines.onInterrupt = undefined;
  }
}

/** What is typed, message by message. */
class Lines {
  /** Called for Ctrl-C while an answer is under way. */
  onInterrupt: (() => void) | undefined;
  readonly #shell: Shell;
  readonly #readline: Interface;
  readonly #waiting: string[] = [];
  #pending = "";
  #closed = false;
  #interrupts = 0;
  #failure: Error | undefined;
  #wake: (() => void) | undefined;

  constructor(shell: Shell) {
    this.#shell = shell;
    const terminal = shell.stderr.isTerminal;
    this.#readline = createInterface({
      input: shell.stdin,
      output: shell.stderrStream,
      terminal,
      prompt: "> ",
      historySize: 1000,
      removeHistoryDuplicates: true,
    });
    this.#readline.on("line", (line) => this.#take(line));
    this.#readline.on("SIGINT", () => this.#interrupt());
    shell.onInterrupt = () => this.#interrupt(); // where readline does not read the keys itself
    shell.signal.addEventListener("abort", () => this.#end(), { once: true });
    this.#readline.on("close", () => this.#end());
  }

  /** The next message, which may have been typed before it was asked for; undefined at the end. Throws Interrupted after a second Ctrl-C at an empty prompt. */
  async next(): Promise<string | undefined> {
    if (this.#waiting.length === 0 && !this.#closed) {
      this.#readline.prompt(true); // what is half typed stays
      await new Promise<void>((resolve) => (this.#wake = resolve));
    }
    if (this.#failure) throw this.#failure;
    return this.#waiting.shift();
  }

  close(): void {
    this.#shell.onInterrupt = undefined;
    this.#readline.close();
  }

  #take(line: string): void {
    this.#interrupts = 0;
    if (line.endsWith("\\")) {
      this.#pending += `${line.slice(0, -1)}\n`;
      this.#readline.setPrompt("… ");
      this.#readline.prompt();
      return;
    }
    this.#waiting.push(this.#pending + line);
    this.#begin();
    this.#wake?.();
  }

  /** Drops what was typed ahead of its time; the arrow keys still find it. */
  #forget(): void {
    this.#waiting.length = 0;
    this.#begin();
  }

  #begin(): void {
    this.#pending = "";
    this.#readline.setPrompt("> ");
  }

  #interrupt(): void {
    if (this.onInterrupt) {
      this.onInterrupt();
      this.#forget();
      return;
    }
    if (this.#readline.line === "" && this.#pending === "") this.#interrupts += 1;
    if (this.#interrupts > 1) {
      this.#failure = new Interrupted();
      this.#shell.stderr.note("\n");
      this.#readline.close();
      return;
    }
    this.#forget();
    this.#shell.stderr.note(this.#interrupts > 0 ? "\n(Ctrl-C again, Ctrl-D or /exit ends)\n" : "\n");
    this.#readline.write(null, { ctrl: true, name: "e" });
    this.#readline.write(null, { ctrl: true, name: "u" });
    this.#readline.prompt();
  }

  #end(): void {
    if (this.#closed) return;
    this.#closed = true;
    if (this.#failure === undefined && this.#waiting.length === 0) this.#shell.stderr.note("\n");
    this.#wake?.();
  }
}
