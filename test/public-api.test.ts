// The public types: recorded, compiled as users compile them, and explained in docs/api.md.
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import ts from "typescript";
import { describe, expect, it } from "vitest";

import { entries, memberNames, publicTypes, report, reportPath } from "../scripts/api-report.mjs";

const root = join(import.meta.dirname, "..");
const names = Object.keys(entries) as (keyof typeof entries)[];

describe.each(names)("the types of %s", (entry) => {
  it("are those that are recorded", { timeout: 60_000 }, () => {
    const path = join(root, reportPath(entry));
    const recorded = existsSync(path) ? readFileSync(path, "utf8") : "";
    expect(report(entry), "the types changed; if that is meant: node scripts/api-report.mjs").toBe(recorded);
  });

  it("are all named in docs/api.md, and their members in their sections", { timeout: 60_000 }, () => {
    const { exported } = publicTypes(entry);
    const page = codeOf(read("docs/api.md"));
    expect(exported.filter(({ name }) => !page.has(name)).map(({ name }) => name)).toEqual([]);
    const missing = exported.flatMap(({ name, declarations }) => {
      const members = declarations.flatMap((declaration) => [...memberNames(declaration)]);
      const homes = Object.keys(sections).filter((title) => sections[title].includes(name));
      if (members.length > 0 && homes.length === 0) return [`${name} has no section`];
      return homes.flatMap((title) => {
        const words = codeOf(section(title));
        return members.filter((member) => !words.has(member)).map((member) => `${title}: ${name}.${member}`);
      });
    });
    expect(missing).toEqual([]);
  });
});

const read = (path: string) => readFileSync(join(root, path), "utf8");

/** Where docs/api.md explains a type's members: sections by the beginnings of their titles, with what stands below. */
const sections: Record<string, string[]> = {
  "The library": ["InhouseError"],
  loadModel: ["LoadOptions", "LoadProgress"],
  Model: ["Model"],
  "model.info": ["ModelInfo"],
  "model.chat": ["ChatMessage", "TemplateOptions"],
  "model.complete": ["PromptOptions"],
  "model.evaluate": ["EvaluateOptions", "EvaluateResult", "EvaluateRows"],
  "model.embed": ["EmbedOptions", "OrderOptions", "PromptOptions"],
  "model.score": ["Score", "ScoreOptions"],
  "model.tokenizer": ["Tokenizer", "EncodeOptions", "DecodeOptions"],
  "model.stats": ["ModelStats", "Histogram"],
  "model.loadAdapter": ["Adapter", "AdapterOptions", "ScaledAdapter"],
  "model.saveState": ["SaveStateOptions", "SavedState"],
  "model.loadState": ["LoadStateOptions", "LoadedState"],
  "Options of a generation": ["RequestOptions", "OrderOptions"],
  Generation: [
    ...["Generation", "GenerationResult", "TextDelta", "Usage", "Timings"],
    ...["SampledLogprob", "TokenLogprob"],
  ],
  readHeader: ["readHeader", "ModelHeader", "MetadataArray", "MetadataEntry", "TensorEntry"],
  Tracing: ["Trace", "GenerateTrace", "EvaluateTrace", "EmbedTrace", "ScoreTrace"],
  "inhouse/hub": ["KnownModel", "PartSource", "PullOptions", "PullProgress", "PulledModel", "StoredModel"],
};

function section(title: string): string {
  const lines = read("docs/api.md").split("\n");
  const isTitle = (line: string) => /^#+ ([^(\n]+?)(\(|$)/.exec(line)?.[1] === title;
  const start = lines.findIndex(isTitle);
  if (start < 0) throw new Error(`docs/api.md has no section ${title}`);
  const level = (line: string) => /^#+(?= )/.exec(line)?.[0].length ?? Infinity;
  const end = lines.findIndex((line, i) => i > start && level(line) <= level(lines[start]));
  return lines.slice(start, end < 0 ? undefined : end).join("\n");
}

/** The words of code: in titles, in spans and in blocks. */
const codeOf = (text: string) =>
  new Set([...text.matchAll(/^#.*$|```[^]*?```|`[^`\n]+`/gm)].flatMap(([code]) => code.match(/\w+/g) ?? []));

it("docs/api.md explains no option that there is not", { timeout: 60_000 }, () => {
  const all = names.map((entry) => publicTypes(entry));
  const members = (name: string) =>
    all
      .flatMap(({ exported, mentioned }) => [...exported, ...mentioned])
      .filter((type) => type.name === name)
      .flatMap(({ declarations }) => declarations.flatMap((declaration) => [...memberNames(declaration)]));
  const unknown = Object.entries(sections).flatMap(([title, types]) => {
    const known = new Set([...types, "samplingSettings"].flatMap(members));
    // "Model" is made of sections that are here themselves.
    const text = title === "Model" || title === "The library" ? "" : section(title);
    const options = [...text.matchAll(/^\| Option [^]*?\n\n/gm)].flatMap(([rows]) =>
      [...rows.matchAll(/^\| `(\w+)`/gm)].map(([, option]) => option),
    );
    return options.filter((option) => !known.has(option)).map((option) => `${title}: ${option}`);
  });
  expect(unknown).toEqual([]);
});

describe("programs compile", () => {
  const folder = join(import.meta.dirname, "api/fixtures");
  const files = readdirSync(folder).map((name) => join(folder, name));
  const { ModuleKind, ModuleResolutionKind } = ts;
  const settings: Record<string, ts.CompilerOptions> = {
    node16: { module: ModuleKind.Node16, moduleResolution: ModuleResolutionKind.Node16 },
    nodenext: { module: ModuleKind.NodeNext, moduleResolution: ModuleResolutionKind.NodeNext },
    bundler: { module: ModuleKind.Preserve, moduleResolution: ModuleResolutionKind.Bundler },
  };

  it.each(Object.keys(settings))("with %s", { timeout: 60_000 }, (name) => {
    const program = ts.createProgram(files, {
      ...settings[name],
      target: ts.ScriptTarget.ES2022,
      lib: ["lib.es2022.d.ts"],
      types: ["node"],
      typeRoots: [join(root, "node_modules/@types")],
      strict: true,
      exactOptionalPropertyTypes: true,
      noUncheckedIndexedAccess: true,
      skipLibCheck: false,
      noEmit: true,
    });
    const problems = ts
      .getPreEmitDiagnostics(program)
      .map((found) => `${found.file?.fileName}: ${ts.flattenDiagnosticMessageText(found.messageText, "\n")}`);
    expect(problems).toEqual([]);
  });
});
