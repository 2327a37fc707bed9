// Writes test/api/*.api.md: the public types of each entry of the package as they are emitted, without comments, so that a
// change to them shows in review. Run it after `npm run build:ts`. `report` is what test/public-api.test.ts compares.
import { mkdirSync, writeFileSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { root } from "./source-files.mjs";

/** The package's entries: how they are imported, and where their types are. */
export const entries = { inhouse: "dist/index.d.ts", "inhouse/hub": "dist/hub/index.d.ts" };

export const reportPath = (entry) => `test/api/${entry.replace("/", "-")}.api.md`;

const dist = join(root, "dist") + sep;
const printer = ts.createPrinter({ removeComments: true });

/**
 * Names that its methods and properties have, of a declaration and of all that stands in it.
 * @param {ts.Node} declaration
 * @returns {Set<string>}
 */
export function memberNames(declaration) {
  const names = new Set();
  const visit = (node) => {
    if (ts.isConstructorDeclaration(node)) return; // nobody but the library calls them
    const isMember = ts.isTypeElement(node) || ts.isClassElement(node);
    const isPrivate = isMember && (ts.getCombinedModifierFlags(node) & ts.ModifierFlags.Private) !== 0;
    if (isMember && !isPrivate && node.name && ts.isIdentifier(node.name)) names.add(node.name.text);
    ts.forEachChild(node, visit);
  };
  visit(declaration);
  return names;
}

/**
 * An entry's exports, and what they mention without exporting it, by name.
 * @typedef {{ name: string, text: string, declarations: ts.Node[] }} Described
 * @param {keyof typeof entries} entry
 * @returns {{ exported: Described[], mentioned: Described[] }}
 */
export function publicTypes(entry) {
  const file = join(root, entries[entry]);
  const program = ts.createProgram([file], {
    target: ts.ScriptTarget.ES2022,
    module: ts.ModuleKind.Node16,
    types: ["node"],
    strict: true,
  });
  const checker = program.getTypeChecker();
  const source = program.getSourceFile(file);
  if (source === undefined) throw new Error(`${file} is missing: npm run build:ts`);
  const resolve = (symbol) =>
    symbol.flags & ts.SymbolFlags.Alias ? checker.getAliasedSymbol(symbol) : symbol;
  const own = (declaration) => declaration.getSourceFile().fileName.startsWith(dist.replaceAll(sep, "/"));

  // In the order of names; `seen` grows with what declarations mention.
  const seen = new Set();
  const describe = (name, symbol) => {
    seen.add(symbol);
    const declarations = (symbol.declarations ?? []).map(statementOf);
    const text = declarations.map((node) => print(node)).join("\n");
    return { name, text, declarations };
  };
  const byName = (a, b) => (a.name < b.name ? -1 : 1);
  const exported = checker
    .getExportsOfModule(checker.getSymbolAtLocation(source))
    .map((symbol) => describe(symbol.name, resolve(symbol)))
    .sort(byName);
  const mentioned = [];
  const queue = exported.flatMap(({ declarations }) => declarations);
  const visit = (node) => {
    const symbol = ts.isIdentifier(node) ? checker.getSymbolAtLocation(node) : undefined;
    const target = symbol && resolve(symbol);
    const [declaration] = target?.declarations ?? [];
    const isNew = declaration !== undefined && !seen.has(target) && own(declaration);
    if (isNew && statementOf(declaration).parent?.kind === ts.SyntaxKind.SourceFile) {
      const found = describe(target.name, target);
      mentioned.push(found);
      queue.push(...found.declarations);
    }
    ts.forEachChild(node, visit);
  };
  for (const node of queue) visit(node); // grows while it is read
  return { exported, mentioned: mentioned.sort(byName) };
}

/** The statement of a declaration: that of a variable stands two levels above it. */
const statementOf = (node) => (ts.isVariableDeclaration(node) ? node.parent.parent : node);

const print = (node) =>
  printer
    .printNode(ts.EmitHint.Unspecified, node, node.getSourceFile())
    .replace(/^export (declare )?|^declare /, "");

/** @param {keyof typeof entries} entry */
export function report(entry) {
  const { exported, mentioned } = publicTypes(entry);
  const section = (all) => all.map(({ text }) => text).join("\n\n");
  const rest =
    mentioned.length === 0
      ? ""
      : `\nNot exported, but part of these types:\n\n\`\`\`ts\n${section(mentioned)}\n\`\`\`\n`;
  return (
    `# The public types of \`${entry}\`\n\nWritten by \`node scripts/api-report.mjs\` from the emitted declarations; ` +
    `a test compares the two.\n\n\`\`\`ts\n${section(exported)}\n\`\`\`\n${rest}`
  );
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  mkdirSync(join(root, "test/api"), { recursive: true });
  for (const entry of Object.keys(entries)) {
    writeFileSync(join(root, reportPath(entry)), report(entry));
    console.log(relative(process.cwd(), join(root, reportPath(entry))));
  }
}
