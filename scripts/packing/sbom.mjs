// The list of what a package is made of, as CycloneDX 1.5. The same inputs give the same bytes.
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { root } from "../source-files.mjs";

const read = (path) => JSON.parse(readFileSync(join(root, path), "utf8"));

const licences = (id) => [id.includes(" ") ? { expression: id } : { license: { id } }];
const purl = (name, version) => `pkg:npm/${name.replace("@", "%40")}@${version}`;

/** A package of npm's, as the lock file has it. */
function fromLock(name, scope) {
  const { version, license, integrity } = read("package-lock.json").packages[`node_modules/${name}`];
  const [algorithm, hash] = integrity.split(/-(.*)/);
  const content = Buffer.from(hash, "base64").toString("hex");
  return {
    type: "library",
    "bom-ref": `${name}@${version}`,
    name,
    version,
    scope,
    hashes: [{ alg: algorithm.replace("sha", "SHA-"), content }],
    licenses: licences(license),
    purl: purl(name, version),
  };
}

function component(type, name, version, licence, description) {
  const id = version === undefined ? name : `${name}@${version}`;
  return {
    type,
    "bom-ref": id,
    name,
    ...(version === undefined ? {} : { version }),
    scope: "required",
    description,
    licenses: licences(licence),
  };
}

function document(subject, components) {
  const { name, version, description, license } = subject;
  const ref = `${name}@${version}`;
  const content = {
    metadata: {
      lifecycles: [{ phase: "build" }],
      component: {
        type: "library",
        "bom-ref": ref,
        name,
        version,
        description,
        licenses: licences(license),
        purl: purl(name, version),
      },
    },
    components,
    dependencies: [
      { ref, dependsOn: components.map((part) => part["bom-ref"]) },
      ...components.map((part) => ({ ref: part["bom-ref"], dependsOn: [] })),
    ],
  };
  const digest = createHash("sha256").update(JSON.stringify(content)).digest("hex");
  // A name-based UUID (version 8: of one's own making).
  const uuid = `${digest.slice(0, 8)}-${digest.slice(8, 12)}-8${digest.slice(13, 16)}-8${digest.slice(17, 20)}-${digest.slice(20, 32)}`;
  return {
    $schema: "http://cyclonedx.org/schema/bom-1.5.schema.json",
    bomFormat: "CycloneDX",
    specVersion: "1.5",
    serialNumber: `urn:uuid:${uuid}`,
    version: 1,
    ...content,
  };
}

/** Of the main package, whose manifest is given as it is published. */
export function mainSbom(manifest) {
  const unicode = /unicodeVersion = "([\d.]+)"/.exec(
    readFileSync(join(root, "lib/tokenizer/unicode-data.ts"), "utf8"),
  )[1];
  const platforms = Object.entries(manifest.optionalDependencies).map(([name, version]) => ({
    type: "library",
    "bom-ref": `${name}@${version}`,
    name,
    version,
    scope: "optional",
    licenses: licences(manifest.license),
    purl: purl(name, version),
  }));
  return document(manifest, [
    ...Object.keys(manifest.dependencies).map((name) => fromLock(name, "required")),
    ...platforms,
    component(
      "data",
      "Unicode Character Database",
      unicode,
      "Unicode-3.0",
      "Classes of characters in dist/tokenizer.",
    ),
  ]);
}

/**
 * Of a platform's package.
 * @param {object} manifest the package's
 * @param {object} target of scripts/prebuilds/targets.mjs
 * @param {string} [zig] the version of the compiler that linked it; undefined: g++
 */
export function platformSbom(manifest, target, zig) {
  const library = (name, licence) => component("library", name, undefined, licence, "Linked statically.");
  const runtime =
    zig === undefined
      ? [
          library("libstdc++", "GPL-3.0-only WITH GCC-exception-3.1"),
          library("libgcc", "GPL-3.0-only WITH GCC-exception-3.1"),
        ]
      : [
          component(
            "library",
            "libc++, libc++abi, libunwind",
            `zig ${zig}`,
            "Apache-2.0 WITH LLVM-exception",
            "Linked statically.",
          ),
          component("library", "compiler_rt", `zig ${zig}`, "MIT", "Linked statically."),
          ...(target.platform === "win32"
            ? [component("library", "mingw-w64", `zig ${zig}`, "ZPL-2.1", "Linked statically.")]
            : []),
        ];
  return document(manifest, [
    fromLock("node-addon-api", "required"),
    fromLock("node-api-headers", "required"),
    component(
      "data",
      "grids of the IQ tensor types",
      undefined,
      "MIT",
      "Tables of ggml's gguf, compiled in.",
    ),
    ...runtime,
  ]);
}
