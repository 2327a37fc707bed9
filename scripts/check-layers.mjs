// Holds the source to the layers of docs/architecture.md: who may import what, and what no layer may use.
// `check` is a pure function from file texts to violations, so that test/layers.test.ts can feed it bad ones.
import { builtinModules } from "node:module";
import { posix } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";
import { isCpp, readSource, sourceFiles } from "./source-files.mjs";

// C++ layers, and the layers each may include besides itself.
const below = ["native/core", "native/platform", "native/io", "kernels"];
export const nativeLayers = {
  kernels: [],
  "native/core": ["kernels"],
  "native/platform": ["native/core", "kernels"],
  "native/io": ["native/core", "native/platform", "kernels"],
  "native/ops": below,
  "native/model": ["native/ops", ...below],
  "native/engine": ["native/model", "native/ops", ...below],
  "native/addon": ["native/engine", "native/model", "native/ops", ...below],
};
// Files that stand above their folder.
const exceptions = {
  // The pool counts and names threads through the platform; its header needs nothing of it.
  "native/core/thread_pool.cpp": ["native/platform"],
};
// Programs over the layers; they may include everything but the binding, and only they include one another.
const programs = ["test", "bench"];

// Rooms of lib/ that the core of the library must not need, and the other outer rooms each may import.
export const outerRooms = { hub: [], server: ["hub"], cli: ["hub", "server"] };

// Run-time dependencies, and the one place of lib/ that imports each.
export const dependencies = {
  "node-gyp-build": /^lib\/native(\.ts|\/)/,
  "@huggingface/jinja": /^lib\/chat(\.ts|\/)/,
};
// Optional packages with the binaries of one platform, written out literally for bundlers.
const platformPackage = /^@inhouse\/[a-z0-9-]+$/;

// Headers that belong to one place.
const headerRooms = [
  {
    header: /^(napi|node_api|js_native_api|napi-inl)\.h$/,
    allowed: /^native\/addon\//,
    why: "Node-API is for native/addon alone",
  },
  { header: /^(node|v8|uv|nan)\.h$/, allowed: /^$/, why: "only Node-API is stable across Node versions" },
  {
    header:
      /^(cuda|cublas|cudnn|cufft|curand|nvrtc|nvml|nccl|cub\/|cutlass|cute\/|thrust\/|cooperative_groups|mma\.h)/,
    allowed: /^(kernels\/cuda\/|native\/ops\/cuda)/,
    why: "CUDA headers are for kernels/cuda and native/ops/cuda* alone",
  },
  {
    header:
      /^(windows|psapi|io|unistd|pthread|sched|dlfcn|fcntl|spawn|sys\/(mman|stat|types|resource|sysctl|syscall|sysinfo|auxv|time|file)|mach\/.*)\.h$/i,
    // The dispatch asks what an ARM processor can do, which only the system knows.
    allowed: /^native\/platform\/|^kernels\/cpu\/dispatch\.cpp$|^(test|bench)\//,
    why: "operating system headers are for native/platform alone",
  },
  {
    header: /^(iostream|print|cassert|assert\.h)$/,
    allowed: /^(test|bench)\//,
    why: "the core neither prints nor ends the process",
  },
];

// What the core (native/, kernels/) must not call. `x.name(`, `x->name(` and `x::name(` are something else's.
const call = (names) => new RegExp(String.raw`(?<![\w.:>])(?:std::|::)?(?:${names})\s*\(`);
const forbidden = [
  {
    pattern: call("abort|exit|_exit|_Exit|quick_exit|terminate|__builtin_trap|__builtin_abort|ExitProcess"),
    why: "nothing in the core ends the process: throw inhouse::Error",
  },
  { pattern: call("assert"), why: "nothing in the core ends the process: throw inhouse::Error" },
  {
    pattern: /\bstd::(?:abort|exit|quick_exit|_Exit|terminate)\b(?!\s*\()/,
    why: "nothing in the core ends the process: throw inhouse::Error",
  },
  {
    pattern: call("printf|vprintf|puts|putchar|perror"),
    why: "the core does not print: native/core logs to a callback",
  },
  {
    pattern: /\bstd::(?:w?cout|w?cerr|w?clog|print|println)\b|\b(?:stdout|stderr)\b/,
    why: "the core does not print",
  },
  {
    pattern:
      /\b(?:secure_getenv|getenv|_wgetenv|getenv_s|_dupenv_s|putenv|setenv|GetEnvironmentVariable[AW]?)\b|\benviron\b/,
    why: "the environment is read in lib/ and in test mains alone",
  },
];

const fastMath =
  /-f(?:fast-math|unsafe-math-optimizations|associative-math|finite-math-only|reciprocal-math)\b|-Ofast\b|\/fp:fast|--?use_fast_math|(?<!-f)"fast-math"|__attribute__\(\(optimize/;

/** C++ text with comments and the contents of literals blanked; line numbers stay. */
function stripCpp(source) {
  const pattern =
    /\/\/[^\n]*|\/\*[\s\S]*?\*\/|R"([^\s()\\]{0,16})\([\s\S]*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<![\w])'(?:\\.|[^'\\\n])+'/g;
  return source.replace(pattern, (match) => {
    const blank = match.replace(/[^\n]/g, " ");
    return match.startsWith("/") ? blank : `"${blank.slice(2)}"`;
  });
}

function lineOf(source, index) {
  let line = 1;
  for (let i = 0; i < index; ++i) if (source.charCodeAt(i) === 10) ++line;
  return line;
}

const nativeLayerOf = (path) =>
  Object.keys(nativeLayers).find((layer) => path.startsWith(`${layer}/`)) ??
  programs.find((folder) => path.startsWith(`${folder}/`));

function checkCpp(path, source, report) {
  const layer = nativeLayerOf(path);
  if (layer === undefined) {
    report(1, `is in no layer: one of ${Object.keys(nativeLayers).join(", ")}`);
    return;
  }
  const program = programs.includes(layer);
  const code = stripCpp(source);

  source.split("\n").forEach((text, index) => {
    const match = /^\s*#\s*include(?:_next)?\s*([<"])([^>"]+)[>"]/.exec(text);
    if (match === null || !/^\s*#/.test(code.split("\n", index + 1)[index])) return;
    const [, quote, header] = match;
    for (const room of headerRooms) {
      if (room.header.test(header) && !room.allowed.test(path))
        report(index + 1, `includes ${header}: ${room.why}`);
    }
    const target = nativeLayerOf(header);
    if (quote === '"' && target === undefined && !header.includes("/")) {
      if (!headerRooms.some((room) => room.header.test(header))) {
        report(index + 1, `includes "${header}": write the path from the repository's root`);
      }
    } else if (quote === '"' && target === undefined) {
      report(index + 1, `includes "${header}", which is in no layer`);
    } else if (target !== undefined && target !== layer) {
      const allowed = program
        ? target !== "native/addon"
        : nativeLayers[layer].includes(target) || (exceptions[path] ?? []).includes(target);
      if (!allowed) report(index + 1, `includes ${header}: ${layer} must not import ${target}`);
    }
  });

  if (program) return;
  code.split("\n").forEach((text, index) => {
    if (/^\s*#\s*include/.test(text)) return;
    for (const { pattern, why } of forbidden) {
      const match = pattern.exec(text);
      if (match !== null) report(index + 1, `uses ${match[0].replace(/\s*\($/, "()").trim()}: ${why}`);
    }
  });
}

/** Every module that a TypeScript file names, with the line and whether the import vanishes at compilation. */
function importsOf(path, source) {
  const file = ts.createSourceFile(path, source, ts.ScriptTarget.ES2022, true);
  const found = [];
  const add = (node, literal, typeOnly) => {
    if (literal === undefined || !ts.isStringLiteralLike(literal)) return;
    const { line } = file.getLineAndCharacterOfPosition(node.getStart(file));
    found.push({ line: line + 1, name: literal.text, typeOnly });
  };
  const visit = (node) => {
    if (ts.isImportDeclaration(node)) add(node, node.moduleSpecifier, node.importClause?.isTypeOnly ?? false);
    else if (ts.isExportDeclaration(node)) add(node, node.moduleSpecifier, node.isTypeOnly);
    else if (ts.isImportEqualsDeclaration(node) && ts.isExternalModuleReference(node.moduleReference)) {
      add(node, node.moduleReference.expression, node.isTypeOnly);
    } else if (ts.isImportTypeNode(node) && ts.isLiteralTypeNode(node.argument))
      add(node, node.argument.literal, true);
    else if (ts.isCallExpression(node)) {
      const callee = node.expression.getText(file);
      if (callee === "require" || callee === "require.resolve" || callee === "import")
        add(node, node.arguments[0], false);
    }
    ts.forEachChild(node, visit);
  };
  visit(file);
  return { found, file };
}

const builtins = new Set(builtinModules);
const roomOf = (path) => /^lib\/([^/.]+)/.exec(path)?.[1];

function checkLib(path, source, report) {
  const { found, file } = importsOf(path, source);
  const room = roomOf(path);
  for (const { line, name, typeOnly } of found) {
    if (name.startsWith(".")) {
      const target = posix.normalize(posix.join(posix.dirname(path), name));
      if (target === "package.json") continue;
      if (!target.startsWith("lib/")) {
        report(line, `imports ${name}: lib/ ships alone and imports nothing outside itself`);
        continue;
      }
      const other = roomOf(target);
      if (other in outerRooms && other !== room && !(outerRooms[room] ?? []).includes(other)) {
        report(
          line,
          `imports ${name}: ${room in outerRooms ? `lib/${room}` : "the core of lib/"} must not need lib/${other}`,
        );
      }
    } else if (name.startsWith("node:") || builtins.has(name)) {
      if (!name.startsWith("node:")) report(line, `imports ${name}: write node:${name}`);
    } else if (platformPackage.test(name)) {
      if (!dependencies["node-gyp-build"].test(path))
        report(line, `imports ${name}: only lib/native loads the addon`);
    } else if (!(name in dependencies)) {
      report(
        line,
        `imports ${name}: run-time dependencies are ${Object.keys(dependencies).join(" and ")} alone`,
      );
    } else if (!typeOnly && !dependencies[name].test(path)) {
      report(line, `imports ${name}: its place is ${dependencies[name].source.replace(/[\\^]|\(.*/g, "")}`);
    }
  }
  if (path === "lib/index.ts") {
    for (const statement of file.statements) {
      if (ts.isExportDeclaration(statement) && statement.moduleSpecifier !== undefined) continue;
      const { line } = file.getLineAndCharacterOfPosition(statement.getStart(file));
      report(line + 1, "lib/index.ts holds re-exports only");
    }
  }
}

const isBuildFile = (path) =>
  /(^|\/)CMakeLists\.txt$|\.cmake$|^CMakePresets\.json$|^scripts\/|^\.ci\//.test(path);

/**
 * @param {Map<string, string>} files texts by path relative to the repository's root
 * @returns {string[]} violations as `path:line: what is wrong`, in order
 */
export function check(files) {
  const violations = [];
  for (const [path, source] of files) {
    const report = (line, text) => violations.push(`${path}:${line}: ${text}`);
    if (isCpp(path)) checkCpp(path, source, report);
    else if (/^lib\/.*\.[cm]?tsx?$/.test(path)) checkLib(path, source, report);
    if (path === "package.json") {
      const found = Object.keys(JSON.parse(source).dependencies ?? {});
      for (const name of found) {
        if (!(name in dependencies))
          report(1, `depends on ${name}, which scripts/check-layers.mjs does not allow`);
      }
    }
    if ((isBuildFile(path) || isCpp(path)) && path !== "scripts/check-layers.mjs") {
      const match = fastMath.exec(source);
      if (match !== null)
        report(lineOf(source, match.index), `uses ${match[0]}: results must not depend on flags`);
    }
  }
  return violations;
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const files = new Map([...sourceFiles(), "package.json"].map((path) => [path, readSource(path)]));
  const violations = check(files);
  for (const violation of violations) console.error(violation);
  if (violations.length > 0) {
    console.error(
      `${violations.length} violations of the layers; docs/architecture.md says who may import what`,
    );
    process.exit(1);
  }
  console.log(`layers: ${files.size} files hold to them`);
}
