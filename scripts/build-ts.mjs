// Compiles lib/ to dist/ (CommonJS) and writes the ES-module entry over it: one instance for both.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { writeFileSync, chmodSync, existsSync, rmSync } from "node:fs";

const require = createRequire(import.meta.url);
rmSync("dist", { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", "."], { stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);

const names = Object.keys(require("../dist/index.js")).filter((name) => name !== "default");
writeFileSync("dist/index.mjs", `import inhouse from "./index.js";\nexport const { ${names.join(", ")} } = inhouse;\n`);
writeFileSync("dist/index.d.mts", `export * from "./index.js";\n`);
if (existsSync("dist/cli/main.js")) chmodSync("dist/cli/main.js", 0o755);
