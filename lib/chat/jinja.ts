// The template engine, with types for as much of it as is used here: its own cannot be resolved from CommonJS.
import type { Value } from "./values.js";

/** A scope of variables. */
export interface Environment {
  parent?: Environment;
  variables: Map<string, Value>;
  tests: unknown;
  /** Makes a variable of a JavaScript value, and returns it as the engine's. */
  set(name: string, value: unknown): Value;
  setVariable(name: string, value: Value): Value;
  lookupVariable(name: string): Value;
}

/** A piece of a template's source; of a string, what it stands for. */
export interface Token {
  value: string;
  type: string;
}

/** A node of a parsed template. */
export interface Node {
  type: string;
  value?: unknown;
  operator?: { value: string };
  left?: Node;
  right?: Node;
  object?: Node;
  property?: Node;
  callee?: Node;
  args?: Node[];
  assignee?: Node;
}

/** `{% for loopvar in iterable %}`; the iterable is a SelectExpression if the loop has a condition. */
export interface ForNode extends Node {
  loopvar: Node;
  iterable: Node & { lhs?: Node; test?: Node };
  body: Node[];
  defaultBlock: Node[];
}

/** The interpreter's methods that BoundedInterpreter takes over. Most are private in it: its version is pinned. */
export interface Interpreter {
  evaluate(node: Node | undefined, scope: Environment): Value;
  evaluateBlock(nodes: Node[], scope: Environment): Value;
  evaluateBinaryExpression(node: Node, scope: Environment): Value;
  evaluateIdentifier(node: Node, scope: Environment): Value;
  evaluateMemberExpression(node: Node, scope: Environment): Value;
  evaluateArguments(nodes: Node[], scope: Environment): [Value[], Map<string, Value>];
  evaluateFor(node: ForNode, scope: Environment): Value;
  evaluateSet(node: Node, scope: Environment): Value;
  applyFilter(operand: Value, filter: Node, scope: Environment): Value | undefined;
}

interface Engine {
  Environment: new (parent?: Environment) => Environment;
  Interpreter: new (scope: Environment) => Interpreter;
  tokenize: (source: string, options: { lstrip_blocks: boolean; trim_blocks: boolean }) => Token[];
  parse: (tokens: Token[]) => Node;
}

// eslint-disable-next-line @typescript-eslint/no-require-imports -- literal, so that bundlers follow it
export const { Environment, Interpreter, parse, tokenize } = require("@huggingface/jinja") as Engine;
