// Builds the addon, the core and its C++ tests into build/ with cmake-js.
//
//   node scripts/build-native.mjs --addon       the addon alone
//   node scripts/build-native.mjs --sanitize    the addon alone with AddressSanitizer and UndefinedBehaviorSanitizer,
//                                               into build-asan-addon/, where INHOUSE_PREBUILD finds it
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";

const { values: options } = parseArgs({ options: { addon: { type: "boolean" }, sanitize: { type: "boolean" } } });
const kind = options.sanitize
  ? ["--out", "build-asan-addon/build", "--config", "RelWithDebInfo", "--CDINHOUSE_SANITIZE=address,undefined"]
  : ["--CDINHOUSE_TESTS=ON"];
const cmakeJs = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
const target = options.addon ? ["--target", "inhouse"] : [];
const args = [cmakeJs, "build", ...kind, ...target, "--parallel", String(availableParallelism())];
const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
process.exit(status ?? 1);
