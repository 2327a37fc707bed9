// Checking options objects against a table: wrong types and ranges are refused with the option's name, its value and
// what was expected, unknown names with the nearest known one.
import { inspect } from "node:util";

import { InhouseError } from "./errors.js";

interface NumberRule {
  kind: "integer" | "number";
  min: number;
  max: number;
  /** Words that may stand in place of a number. */
  words?: readonly string[];
}

/** What one option may be; every option may be undefined. */
export type Rule =
  | NumberRule
  | { kind: "boolean" | "string" | "function" | "signal" }
  | { kind: "choice"; values: readonly string[] }
  /** `problem` says what was expected, or nothing where the value fits; `read` brings it into one form before. */
  | { kind: "other"; read?: (value: unknown) => unknown; problem: (value: unknown) => string | undefined };

export type Rules = Readonly<Record<string, Rule>>;

/** A value as a message shows it: short, and safe for any object. */
export function show(value: unknown): string {
  const text = inspect(value, { customInspect: false, depth: 0, maxArrayLength: 3, breakLength: Infinity });
  return text.length > 60 ? `${text.slice(0, 59)}…` : text;
}

export function invalidArgument(message: string): InhouseError {
  return new InhouseError("ERR_INHOUSE_INVALID_ARGUMENT", message);
}

/** What `read` gives, which may run code of the caller's: a getter, a Proxy's trap, `toJSON`. */
export function attempt<T>(what: string, read: () => T): T {
  try {
    return read();
  } catch (error) {
    const reason = error instanceof Error ? error.message : show(error);
    throw new InhouseError("ERR_INHOUSE_INVALID_ARGUMENT", `${what} cannot be read: ${reason}`, {
      cause: error,
    });
  }
}

/** Names that stand in an object, inherited ones too, but not those that every object may inherit. */
export function namesIn(object: object): string[] {
  const names = [];
  for (const name in object) if (Object.hasOwn(object, name) || !(name in Object.prototype)) names.push(name);
  return names;
}

/**
 * Reads each option of `call` (a name for messages) once, inherited ones and getters too, and checks it. What it
 * returns holds the values that were checked, and those alone are to be used. `aliases` are names that other programs
 * use, without capitals and signs. Throws ERR_INHOUSE_INVALID_ARGUMENT.
 */
export function readOptions<Options extends object>(
  call: string,
  options: Options,
  rules: Rules,
  aliases: Readonly<Record<string, string>> = {},
): Options {
  const given: unknown = options;
  if (typeof given !== "object" || given === null || Array.isArray(given)) {
    throw invalidArgument(`${call}: options are ${show(given)}; expected an object`);
  }
  const unknown = attempt(`${call}: options`, () => namesIn(given)).find(
    (name) => !Object.hasOwn(rules, name),
  );
  if (unknown !== undefined) {
    const near = nearest(unknown, Object.keys(rules), aliases);
    throw invalidArgument(
      `${call}: unknown option '${unknown}'${near === undefined ? "" : `; did you mean '${near}'?`}`,
    );
  }
  const read: Record<string, unknown> = {};
  for (const [name, rule] of Object.entries(rules)) {
    const wrong = attempt(`${call}: option '${name}'`, () => {
      const value = (given as Record<string, unknown>)[name];
      if (value === undefined) return undefined;
      read[name] = rule.kind === "other" && rule.read ? rule.read(value) : value;
      return problem(rule, read[name]);
    });
    if (wrong !== undefined) throw invalidArgument(`${call}: option '${name}' ${wrong}`);
  }
  return read as Options;
}

/** "is VALUE; expected …" for a value that the rule refuses. */
export function problem(rule: Rule, value: unknown): string | undefined {
  const expected = expectation(rule, value);
  return expected === undefined ? undefined : `is ${show(value)}; expected ${expected}`;
}

/** What a number may be, for messages and help: "a whole number from 0 to 10". */
export function range({ kind, min, max }: Pick<NumberRule, "kind" | "min" | "max">): string {
  return `${kind === "integer" ? "a whole number" : "a number"} from ${min} to ${max}`;
}

function expectation(rule: Rule, value: unknown): string | undefined {
  switch (rule.kind) {
    case "integer":
    case "number": {
      if (typeof value === "string" && rule.words?.includes(value)) return undefined;
      const fits =
        typeof value === "number" &&
        value >= rule.min &&
        value <= rule.max &&
        (rule.kind === "number" || Number.isInteger(value));
      if (fits) return undefined;
      const words = (rule.words ?? []).map((word) => ` or "${word}"`).join("");
      return range(rule) + words;
    }
    case "boolean":
      return typeof value === "boolean" ? undefined : "true or false";
    case "string":
      return typeof value === "string" && !value.includes("\0") ? undefined : "a string without zero bytes";
    case "function":
      return typeof value === "function" ? undefined : "a function";
    case "signal":
      return isSignal(value) ? undefined : "an AbortSignal";
    case "choice":
      return typeof value === "string" && rule.values.includes(value)
        ? undefined
        : rule.values.map((word) => `"${word}"`).join(", ");
    case "other":
      return rule.problem(value);
  }
}

/** The longest list of token ids that is looked at: 16 times the longest context. */
const mostTokens = 1 << 24;

/** Throws ERR_INHOUSE_INVALID_ARGUMENT for what has no length and entries; entries are not looked at. */
export function checkTokenList(call: string, tokens: unknown): asserts tokens is ArrayLike<unknown> {
  const length: unknown = attempt(
    `${call}: the tokens`,
    () => typeof tokens === "object" && tokens !== null && "length" in tokens && tokens.length,
  );
  if (!Number.isInteger(length) || (length as number) < 0) {
    throw invalidArgument(`${call}: the tokens are ${show(tokens)}; expected a list of token ids`);
  }
  if ((length as number) > mostTokens) {
    throw invalidArgument(`${call}: ${String(length)} tokens; expected at most ${mostTokens}`);
  }
}

// By its looks: a signal may come from another realm, as under Jest.
function isSignal(value: unknown): boolean {
  const signal = value as Partial<AbortSignal> | null;
  return (
    typeof signal === "object" &&
    signal !== null &&
    typeof signal.aborted === "boolean" &&
    typeof signal.addEventListener === "function" &&
    typeof signal.removeEventListener === "function"
  );
}

/** The known name that an unknown one was probably meant to be. */
export function nearest(
  name: string,
  known: readonly string[],
  aliases: Readonly<Record<string, string>> = {},
): string | undefined {
  const plain = (text: string): string => text.toLowerCase().replace(/[^a-z0-9]/g, "");
  const wanted = plain(name);
  if (Object.hasOwn(aliases, wanted)) return aliases[wanted];
  let best: string | undefined;
  let least = Math.max(1, Math.floor(name.length / 3)) + 1;
  for (const candidate of known) {
    const edits = editDistance(wanted, plain(candidate), least);
    if (edits < least) {
      best = candidate;
      least = edits;
    }
  }
  return best;
}

/** Letters to insert, drop or replace; `limit` where there are as many or more. */
function editDistance(a: string, b: string, limit: number): number {
  if (Math.abs(a.length - b.length) >= limit) return limit;
  let row = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const next = [i];
    for (let j = 1; j <= b.length; j++) {
      const replace = row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1);
      next.push(Math.min(replace, row[j]! + 1, next[j - 1]! + 1));
    }
    row = next;
  }
  return Math.min(row[b.length]!, limit);
}
