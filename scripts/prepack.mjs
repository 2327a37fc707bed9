// Before `npm pack`: puts the addon where the package has it, in prebuilds/ under the platform it was built for, so that
// the tarball works on machines of the same kind without a compiler.
import { copyFileSync, existsSync, mkdirSync } from "node:fs";

const addon = "build/Release/inhouse.node";
const folder = `prebuilds/${process.platform}-${process.arch}`;
for (const [path, script] of [
  [addon, "build:addon"],
  ["dist/index.mjs", "build:ts"],
]) {
  if (existsSync(path)) continue;
  console.error(`${path} is missing: npm run ${script} makes it`);
  process.exit(1);
}
mkdirSync(folder, { recursive: true });
copyFileSync(addon, `${folder}/inhouse.node`);
