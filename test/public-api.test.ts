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

  it("are all named in docs/api.md, with their members", { timeout: 60_000 }, () => {
    const documented = new Set(readFileSync(join(root, "docs/api.md"), "utf8").match(/\w+/g));
    const missing = publicTypes(entry).exported.flatMap(({ name, declarations }) => {
      const members = declarations.flatMap((declaration) => [...memberNames(declaration)]);
      return [name, ...members.map((member) => `${name}.${member}`)].filter(
        (path) => !documented.has(path.slice(path.indexOf(".") + 1)),
      );
    });
    expect(missing).toEqual([]);
  });
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
