// Writes what native/addon/host_functions.cpp includes: X(name) for each function of the Node-API version in
// package.json's `binary`.
//
//   node scripts/node-api-names.mjs FILE
import { readFileSync, writeFileSync } from "node:fs";
import { symbols } from "node-api-headers";

const { binary } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
const { js_native_api_symbols: language, node_api_symbols: node } = symbols[`v${binary.napi_versions[0]}`];
writeFileSync(process.argv[2], [...language, ...node].map((name) => `X(${name})\n`).join(""));
