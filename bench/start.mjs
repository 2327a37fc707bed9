// What the programs here have in common: `--help` prints the comment at a program's head, and what a program lacks or
// was asked wrongly is said in one line. Whoever uses this imports what was built, and peers, with `await import`:
// a static import fails before anything here runs.
import {
  accessSync,
  closeSync,
  constants,
  existsSync,
  openSync,
  readFileSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, relative } from "node:path";
import { getSystemErrorMap } from "node:util";

/** Asked wrongly: exit code 2, as for the UsageError of lib/cli, which may not be built. */
export class UsageError extends Error {
  name = "UsageError";
}

/** What went wrong though nothing was asked wrongly, said in one line: exit code 1. */
export class Failure extends Error {
  name = "Failure";
}

/** The comment at the head of a program. */
function help(file) {
  const [comment] = /^(?:\/\/.*\n)+/.exec(readFileSync(file, "utf8"));
  return comment.replace(/^\/\/ ?/gm, "");
}

/** What an error is to whoever started the program; undefined for a defect, whose stack is wanted. */
function reason(error) {
  const { name, code, message, path, syscall, errno, status, signal } = error ?? {};
  if (/^(ERR_)?MODULE_NOT_FOUND$/.test(code ?? "")) {
    if (/[\\/]dist[\\/]/.test(message)) return "inhouse is not built: npm run build";
    const [, peer] = /Cannot find package '(.*?)'.*[\\/]peers[\\/]/.exec(message) ?? [];
    return peer && `${peer} is not installed: npm install in bench/peers`;
  }
  // Of a process of this bench, which has said why.
  if (status !== undefined && syscall === undefined)
    return signal ? `a measurement was ended by ${signal}` : "a measurement failed";
  const system = syscall === undefined ? undefined : getSystemErrorMap().get(errno)?.[1];
  if (system !== undefined) return `${path ?? syscall}: ${system}`;
  const known = /^(UsageError|Failure)$/.test(name) || /^ERR_(INHOUSE|PARSE_ARGS)_/.test(code ?? "");
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

/** A whole number from 1 to `most`; `what`: as the command line calls it. */
export function whole(what, text, most) {
  if (/^\d{1,9}$/.test(text) && Number(text) >= 1 && Number(text) <= most) return Number(text);
  throw new UsageError(`${what}: expected a whole number from 1 to ${most}, got ${JSON.stringify(text)}`);
}

/** The same of an option. */
export const count = (name, text, most) => whole(`--${name}`, text, most);

const more = (file) => `(node ${relative(".", file)} --help tells more)`;

/** The file, which must be there. */
export function existing(path) {
  if (!existsSync(path)) throw new UsageError(`${path}: no such file`);
  return path;
}

/** The models of the command line, of which there must be one at least. */
export function models(file, paths) {
  if (paths.length === 0) throw new UsageError(`expected at least one model ${more(file)}`);
  return paths.map(existing);
}

/** The one model of the command line. */
export function onlyModel(file, paths) {
  if (paths.length !== 1) throw new UsageError(`expected one model, got ${paths.length} ${more(file)}`);
  return existing(paths[0]);
}

/** What is no regular file (a device, a pipe) is written where it stands, and never replaced. */
const replaced = (path) => !existsSync(path) || statSync(path).isFile();

/** Throws where the file could not be written at the end. Leaves what stands there, and returns where links lead. */
export function checkWritable(path) {
  if (!replaced(path)) {
    if (statSync(path).isDirectory())
      throw new UsageError(`${path} is in the way: expected a file, or nothing`);
    accessSync(path, constants.W_OK); // to open a pipe would wait for its reader
    return path;
  }
  const there = existsSync(path);
  closeSync(openSync(path, "a"));
  const target = realpathSync(path);
  if (!there) unlinkSync(target);
  return target;
}

/**
 * Where a result goes. What there is of it is kept beside its place, in a file of this process alone, and takes that
 * place in the end. What is no regular file gets the whole, in the end.
 */
export class ResultFile {
  #target;
  #partial;

  /** Throws where it could not be written. */
  constructor(path) {
    this.path = path;
    this.#target = checkWritable(path);
    if (replaced(path)) this.#partial = checkWritable(`${this.#target}.${process.pid}.partial`);
  }

  keep(text) {
    if (this.#partial !== undefined) writeFileSync(this.#partial, text);
  }

  finish(text) {
    writeFileSync(this.#partial ?? this.#target, text);
    if (this.#partial !== undefined) renameSync(this.#partial, this.#target);
  }
}
