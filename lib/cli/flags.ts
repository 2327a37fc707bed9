// The command line's flags: what each takes and means. Flags of settings come from the library's own tables.
import { parseArgs } from "node:util";

import { InhouseError } from "../errors.js";
import { nearest } from "../options.js";
import { UsageError } from "./usage.js";

/** One flag. */
export interface Flag {
  /** The name after the two dashes. */
  name: string;
  /** A letter for use after one dash. */
  short?: string;
  /** What help shows for its value; a flag without is a switch. */
  value?: string;
  /** Can be given several times. */
  repeats?: boolean;
  help: string;
  /** The value from its texts (several of a flag that does not repeat: the last counts). Throws to refuse. */
  parse?: (texts: string[]) => unknown;
}

/** Flags by the name of the option each sets. */
export type Flags = Readonly<Record<string, Flag>>;

/** The values of flags that were given, by option name. */
export type Values<F extends Flags> = { [Name in keyof F]?: unknown };

export interface Parsed<F extends Flags> {
  values: Values<F>;
  positionals: string[];
}

/** Flags by how they are written: `--threads` and `-t`. */
type Known = ReadonlyMap<string, { key: string; flag: Flag }>;

/** Reads arguments by a table. Throws UsageError for whatever the table does not allow. */
export function parseFlags<F extends Flags>(args: readonly string[], flags: F): Parsed<F> {
  const byArgument: Known = new Map(
    Object.entries(flags).flatMap(([key, flag]) =>
      [`--${flag.name}`, ...(flag.short ? [`-${flag.short}`] : [])].map((name) => [name, { key, flag }]),
    ),
  );
  const options = Object.fromEntries(
    Object.values(flags).map((flag) => [
      flag.name,
      {
        type: flag.value === undefined ? ("boolean" as const) : ("string" as const),
        multiple: flag.value !== undefined,
        ...(flag.short === undefined ? {} : { short: flag.short }),
      },
    ]),
  );
  let parsed;
  try {
    parsed = parseArgs({
      args: joinNegatives(args, byArgument),
      options,
      allowPositionals: true,
      strict: true,
    });
  } catch (error) {
    throw explain(error as NodeJS.ErrnoException, byArgument) ?? error;
  }
  const values: Record<string, unknown> = {};
  for (const [name, given] of Object.entries(parsed.values)) {
    const { key, flag } = byArgument.get(`--${name}`)!;
    values[key] = Array.isArray(given) ? parseTexts(flag, given as string[]) : given;
  }
  return { values: values, positionals: parsed.positionals };
}

function parseTexts(flag: Flag, texts: string[]): unknown {
  const parse = flag.parse ?? ((given: string[]) => (flag.repeats ? given : given.at(-1)));
  try {
    return parse(texts);
  } catch (error) {
    if (!(error instanceof UsageError) && !InhouseError.is(error)) throw error;
    const { message } = error;
    throw new UsageError(message.includes(`--${flag.name}`) ? message : `--${flag.name}: ${message}`);
  }
}

/** `--penalty-last-n -1` as `--penalty-last-n=-1`: parseArgs takes every `-` for a flag. */
function joinNegatives(args: readonly string[], known: Known): string[] {
  const joined: string[] = [];
  for (let i = 0; i < args.length; ++i) {
    const argument = args[i]!;
    if (argument === "--") return [...joined, ...args.slice(i)];
    const flag = known.get(argument)?.flag;
    const next = args[i + 1];
    if (flag?.value !== undefined && next !== undefined && /^-(\d|\.\d|inf)/i.test(next)) {
      joined.push(`--${flag.name}=${next}`);
      ++i;
    } else joined.push(argument);
  }
  return joined;
}

function explain({ code, message }: NodeJS.ErrnoException, known: Known): UsageError | undefined {
  if (!code?.startsWith("ERR_PARSE_ARGS")) return undefined;
  const unknown = /Unknown option '(-[^']*)'/.exec(message)?.[1];
  if (unknown === undefined) {
    const flag = known.get(/^Option '(?:-\w, )?(--?[\w-]+)/.exec(message)?.[1] ?? "")?.flag;
    if (flag === undefined) return new UsageError(message.split("\n", 1)[0]);
    const name = `--${flag.name}`;
    return new UsageError(
      flag.value === undefined
        ? `${name} takes no value`
        : `${name}: expected a value (one that begins with a dash after =: ${name}=-…)`,
    );
  }
  const names = [...known.values()].map(({ flag }) => flag.name);
  const near = unknown.startsWith("--") ? nearest(unknown.slice(2), names) : undefined;
  const hint = near === undefined ? "" : `; did you mean --${near}?`;
  return new UsageError(`unknown flag ${unknown}${hint} (a text that begins with a dash goes after --)`);
}

/** A whole number within a range, or one of some words. */
export function parseInteger(
  text: string,
  min: number,
  max: number,
  words: readonly string[] = [],
): number | string {
  if (words.includes(text)) return text;
  const value = /^[+-]?\d+$/.test(text) ? Number(text) : NaN;
  if (value >= min && value <= max) return value;
  const others = words.map((word) => ` or ${word}`).join("");
  throw new UsageError(`expected a whole number from ${min} to ${max}${others}, got ${JSON.stringify(text)}`);
}

/** A flag that takes a whole number. */
export function integerFlag(name: string, value: string, min: number, max: number, help: string): Flag {
  return { name, value, help, parse: (texts) => parseInteger(texts.at(-1)!, min, max) };
}

/** A flag that takes whole numbers with commas between them; each counts once. */
export function integersFlag(name: string, min: number, max: number, help: string): Flag {
  const parse = (texts: string[]) => [
    ...new Set(
      texts
        .at(-1)!
        .split(",")
        .map((text) => parseInteger(text, min, max)),
    ),
  ];
  return { name, value: "N,…", help, parse };
}
