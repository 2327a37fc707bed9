// Builds the addon, the core and its C++ tests into build/ with cmake-js, or with `--target inhouse` the addon alone.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { availableParallelism } from "node:os";

const cmakeJs = createRequire(import.meta.url).resolve("cmake-js/bin/cmake-js");
const args = [cmakeJs, "build", "--CDINHOUSE_TESTS=ON", "--parallel", String(availableParallelism())];
args.push(...process.argv.slice(2));
const { status } = spawnSync(process.execPath, args, { stdio: "inherit" });
process.exit(status ?? 1);
