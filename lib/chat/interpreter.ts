import { type Environment, type ForNode, Interpreter, type Node } from "./jinja.js";
import { limitError, templateLimits } from "./limits.js";
import {
  characterStarts,
  concat,
  isMarked,
  join,
  makeOwn,
  occurrences,
  partsOf,
  pick,
  replaceAt,
  strip,
} from "./text.js";
import {
  childScope,
  display,
  equal,
  isList,
  isMap,
  isNamespace,
  isString,
  type ListValue,
  makeBoolean,
  makeFunction,
  makeInteger,
  makeList,
  makeMap,
  makeString,
  makeUndefined,
  type StringValue,
  type Value,
} from "./values.js";

/** Nodes whose results are new values, and not other nodes' results handed on. */
const producers = new Set(["BinaryExpression", "CallExpression", "FilterExpression", "CallStatement"]);
/** Thrown by `{% break %}` and `{% continue %}`, caught by the loop around them. */
class LoopControl extends Error {
  /** What the iteration printed before it was left. */
  text = makeString("");
  constructor(readonly type: "Break" | "Continue") {
    super(`${type} outside of a loop`);
  }
}

/** A node that stands for a value which has been computed already. */
const known = (value: Value): Node => ({ type: "Known", value });

/** What a template prints for a value. */
const printed = (value: Value): StringValue => (isString(value) ? value : makeString(display(value)));

const statements = new Set(["Set", "Macro", "Comment"]);

/**
 * The template engine with three additions: every value it makes is measured against the limits before the next is
 * made from it, text of the template's own stays known as such (see text.ts), and a few places where the engine leaves
 * Python's jinja2 follow jinja2.
 */
export class BoundedInterpreter extends Interpreter {
  #steps = 0;
  #produced = 0;
  readonly #limit: number;
  readonly #sizes = new WeakMap<Value, number>();
  /** The check that the filter being applied wants for its arguments. */
  #checkArguments: ((args: Value[]) => void) | undefined;

  /** `inputLength`: characters of the data given to the template, which its values may add to the limit. */
  constructor(scope: Environment, inputLength: number) {
    super(scope);
    this.#limit = templateLimits.valueLength + 4 * inputLength;
  }

  override evaluate(node: Node | undefined, scope: Environment): Value {
    if (++this.#steps > templateLimits.steps) throw limitError(`more than ${templateLimits.steps} steps`);
    if (node === undefined || node === null) return makeUndefined();
    let value: Value;
    if (node.type === "TupleLiteral") {
      // As a list: the engine neither unpacks its tuples in loops nor writes them as JSON.
      value = makeList((node.value as Node[]).map((item) => this.evaluate(item, scope)));
    } else if (node.type === "StringLiteral") {
      value = makeOwn(node.value as string);
    } else if (node.type === "Known") {
      return node.value as Value;
    } else if (node.type === "Break" || node.type === "Continue") {
      throw new LoopControl(node.type);
    } else {
      value = super.evaluate(node, scope);
    }
    const size = this.#measure(value);
    if (producers.has(node.type)) this.#spend(size);
    return value;
  }

  override evaluateBlock(nodes: Node[], scope: Environment): StringValue {
    let text = makeString("");
    for (const node of nodes) {
      let value: Value;
      try {
        value = this.evaluate(node, scope);
      } catch (error) {
        if (error instanceof LoopControl) error.text = concat(text, error.text);
        throw error;
      }
      if (!statements.has(node.type)) text = concat(text, printed(value));
      if (text.value.length > this.#limit) this.#tooLong();
    }
    return text;
  }

  override evaluateBinaryExpression(node: Node, scope: Environment): Value {
    const operator = node.operator?.value;
    if (operator === undefined || !["==", "!=", "~", "+"].includes(operator)) {
      return super.evaluateBinaryExpression(node, scope);
    }
    const left = this.evaluate(node.left, scope);
    const right = this.evaluate(node.right, scope);
    if (operator === "~") return concat(printed(left), printed(right));
    if (operator === "+") {
      if (isString(left) && isString(right)) return concat(left, right);
      return super.evaluateBinaryExpression({ ...node, left: known(left), right: known(right) }, scope);
    }
    return makeBoolean(equal(left, right) === (operator === "=="));
  }

  /** As the engine's, which mistakes the end of the stack for a missing variable. */
  override evaluateIdentifier(node: Node, scope: Environment): Value {
    for (let at: Environment | undefined = scope; at !== undefined; at = at.parent) {
      const value = at.variables.get(node.value as string);
      if (value !== undefined) return value;
    }
    return makeUndefined();
  }

  override evaluateMemberExpression(node: Node, scope: Environment): Value {
    const object = this.evaluate(node.object, scope);
    const member = (of: Value): Value =>
      super.evaluateMemberExpression({ ...node, object: known(of) }, scope);
    if (!isString(object)) return member(object);
    if (node.property?.type === "SliceExpression") {
      if (!isMarked(object)) return member(object);
      const starts = member(makeList(characterStarts(object.value).map(makeInteger))) as ListValue;
      return pick(
        object,
        starts.value.map(({ value }) => value as number),
      );
    }
    const found = member(object);
    if (found.type !== "FunctionValue") return found;
    const name = node.property?.value as string;
    switch (name) {
      case "strip":
      case "lstrip":
      case "rstrip":
        return makeFunction(([set]) => strip(object, isString(set) ? set.value : undefined, name));
      case "replace":
        return makeFunction((args) => this.#replace(object, args));
      case "split": {
        const { value: split } = found as ReturnType<typeof makeFunction>;
        return makeFunction((args, caller) => {
          const separator = isString(args[0]) ? args[0] : undefined;
          return partsOf(object, split(args, caller) as ListValue, separator);
        });
      }
      default:
        return found;
    }
  }

  override evaluateArguments(nodes: Node[], scope: Environment): [Value[], Map<string, Value>] {
    const check = this.#checkArguments;
    this.#checkArguments = undefined;
    if (nodes.filter((node) => node.type === "SpreadExpression").length > 8) {
      throw limitError("more than 8 lists unpacked in one call");
    }
    const result = super.evaluateArguments(nodes, scope);
    check?.([...result[0], ...result[1].values()]);
    return result;
  }

  /** As the engine's, but an iteration's assignments end with it, and text and undefined values can be walked. */
  override evaluateFor(node: ForNode, scope: Environment): Value {
    const select = node.iterable.type === "SelectExpression" ? node.iterable : undefined;
    const iterable = this.evaluate(select ? select.lhs : node.iterable, scope);
    let items: Value[];
    if (isList(iterable)) items = iterable.value;
    else if (isMap(iterable)) items = Array.from(iterable.value.keys(), makeString);
    else if (isString(iterable)) items = Array.from(iterable.value, makeString);
    else if (iterable.type === "UndefinedValue") items = [];
    else throw new Error(`Cannot loop over ${iterable.type}`);
    if (select) {
      items = items.filter((item) => {
        const inner = childScope(scope);
        bindLoopVariables(node.loopvar, item, inner);
        return this.evaluate(select.test, inner).__bool__().value;
      });
    }
    let text = makeString("");
    for (const [i, item] of items.entries()) {
      const inner = childScope(scope);
      const loop = makeMap([
        ["index", makeInteger(i + 1)],
        ["index0", makeInteger(i)],
        ["revindex", makeInteger(items.length - i)],
        ["revindex0", makeInteger(items.length - i - 1)],
        ["first", makeBoolean(i === 0)],
        ["last", makeBoolean(i === items.length - 1)],
        ["length", makeInteger(items.length)],
      ]);
      inner.setVariable("loop", loop);
      if (i > 0) loop.value.set("previtem", items[i - 1]!);
      if (i + 1 < items.length) loop.value.set("nextitem", items[i + 1]!);
      loop.value.set(
        "cycle",
        makeFunction((args) => args[i % args.length] ?? makeUndefined()),
      );
      bindLoopVariables(node.loopvar, item, inner);
      try {
        text = concat(text, this.evaluateBlock(node.body, inner));
      } catch (error) {
        if (!(error instanceof LoopControl)) throw error;
        text = concat(text, error.text);
        if (error.type === "Break") break;
      }
      if (text.value.length > this.#limit) this.#tooLong();
    }
    return items.length > 0 ? text : this.evaluateBlock(node.defaultBlock, scope);
  }

  override evaluateSet(node: Node, scope: Environment): Value {
    const result = super.evaluateSet(node, scope);
    if (node.assignee?.type === "MemberExpression") this.#measure(this.evaluate(node.assignee.object, scope));
    return result;
  }

  override applyFilter(operand: Value, filter: Node, scope: Environment): Value {
    const name = (filter.type === "CallExpression" ? filter.callee?.value : filter.value) as string;
    const plain = this.#applyLikePython(operand, name, filter, scope);
    if (plain !== undefined) return plain;
    this.#checkArguments = (args) => {
      if (!["indent", "tojson"].includes(name)) return;
      const wide = args.find(({ type, value }) => type === "IntegerValue" && (value as number) > 1000);
      if (wide !== undefined) throw limitError(`an indentation of ${String(wide.value)}`);
    };
    try {
      return super.applyFilter(operand, filter, scope) ?? makeUndefined();
    } finally {
      this.#checkArguments = undefined;
    }
  }

  /**
   * Filters that keep the template's text known as such, and filters on types that the engine refuses and jinja2 takes;
   * undefined for others.
   */
  #applyLikePython(operand: Value, name: string, filter: Node, scope: Environment): Value | undefined {
    if (name === "string") return printed(operand);
    if (name === "trim") {
      const [[set]] = this.#filterArguments(filter, scope);
      return strip(printed(operand), isString(set) ? set.value : undefined, "strip");
    }
    if (name === "replace" && isString(operand)) {
      const [args, named] = this.#filterArguments(filter, scope);
      return this.#replace(operand, [...args, makeMap([...named])]);
    }
    if (name === "join" && (isList(operand) || isString(operand))) {
      const items = isList(operand) ? operand.value.map(printed) : Array.from(operand.value, makeString);
      const [args, named] = this.#filterArguments(filter, scope);
      const separator = args[0] ?? named.get("separator") ?? makeString("");
      if (!isString(separator)) throw new Error("separator must be a string");
      if (items.length * separator.value.length > this.#limit) this.#tooLong();
      return join(items, separator);
    }
    if (name === "list" && isString(operand)) return makeList(Array.from(operand.value, makeString));
    if (name === "list" && isMap(operand)) return makeList(Array.from(operand.value.keys(), makeString));
    if (operand.type === "UndefinedValue") {
      if (["length", "count"].includes(name)) return makeInteger(0);
      if (["list", "items", "map", "selectattr", "rejectattr", "sort", "reverse", "unique"].includes(name)) {
        return makeList([]);
      }
      if (["join", "lower", "upper", "title", "capitalize"].includes(name)) return makeString("");
      if (["first", "last"].includes(name)) return makeUndefined();
    }
    if (isString(operand) && ["first", "last", "reverse"].includes(name)) {
      const characters = Array.from(operand.value);
      if (name === "reverse") return makeString(characters.reverse().join(""));
      return makeString(characters.at(name === "first" ? 0 : -1) ?? "");
    }
    if (name === "count" && (isList(operand) || isString(operand))) return makeInteger(operand.value.length);
    return undefined;
  }

  #filterArguments(filter: Node, scope: Environment): [Value[], Map<string, Value>] {
    return this.evaluateArguments(filter.type === "CallExpression" ? (filter.args ?? []) : [], scope);
  }

  /** Python's `str.replace(old, new, count)`; the count may come by name. */
  #replace(text: StringValue, [from, to, third]: Value[]): StringValue {
    if (!isString(from) || !isString(to)) throw new Error("replace() takes two strings");
    const count = isMap(third) ? third.value.get("count") : third;
    const most = count?.type === "IntegerValue" ? (count.value as number) : -1;
    let places = occurrences(text.value, from.value);
    if (most >= 0) places = places.slice(0, most);
    if (text.value.length + places.length * to.value.length > this.#limit) this.#tooLong();
    return replaceAt(text, places, from.value.length, to);
  }

  /** Characters that a value has when written out. Lists and mappings never change, so theirs are kept. */
  #measure(value: Value): number {
    let size = 8;
    if (isString(value)) {
      size = value.value.length;
    } else if (isList(value)) {
      const known = this.#sizes.get(value);
      if (known !== undefined) return known;
      size = 2;
      for (const item of value.value) size += this.#measureInside(item) + 4;
      this.#sizes.set(value, size);
    } else if (isMap(value)) {
      const known = this.#sizes.get(value);
      if (known !== undefined) return known;
      size = 2;
      for (const [key, item] of value.value) size += key.length + this.#measureInside(item) + 8;
      this.#sizes.set(value, size);
    } else if (isNamespace(value)) {
      size = 2;
      for (const [key, item] of value.value) size += key.length + this.#measureInside(item) + 8;
    }
    if (size > this.#limit) this.#tooLong();
    return size;
  }

  /** A namespace can change after it was put somewhere, so it counts as the most that a few of them may have. */
  #measureInside(value: Value): number {
    return isNamespace(value) ? this.#limit / 16 : this.#measure(value);
  }

  #spend(size: number): void {
    this.#produced += size;
    if (this.#produced > templateLimits.totalValues * this.#limit) {
      throw limitError(`its values exceed ${templateLimits.totalValues * this.#limit} characters together`);
    }
  }

  #tooLong(): never {
    throw limitError(`a value or the output exceeds ${this.#limit} characters`);
  }
}

function bindLoopVariables(target: Node, item: Value, scope: Environment): void {
  if (target.type !== "TupleLiteral") {
    scope.setVariable(target.value as string, item);
    return;
  }
  const names = target.value as Node[];
  if (!isList(item) || item.value.length !== names.length) {
    throw new Error(`Cannot unpack ${item.type} into ${names.length} loop variables`);
  }
  for (const [i, name] of names.entries()) scope.setVariable(name.value as string, item.value[i]!);
}
