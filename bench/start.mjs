// What the programs here have in common: `--help` prints the comment at a program's head, and what a program lacks or
// was asked wrongly is said in one line. Whoever uses this imports what was built, and peers, with `await import`:
// a static import fails before anything here runs.
import { closeSync, existsSync, openSync, readFileSync, realpathSync, unlinkSync } from "node:fs";
import { basename, relative } from "node:path";
import { getSystemErrorMap } from "node:util";

/** Asked wrongly: exit code 2, as for the UsageError of lib/cli, which may not be built. */
export class UsageError extends Error {
  name = "UsageError";
}

/** The comment at the head of a program. */
function help(file) {
  const [comment] = /^(?:\/\/.*\n)+/.exec(readFileSync(file, "utf8"));
  return comment.replace(/^\/\/ ?/gm, "");
}

/** What an error is to whoever started the program; undefined for a defect, whose stack is wanted. */
function reason(error) {
  const { name, code, message, path, syscall, errno, status } = error ?? {};
  if (/^(ERR_)?MODULE_NOT_FOUND$/.test(code ?? "")) {
    if (/[\\/]dist[\\/]/.test(message)) return "inhouse is not built: npm run build";
    const [, peer] = /Cannot find package '(.*?)'.*[\\/]peers[\\/]/.exec(message) ?? [];
    return peer && `${peer} is not installed: npm install in bench/peers`;
  }
  // Of a process of this bench, which has said why.
  if (typeof status === "number" && syscall === undefined) return "a measurement failed";
  const system = syscall === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  if (system !== undefined) return `${path ?? syscall}: ${system}`;
  const known = name === "UsageError" || /^ERR_(INHOUSE|PARSE_ARGS)_/.test(code ?? "");
  return known ? message.replaceAll("\n", " ") : undefined;
}

const wronglyAsked = ({ name, code }) =>
  name === "UsageError" || /^ERR_(INHOUSE_INVALID_ARGUMENT|PARSE_ARGS_.*)$/.test(code ?? "");

/** To be called first, with the program's file. */
export function start(file, name = basename(file, ".mjs")) {
  process.on("uncaughtException", (error) => {
    const line = reason(error);
    process.stderr.write(`${line === undefined ? (error?.stack ?? String(error)) : `${name}: ${line}`}\n`);
    process.exit(line !== undefined && wronglyAsked(error) ? 2 : 1);
  });
  if (!process.argv.slice(2).some((argument) => argument === "--help" || argument === "-h")) return;
  process.stdout.write(help(file));
  process.exit(0);
}

/** A whole number from 1 to `most`. */
export function count(name, text, most) {
  if (/^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text);
  throw new UsageError(`--${name}: expected a whole number from 1 to ${most}, got ${JSON.stringify(text)}`);
}

/** The one model of the command line. */
export function onlyModel(file, models) {
  if (models.length !== 1)
    throw new UsageError(
      `expected one model, got ${models.length} (node ${relative(".", file)} --help tells more)`,
    );
  if (!existsSync(models[0])) throw new UsageError(`${models[0]}: no such file`);
  return models[0];
}

/** Throws where the file could not be written at the end. Leaves what stands there. */
export function checkWritable(path) {
  const there = existsSync(path);
  closeSync(openSync(path, "a"));
  if (!there) unlinkSync(realpathSync(path));
}
