// Writes what native/addon/host_functions.cpp includes: X(name) for each function of the Node-API version in
// package.json's `binary`.
//
//   node scripts/node-api-names.mjs FILE
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname } from "node:path";
import { symbols } from "node-api-headers";

const { binary } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const { js_native_api_symbols: language, node_api_symbols: node } = symbols[`v${binary.napi_versions[0]}`];
const [, , path] = process.argv;
mkdirSync(dirname(path), { recursive: true });
writeFileSync(path, [...language, ...node].map((name) => `X(${name})\n`).join(""));
