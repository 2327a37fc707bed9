// `inhouse embed`: a vector for each text.
import { type EmbedOptions, poolings } from "../../embed.js";
import { allFlags, type Command, type Shell } from "../command.js";
import { integerFlag, parseFlags } from "../flags.js";
import { readText, readTextFile } from "../input.js";
import { adapterOf, load } from "../loading.js";
import { choice, loadFlags, loadOptions } from "../settings.js";
import { UsageError } from "../usage.js";

const embedFlags = {
  file: { name: "file", value: "TEXTS", help: "A file with a text on each line." },
  pooling: choice(
    "pooling",
    "NAME",
    poolings,
    "How a text's tokens become one vector (default: what the file says, else mean).",
  ),
  dimensions: integerFlag(
    "dimensions",
    "N",
    1,
    2 ** 31 - 1,
    "Keep the first N numbers of each vector (default: all).",
  ),
  noNormalize: {
    name: "no-normalize",
    help: "Leave vectors as long as they are; do not make their length 1.",
  },
  truncate: { name: "truncate", help: "Cut texts that are longer than the context; else they are refused." },
  json: { name: "json", help: "Print one JSON document." },
};

export const embedCommand: Command = {
  name: "embed",
  operands: "MODEL [TEXT …]",
  summary: "Print a vector for each text.",
  details:
    "Texts are the operands, or the lines of --file, or without either the lines of stdin. Each vector is a line, a JSON " +
    "array; --json prints one document with all of them.",
  groups: { Embedding: embedFlags, "Loading and device": loadFlags },
  async run(args, shell) {
    const { values, positionals } = parseFlags(args, allFlags(this.groups));
    const [name, ...given] = positionals;
    if (name === undefined) throw new UsageError(`too few operands: expected inhouse embed ${this.operands}`);
    const file = values.file as string | undefined;
    if (file !== undefined && given.length > 0)
      throw new UsageError("give texts as operands or with --file, not both");
    const texts = given.length > 0 ? given : await readLines(file, shell);
    const options: EmbedOptions = {
      pooling: values.pooling as EmbedOptions["pooling"],
      dimensions: values.dimensions as number | undefined,
      normalize: values.noNormalize !== true,
      truncate: values.truncate === true,
      signal: shell.signal,
    };
    const model = await load(name, loadOptions(values), shell);
    try {
      options.adapter = await adapterOf(model, values, shell);
      const start = performance.now();
      const vectors = (await model.embed(texts, options)).map((vector) => Array.from(vector));
      const seconds = (performance.now() - start) / 1000;
      if (values.json === true) {
        const pooling = options.pooling ?? model.info.pooling;
        const dimensions = options.dimensions ?? model.info.embeddingLength;
        await shell.stdout.write(`${JSON.stringify({ pooling, dimensions, vectors, seconds })}\n`);
      } else for (const vector of vectors) await shell.stdout.write(`${JSON.stringify(vector)}\n`);
    } finally {
      await model.dispose();
    }
  },
};

/** The lines of a file or of stdin; a newline at the end begins no line. */
async function readLines(file: string | undefined, shell: Shell): Promise<string[]> {
  if (file === undefined && shell.stdin.isTTY) throw new UsageError("no TEXT given, and nothing on stdin");
  const text =
    file === undefined
      ? await readText(shell.stdin, "stdin", shell.signal)
      : await readTextFile("file", file, shell.signal);
  const lines = text.split(/\r?\n/);
  if (lines.at(-1) === "") lines.pop();
  return lines;
}
