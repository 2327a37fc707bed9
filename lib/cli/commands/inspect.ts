// `inhouse inspect`: what a file's header says.
import { type MetadataArray, type MetadataScalar, type ModelHeader, readHeader } from "../../header.js";
import { resolve } from "../../hub/index.js";
import { allFlags, type Command, operands } from "../command.js";
import { parseFlags } from "../flags.js";
import { loadFlags } from "../settings.js";
import { bytes, json, visible } from "../terminal.js";

const shownElements = 6;

export const inspectCommand: Command = {
  name: "inspect",
  operands: "MODEL",
  summary: "Show a file's metadata and tensors; the weights are not read.",
  groups: {
    Output: {
      json: { name: "json", help: "Print one JSON document: the file, its metadata and tensors." },
      arrays: {
        name: "arrays",
        help: "With --json: long arrays (vocabularies) too, not only their lengths.",
      },
      tensors: { name: "tensors", help: "List every tensor." },
    },
    File: { overrides: loadFlags.overrides },
  },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const header = await readHeader(await resolve(name!), {
      overrides: values.overrides as Record<string, string>,
    });
    if (values.json === true) await shell.stdout.write(`${json(document(header, values.arrays === true))}\n`);
    else await shell.stdout.write(visible(report(header, values.tensors === true)));
  },
};

type Value = MetadataScalar | MetadataArray;

const isArray = (value: Value): value is MetadataArray => typeof value === "object";

function jsonValue(value: Value, whole: boolean): unknown {
  if (!isArray(value)) return Number.isFinite(value) || typeof value !== "number" ? value : String(value);
  if (!whole && value.length > 64) return { type: value.type, length: value.length };
  return value.toArray().map((item) => jsonValue(item, whole));
}

function document(header: ModelHeader, arrays: boolean): unknown {
  const { path, version, alignment, fileBytes } = header;
  const metadata = Object.fromEntries(
    [...header.metadata].map(([key, { value }]) => [key, jsonValue(value, arrays)]),
  );
  return { path, version, alignment, fileBytes, ...summary(header), metadata, tensors: header.tensors };
}

/** What most people want to know of a file. */
function summary(header: ModelHeader): Record<string, unknown> {
  const get = (key: string): MetadataScalar | undefined => {
    const value = header.metadata.get(key)?.value;
    return value === undefined || isArray(value) ? undefined : value;
  };
  const architecture = get("general.architecture");
  const vocabulary = header.metadata.get("tokenizer.ggml.tokens")?.value;
  const types: Record<string, number> = {};
  for (const tensor of header.tensors) types[tensor.type] = (types[tensor.type] ?? 0) + 1;
  return {
    architecture,
    name: get("general.name"),
    licence: get("general.license"),
    parameters: header.tensors.reduce((sum, tensor) => sum + tensor.shape.reduce((a, b) => a * b, 1), 0),
    layers: get(`${String(architecture)}.block_count`),
    trainedContextLength: get(`${String(architecture)}.context_length`),
    vocabularySize: vocabulary !== undefined && isArray(vocabulary) ? vocabulary.length : undefined,
    hasChatTemplate: Boolean(get("tokenizer.chat_template")),
    tensorTypes: types,
  };
}

function shown(value: Value): string {
  if (!isArray(value)) {
    const text = typeof value === "string" ? JSON.stringify(value) : String(value);
    return text.length > 100 ? `${text.slice(0, 100)}… (${text.length} characters)` : text;
  }
  const items = Array.from({ length: Math.min(shownElements, value.length) }, (_, i) => shown(value.at(i)!));
  const more = value.length > shownElements ? `, … ${value.length} in all` : "";
  return `[${items.join(", ")}${more}]`;
}

function report(header: ModelHeader, tensors: boolean): string {
  const { tensorTypes, ...facts } = summary(header);
  const lines = [`${header.path}: GGUF version ${header.version}, ${bytes(header.fileBytes)}`];
  for (const [key, value] of Object.entries(facts))
    if (value !== undefined) lines.push(`  ${key}: ${value as MetadataScalar}`);
  const types = Object.entries(tensorTypes as Record<string, number>).sort((a, b) => b[1] - a[1]);
  lines.push(
    `  tensors: ${header.tensors.length} (${types.map(([type, count]) => `${count} ${type}`).join(", ")})`,
  );
  lines.push("", "Metadata:");
  for (const [key, { type, value }] of header.metadata) lines.push(`  ${key} (${type}) = ${shown(value)}`);
  if (tensors) {
    lines.push("", "Tensors:");
    for (const { name, type, shape, bytes: size } of header.tensors) {
      lines.push(`  ${name}  ${type}  [${shape.join(", ")}]  ${bytes(size)}`);
    }
  }
  return `${lines.join("\n")}\n`;
}
