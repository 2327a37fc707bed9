import { describe, expect, it } from "vitest";
import { check } from "../scripts/check-layers.mjs";
import { readSource, sourceFiles } from "../scripts/source-files.mjs";

const violationsOf = (path: string, source: string): string[] => check(new Map([[path, source]]));

describe("the layering check finds", () => {
  // [what, path, source, line of the violation, words of its message]
  const bad: [string, string, string, number, string][] = [
    [
      "kernels including native",
      "kernels/cpu/a.cpp",
      '#include "native/core/error.h"\n',
      1,
      "must not import",
    ],
    [
      "ops including model",
      "native/ops/cpu.cpp",
      '\n#include "native/model/model.h"\n',
      2,
      "must not import native/model",
    ],
    ["model including engine", "native/model/a.h", '#include "native/engine/engine.h"', 1, "must not import"],
    ["engine including addon", "native/engine/a.h", '#include "native/addon/addon.h"', 1, "must not import"],
    ["core including io", "native/core/a.h", '#include "native/io/gguf.h"', 1, "must not import native/io"],
    ["core including platform", "native/core/a.h", "#include <native/platform/file.h>", 1, "must not import"],
    ["platform including io", "native/platform/a.cpp", '#  include "native/io/gguf.h"', 1, "must not import"],
    ["io including ops", "native/io/a.cpp", '#include "native/ops/backend.h"', 1, "must not import"],
    [
      "code including tests",
      "native/core/a.cpp",
      '#include "test/native/check.h"',
      1,
      "must not import test",
    ],
    ["tests including the binding", "test/native/a.cpp", '#include "native/addon/a.h"', 1, "must not import"],
    [
      "a path from the file's folder",
      "native/core/a.cpp",
      '#include "error.h"',
      1,
      "from the repository's root",
    ],
    ["a path through ..", "native/core/a.cpp", '#include "../io/gguf.h"', 1, "in no layer"],
    ["a file outside of the layers", "native/misc/a.cpp", "", 1, "in no layer"],
    ["napi.h outside the binding", "native/engine/a.cpp", "#include <napi.h>", 1, "native/addon alone"],
    ["node_api.h outside the binding", "native/core/a.h", "#include <node_api.h>", 1, "native/addon alone"],
    ["libuv in the binding", "native/addon/a.cpp", "#include <uv.h>", 1, "only Node-API"],
    ["CUDA in a CPU kernel", "kernels/cpu/a.cpp", "#include <cuda_fp16.h>", 1, "CUDA headers"],
    ["CUDA in the engine", "native/engine/a.cpp", "#include <cuda.h>", 1, "CUDA headers"],
    ["mmap outside platform", "native/io/a.cpp", "#include <sys/mman.h>", 1, "native/platform alone"],
    ["windows.h outside platform", "native/core/a.cpp", "#include <windows.h>", 1, "native/platform alone"],
    ["iostream", "native/core/a.cpp", "#include <iostream>", 1, "neither prints"],
    ["getenv", "native/core/a.cpp", 'int f() {\n  return getenv("HOME") != nullptr; }', 2, "environment"],
    ["std::getenv", "kernels/cpu/a.cpp", 'auto x = std::getenv("X");', 1, "environment"],
    ["abort", "native/core/a.cpp", "void f() { abort(); }", 1, "ends the process"],
    ["::abort", "native/core/a.cpp", "void f() { ::abort (); }", 1, "ends the process"],
    ["std::exit", "native/core/a.cpp", "void f() { std::exit(1); }", 1, "ends the process"],
    ["a pointer to std::terminate", "native/core/a.cpp", "auto f = &std::terminate;", 1, "ends the process"],
    ["assert", "kernels/cpu/a.h", "void f(int x) { assert(x > 0); }", 1, "ends the process"],
    ["printf", "native/engine/a.cpp", 'void f() { printf("x"); }', 1, "does not print"],
    ["fprintf to stderr", "native/engine/a.cpp", 'void f() { fprintf(stderr, "x"); }', 1, "does not print"],
    ["std::cout", "native/engine/a.cpp", "void f() { std::cout << 1; }", 1, "does not print"],
    [
      "code after a comment",
      "native/core/a.cpp",
      "/* a\n */ int x = 1; // b\nvoid f() { abort(); }",
      3,
      "ends",
    ],
    [
      "code after a quote in a literal",
      "native/core/a.cpp",
      "char c = '\"'; void f() { abort(); }",
      1,
      "ends",
    ],
    ["-ffast-math in CMake", "CMakeLists.txt", "\nadd_compile_options(-ffast-math)", 2, "-ffast-math"],
    ["fast math in a pragma", "kernels/a.cpp", '#pragma GCC optimize("fast-math")', 1, "fast-math"],
    ["-Ofast in a script", "scripts/build.mjs", 'const flags = "-Ofast";', 1, "-Ofast"],
    [
      "the core needing the store",
      "lib/model.ts",
      'import { pull } from "./hub/pull.js";',
      1,
      "must not need lib/hub",
    ],
    [
      "types of the server in the core",
      "lib/index.ts",
      'export type { S } from "./server/s.js";',
      1,
      "must not need",
    ],
    [
      "the tokenizer needing the CLI",
      "lib/tokenizer/bpe.ts",
      'import "../cli/main.js";',
      1,
      "must not need lib/cli",
    ],
    [
      "a lazy import of the server",
      "lib/generate.ts",
      'const s = () => import("./server/s.js");',
      1,
      "must not need",
    ],
    [
      "the store needing the CLI",
      "lib/hub/pull.ts",
      'import { bar } from "../cli/bar.js";',
      1,
      "must not need lib/cli",
    ],
    ["an unknown dependency", "lib/model.ts", 'import lodash from "lodash";', 1, "run-time dependencies"],
    [
      "types of an unknown dependency",
      "lib/model.ts",
      'import type { A } from "vitest";',
      1,
      "run-time dependencies",
    ],
    [
      "require of an unknown dependency",
      "lib/a.ts",
      '\nconst a = require("ws");',
      2,
      "run-time dependencies",
    ],
    [
      "import = of an unknown dependency",
      "lib/a.ts",
      'import a = require("ws");',
      1,
      "run-time dependencies",
    ],
    ["an import() type", "lib/a.ts", 'let a: import("vitest").Mock;', 1, "run-time dependencies"],
    ["a builtin without node:", "lib/a.ts", 'import fs from "fs";', 1, "write node:fs"],
    [
      "the addon loaded elsewhere",
      "lib/model.ts",
      'import load from "node-gyp-build";',
      1,
      "its place is lib/native",
    ],
    [
      "the template engine elsewhere",
      "lib/cli/a.ts",
      'import { T } from "@huggingface/jinja";',
      1,
      "lib/chat",
    ],
    [
      "a path out of lib",
      "lib/cli/a.ts",
      'import x from "../../scripts/x.mjs";',
      1,
      "nothing outside itself",
    ],
    [
      "code in lib/index.ts",
      "lib/index.ts",
      'export { a } from "./a.js";\nexport const b = 1;',
      2,
      "re-exports only",
    ],
    [
      "a dependency too many",
      "package.json",
      '{ "dependencies": { "left-pad": "1" } }',
      1,
      "depends on left-pad",
    ],
  ];
  it.each(bad)("%s", (_what, path, source, line, words) => {
    const violations = violationsOf(path, source);
    expect(violations).toHaveLength(1);
    expect(violations[0]).toMatch(new RegExp(`^${path}:${line}: `));
    expect(violations[0]).toContain(words);
  });
});

describe("the layering check accepts", () => {
  const good: [string, string, string][] = [
    [
      "imports that point down",
      "native/engine/a.cpp",
      '#include "native/model/model.h"\n#include "kernels/kernels.h"',
    ],
    ["a layer's own headers", "native/io/a.cpp", '#include "native/io/gguf.h"'],
    ["the thread pool's exception", "native/core/thread_pool.cpp", '#include "native/platform/processors.h"'],
    ["napi.h in the binding", "native/addon/a.cpp", "#include <napi.h>"],
    ["CUDA in its two rooms", "kernels/cuda/a.cu", "#include <cuda_runtime.h>"],
    ["CUDA in its backend", "native/ops/cuda_backend.cpp", "#include <cuda.h>"],
    ["mmap in platform", "native/platform/file_posix.cpp", "#include <sys/mman.h>"],
    [
      "static_assert and snprintf",
      "native/core/a.cpp",
      'static_assert(true); int f() { snprintf(b, 1, "x"); }',
    ],
    [
      "words in comments",
      "native/core/a.cpp",
      "// abort() and printf() are forbidden, also #include <napi.h>\n/* exit(1) */",
    ],
    ["an include in a comment", "native/core/a.cpp", "/*\n#include <napi.h>\n*/"],
    [
      "words in literals",
      "native/core/a.cpp",
      'const char* s = "abort() \\" exit(1)"; auto r = R"x(getenv(")x";',
    ],
    [
      "methods of the same name",
      "native/engine/a.cpp",
      "void f() { r.abort(); q->exit(); Request::abort(r); reabort(); }",
    ],
    ["digit separators", "native/core/a.cpp", "int64_t a = 1'000'000; int b = 2;"],
    [
      "test mains that read and print",
      "test/native/a.cpp",
      '#include <cstdio>\nint main() { printf("%s", getenv("A")); }',
    ],
    [
      "the CLI needing everything",
      "lib/cli/a.ts",
      'import "../hub/a.js"; import "../server/a.js"; import "../model.js";',
    ],
    ["builtins", "lib/a.ts", 'import { readFile } from "node:fs/promises";'],
    [
      "the addon's loader",
      "lib/native.ts",
      'import load = require("node-gyp-build");\nrequire("@inhouse/linux-x64");',
    ],
    [
      "the template engine in its room",
      "lib/chat/template.ts",
      'import { Template } from "@huggingface/jinja";',
    ],
    [
      "the manifest",
      "lib/cli/a.ts",
      'const { version } = require("../../package.json") as { version: string };',
    ],
  ];
  it.each(good)("%s", (_what, path, source) => {
    expect(violationsOf(path, source)).toEqual([]);
  });
});

it("the repository holds to its layers", () => {
  const files = new Map([...sourceFiles(), "package.json"].map((path) => [path, readSource(path)]));
  expect([...files.keys()]).toEqual(
    expect.arrayContaining(["lib/index.ts", "native/core/error.cpp", "CMakeLists.txt"]),
  );
  expect(check(files)).toEqual([]);
});
