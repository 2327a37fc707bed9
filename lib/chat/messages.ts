import { InhouseError } from "../errors.js";
import { attempt, invalidArgument } from "../options.js";

/** Data as templates and JSON know it. */
export type PlainValue = string | number | boolean | null | PlainValue[] | { [key: string]: PlainValue };

const maxDepth = 64;
const plainData = "plain data (text, numbers, lists, objects)";

function fail(path: string, expected: string, value: unknown): never {
  const none = value === null || value === undefined;
  const type = typeof value === "object" ? tagOf(value) : typeof value;
  const got = none ? String(value) : Array.isArray(value) ? "an array" : `a value of type ${type}`;
  throw invalidArgument(`${path}: expected ${expected}, got ${got}`);
}

/** "Object" for plain objects and those of most classes, "Map", "Date", "Uint8Array" and the like for others. */
const tagOf = (value: unknown): string => Object.prototype.toString.call(value).slice(8, -1);

/** A copy of `value` as plain data, without what JSON leaves out. `path` names it in errors. */
export function toPlain(value: unknown, path: string, depth = 0): PlainValue {
  if (depth > maxDepth) {
    throw invalidArgument(`${path}: nested deeper than ${maxDepth} levels`);
  }
  switch (typeof value) {
    case "string":
    case "boolean":
      return value;
    case "number":
      if (!Number.isFinite(value)) fail(path, "a finite number", value);
      return value;
    case "object": {
      if (value === null) return null;
      if (Array.isArray(value)) {
        const items = attempt(path, () => Array.from(value as unknown[]));
        return items.map((item, i) => toPlain(item, `${path}[${i}]`, depth + 1));
      }
      if (attempt(path, () => tagOf(value)) !== "Object") fail(path, plainData, value);
      const fields = value as Record<string, unknown>;
      const toJSON = attempt(path, () => fields.toJSON);
      if (typeof toJSON === "function") {
        return toPlain(
          attempt(path, () => toJSON.call(value) as unknown),
          path,
          depth + 1,
        );
      }
      const copy: Record<string, PlainValue> = Object.create(null) as Record<string, PlainValue>;
      for (const key of attempt(path, () => Object.keys(fields))) {
        const item = attempt(`${path}.${key}`, () => fields[key]);
        if (item !== undefined) copy[key] = toPlain(item, `${path}.${key}`, depth + 1);
      }
      return copy;
    }
    default:
      return fail(path, plainData, value);
  }
}

/**
 * Checks a conversation: a non-empty array of objects with a `role` (any name; the template decides) and a
 * `content` text, which may be null beside `tool_calls`. Further fields reach the template as they are. Fields are an
 * object's own, as in JSON. Of more messages than `most` nothing else is looked at: ERR_INHOUSE_CONTEXT_OVERFLOW.
 */
export function checkMessages(messages: unknown, most: number): PlainValue[] {
  if (!Array.isArray(messages)) fail("messages", "an array of { role, content }", messages);
  const count = attempt("messages", () => messages.length);
  if (count === 0) throw invalidArgument("messages: expected at least one message, got none");
  if (count > most) {
    throw new InhouseError(
      "ERR_INHOUSE_CONTEXT_OVERFLOW",
      `the conversation has ${count} messages; expected at most ${most}, as many as the context has tokens`,
    );
  }
  return attempt("messages", () => Array.from(messages as unknown[])).map((given, i) => {
    const path = `messages[${i}]`;
    const message = given === undefined ? given : toPlain(given, path);
    if (typeof message !== "object" || message === null || Array.isArray(message)) {
      fail(path, "an object { role, content }", message);
    }
    const { role, content, tool_calls: calls } = message;
    if (typeof role !== "string") fail(`${path}.role`, "a string", role);
    if (role === "") throw invalidArgument(`${path}.role: expected a name, got ""`);
    const mayLack = Array.isArray(calls) && (content === null || content === undefined);
    if (typeof content !== "string" && !mayLack) fail(`${path}.content`, "a string", content);
    return message;
  });
}
