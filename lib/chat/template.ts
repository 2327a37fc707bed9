import { Environment, type Node } from "./jinja.js";

import { InhouseError } from "../errors.js";
import { BoundedInterpreter } from "./interpreter.js";
import { limitError, runGuarded, templateLimits } from "./limits.js";
import { checkMessages, type PlainValue, toPlain } from "./messages.js";
import { parseTemplate, TemplateSyntaxError } from "./parse.js";
import { strftime } from "./strftime.js";
import { makeOwn, ownRanges } from "./text.js";
import type { ListValue, MapValue, StringValue } from "./values.js";

/** What a chat template can be given besides the conversation. */
export interface RenderOptions {
  /** End with the opening of an assistant's answer (default true). */
  addGenerationPrompt?: boolean | undefined;
  /** Tool definitions, for templates that write them out. None by default. */
  tools?: readonly unknown[] | undefined;
  /** Further variables; they cannot replace `messages` and the others above. */
  variables?: Readonly<Record<string, unknown>> | undefined;
  /** More messages are refused before anything is done with them (default: none are). */
  mostMessages?: number | undefined;
  /** The time that `strftime_now` tells (default: now). */
  now?: Date | undefined;
}

/** The tokens a template may write, as text. */
export interface TemplateTokens {
  bosToken?: string | undefined;
  eosToken?: string | undefined;
}

/** A conversation as text. */
export interface Prompt {
  text: string;
  /**
   * Where `text` is the template's own, in UTF-16 units, ascending: only there are names of control tokens these tokens.
   * All else came with the conversation.
   */
  own: [start: number, end: number][];
}

/** What `raise_exception` throws: the template's own refusal of a conversation. */
class Refusal extends Error {}

/**
 * A model's chat template. Parsed at its first use and kept; parsing and rendering are bounded in time and size,
 * because a template comes with a file and is as little to be trusted.
 */
export class ChatTemplate {
  readonly source: string;
  readonly #tokens: TemplateTokens;
  #program: Node | undefined;
  /** The beginning of a conversation that ran into a limit: if that does too, it is the template's doing. */
  #suspect: PlainValue | undefined;
  #exceeded: InhouseError | undefined;

  /**
   * `name` stands for the template in errors. Throws ERR_INHOUSE_TEMPLATE_MISSING without a source,
   * ERR_INHOUSE_TEMPLATE_LIMIT for one that is too long.
   */
  constructor(
    source: string | undefined,
    tokens: TemplateTokens = {},
    readonly name = "the chat template",
  ) {
    if (source === undefined || source.trim() === "") {
      throw new InhouseError(
        "ERR_INHOUSE_TEMPLATE_MISSING",
        "this model's file has no chat template (tokenizer.chat_template): it is probably a base model. " +
          "Use complete() with a text prompt (on the command line --raw), or give a template as an option",
      );
    }
    if (source.length > templateLimits.sourceLength) {
      throw limitError(
        `its source has ${source.length} characters, at most ${templateLimits.sourceLength} are read`,
      );
    }
    this.source = source;
    this.#tokens = tokens;
  }

  /**
   * The prompt for a conversation. Throws ERR_INHOUSE_INVALID_ARGUMENT for messages of the wrong shape,
   * ERR_INHOUSE_CONTEXT_OVERFLOW for too many, ERR_INHOUSE_TEMPLATE_INVALID if the template is broken or refuses the conversation, and
   * ERR_INHOUSE_TEMPLATE_LIMIT if rendering takes too long or grows too large. Rendering holds the thread, so a template
   * that runs into a limit is tried once more, with a short conversation, and if that does not help never again.
   */
  render(messages: unknown, options: RenderOptions = {}): Prompt {
    const data = toPlain(options.variables ?? {}, "templateVariables") as Record<string, PlainValue>;
    data.messages = checkMessages(messages, options.mostMessages ?? Infinity);
    data.add_generation_prompt = options.addGenerationPrompt ?? true;
    const tools = toPlain(options.tools ?? [], "tools") as PlainValue[];
    if (tools.length > 0) data.tools = tools;
    const now = options.now ?? new Date();
    if (this.#suspect !== undefined) {
      const short = { ...data, messages: this.#suspect };
      this.#suspect = undefined;
      try {
        this.#render(short, now);
      } catch (error) {
        if (isLimit(error)) this.#exceeded = error;
      }
    }
    if (this.#exceeded) {
      throw limitError(
        `it stopped at a short conversation before: ${this.#exceeded.message}`,
        this.#exceeded,
      );
    }
    try {
      return this.#render(data, now);
    } catch (error) {
      if (isLimit(error)) this.#suspect = beginning(data.messages);
      throw error;
    }
  }

  #render(data: Record<string, PlainValue>, now: Date): Prompt {
    const inputLength = JSON.stringify(data).length;
    return translateErrors(this.name, data.messages, () =>
      runGuarded(inputLength, () => {
        this.#program ??= parseTemplate(this.source);
        const scope = makeScope(data, this.#tokens, now);
        const interpreter = new BoundedInterpreter(scope, inputLength);
        const text = interpreter.evaluate(this.#program, scope) as StringValue;
        return { text: text.value, own: ownRanges(text) };
      }),
    );
  }
}

/**
 * Roles that count as the template's words, not the caller's: some templates make a control token of them, as in
 * `'<|' + message.role + '|>'`. Others are text.
 */
const commonRoles = new Set(
  "system developer user assistant model tool function ipython observation".split(" "),
);

const isLimit = (error: unknown) => InhouseError.is(error, "ERR_INHOUSE_TEMPLATE_LIMIT");

/** The first messages, with little of what they say and nothing else. */
function beginning(messages: PlainValue): PlainValue {
  return (messages as { role: string; content: unknown }[]).slice(0, 3).map(({ role, content }) => {
    return { role, content: typeof content === "string" ? content.slice(0, 100) : "" };
  });
}

function makeScope(data: Record<string, PlainValue>, tokens: TemplateTokens, now: Date): Environment {
  const scope = new Environment();
  for (const [name, value] of Object.entries({ true: true, True: true, false: false, False: false })) {
    scope.set(name, value);
  }
  scope.set("none", null);
  scope.set("None", null);
  scope.set("range", range);
  scope.set("strftime_now", (format: unknown) => strftime(now, String(format)));
  scope.set("raise_exception", (message: unknown) => {
    throw new Refusal(String(message));
  });
  // In a scope of their own, so that a variable may have the name of a function above.
  const inner = new Environment(scope);
  for (const [name, value] of Object.entries(data)) {
    inner.variables.delete(name);
    inner.set(name, value);
  }
  inner.setVariable("bos_token", makeOwn(tokens.bosToken ?? ""));
  inner.setVariable("eos_token", makeOwn(tokens.eosToken ?? ""));
  for (const message of (inner.lookupVariable("messages") as ListValue).value) {
    const fields = (message as MapValue).value;
    const role = fields.get("role")?.value as string;
    if (commonRoles.has(role)) fields.set("role", makeOwn(role));
  }
  return inner;
}

function range(...args: unknown[]): number[] {
  if (args.length < 1 || args.length > 3 || !args.every(Number.isInteger)) {
    throw new Error("range() takes one to three whole numbers");
  }
  const numbers = args as number[];
  const [start, stop] = numbers.length === 1 ? [0, numbers[0]!] : [numbers[0]!, numbers[1]!];
  const step = numbers[2] ?? 1;
  if (step === 0) throw new Error("range() step must not be zero");
  const length = Math.max(0, Math.ceil((stop - start) / step));
  if (length > templateLimits.rangeItems) {
    throw limitError(`range() of ${length} items, at most ${templateLimits.rangeItems} are made`);
  }
  return Array.from({ length }, (_, i) => start + i * step);
}

function translateErrors<T>(name: string, messages: PlainValue | undefined, task: () => T): T {
  try {
    return task();
  } catch (error) {
    if (InhouseError.is(error)) throw error;
    const reason = error instanceof Error ? error.message : String(error);
    const message = `${name} ${failureOf(error, messages)}: ${reason}`;
    throw new InhouseError("ERR_INHOUSE_TEMPLATE_INVALID", message, { cause: error });
  }
}

function failureOf(error: unknown, messages: PlainValue | undefined): string {
  if (error instanceof Refusal) return "refuses this conversation";
  if (error instanceof TemplateSyntaxError) return "cannot be parsed";
  const contents = (messages as { content?: unknown }[]).map(({ content }) => content ?? null);
  const lacking = contents.indexOf(null);
  const why = `, maybe because messages[${lacking}].content is no text, for which a template may want ""`;
  return `cannot be rendered${lacking < 0 ? "" : why}`;
}
