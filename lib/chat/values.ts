import { Environment } from "./jinja.js";

/** The template engine's run-time values, as far as this package touches them. */
export interface Value {
  type: string;
  value: unknown;
  __bool__(): { value: boolean };
}
export interface StringValue extends Value {
  value: string;
}
export interface ListValue extends Value {
  value: Value[];
}
export interface MapValue extends Value {
  value: Map<string, Value>;
}
export interface FunctionValue extends Value {
  value: (args: Value[], scope: Environment) => Value;
}

// The engine does not export its value classes, but makes values of them.
const scratch = new Environment();
type Constructor<T> = new (value: unknown) => T;
const classOf = <T extends Value>(name: string, sample: unknown) =>
  scratch.set(name, sample).constructor as unknown as Constructor<T>;

export const StringClass = classOf<StringValue>("string", "");
const IntegerClass = classOf<Value>("integer", 0);
const BooleanClass = classOf<Value>("boolean", true);
const ListClass = classOf<ListValue>("list", []);
const MapClass = classOf<MapValue>("map", {});
const FunctionClass = classOf<FunctionValue>("function", () => null);
const UndefinedClass = classOf<Value>("undefined", undefined);

export const makeString = (text: string): StringValue => new StringClass(text);
export const makeInteger = (number: number): Value => new IntegerClass(number);
export const makeBoolean = (truth: boolean): Value => new BooleanClass(truth);
export const makeList = (items: Value[]): ListValue => new ListClass(items);
export const makeMap = (entries: [string, Value][]): MapValue => new MapClass(new Map(entries));
export const makeFunction = (call: FunctionValue["value"]): FunctionValue => new FunctionClass(call);
export const makeUndefined = (): Value => new UndefinedClass(undefined);

/** An empty scope inside another; the engine's own constructor fills each with functions that the outermost has. */
export function childScope(parent: Environment): Environment {
  const scope = Object.create(Environment.prototype as object) as Environment;
  return Object.assign(scope, { parent, variables: new Map(), tests: parent.tests });
}

export const isString = (value: Value | undefined): value is StringValue => value?.type === "StringValue";
export const isList = (value: Value | undefined): value is ListValue =>
  value?.type === "ArrayValue" || value?.type === "TupleValue";
export const isMap = (value: Value | undefined): value is MapValue =>
  value?.type === "ObjectValue" || value?.type === "KeywordArgumentsValue";
export const isNamespace = (value: Value | undefined): value is MapValue => value?.type === "NamespaceValue";

function quote(text: string): string {
  const mark = text.includes("'") && !text.includes('"') ? '"' : "'";

  const body = text.replace(/[\\'"\u0000-\u001f\u007f-\u00a0\u00ad]/g, (char) => {
    if (char === "\\") return "\\\\";
    if (char === "'" || char === '"') return char === mark ? `\\${char}` : char;
    const short = { "\n": "\\n", "\r": "\\r", "\t": "\\t" }[char];
    return short ?? `\\x${char.charCodeAt(0).toString(16).padStart(2, "0")}`;
  });
  return mark + body + mark;
}

/** Python's `repr` of a value. */
function represent(value: Value): string {
  if (isString(value)) return quote(value.value);
  return display(value);
}

/** Python's `str` of a value: what a template prints for it. */
export function display(value: Value): string {
  if (isString(value)) return value.value;
  if (isList(value)) {
    const items = value.value.map(represent);
    if (value.type === "TupleValue") return `(${items.join(", ")}${items.length === 1 ? "," : ""})`;
    return `[${items.join(", ")}]`;
  }
  if (isMap(value)) return `{${[...value.value].map(([k, v]) => `${quote(k)}: ${represent(v)}`).join(", ")}}`;
  switch (value.type) {
    case "BooleanValue":
      return value.value ? "True" : "False";
    case "NullValue":
      return "None";
    case "UndefinedValue":
      return "";
    default:
      return (value as { toString(): string }).toString();
  }
}

const isNumber = (value: Value) => ["IntegerValue", "FloatValue", "BooleanValue"].includes(value.type);

/** Python's `==`: numbers and truth values by value, lists and mappings by content, other types never equal. */
export function equal(left: Value, right: Value): boolean {
  if (isNumber(left) && isNumber(right)) return Number(left.value) === Number(right.value);
  if (isList(left) && isList(right)) {
    if (left.value.length !== right.value.length) return false;
    return left.value.every((item, i) => equal(item, right.value[i]!));
  }
  if (isMap(left) && isMap(right)) {
    if (left.value.size !== right.value.size) return false;
    return [...left.value].every(([key, item]) => {
      const other = right.value.get(key);
      return other !== undefined && equal(item, other);
    });
  }
  return left.type === right.type && left.value === right.value;
}
