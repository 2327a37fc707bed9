// Compiles lib/ to dist/ (CommonJS) and writes the ES-module entries over it: one instance for both.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { writeFileSync, chmodSync, existsSync, rmSync } from "node:fs";

const require = createRequire(import.meta.url);
rmSync("dist", { recursive: true, force: true });
const { status } = spawnSync(process.execPath, [require.resolve("typescript/bin/tsc"), "-p", "."], { stdio: "inherit" });
if (status !== 0) process.exit(status ?? 1);

for (const folder of ["dist", "dist/hub"]) {
  const names = Object.keys(require(`../${folder}/index.js`)).filter((name) => name !== "default");
  writeFileSync(
    `${folder}/index.mjs`,
    `import inhouse from "./index.js";\nexport const { ${names.join(", ")} } = inhouse;\n`,
  );
  writeFileSync(`${folder}/index.d.mts`, `export * from "./index.js";\n`);
}
if (existsSync("dist/cli/main.js")) chmodSync("dist/cli/main.js", 0o755);
