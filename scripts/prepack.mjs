// Around `npm pack`: puts the addon where a package has it, in prebuilds/ under the platform and the C library it was
// built for, so that the tarball works on machines of the same kind without a compiler. `--undo` takes it away again: it
// would be loaded in place of a build folder that is missing. What stands there for other platforms stays.
import { copyFileSync, mkdirSync, rmSync } from "node:fs";

const folder = `prebuilds/${process.platform}-${process.arch}`;
rmSync(folder, { recursive: true, force: true });
if (!process.argv.includes("--undo")) {
  const glibc = process.report.getReport().header.glibcVersionRuntime !== undefined;
  const tag = process.platform !== "linux" ? "" : glibc ? ".glibc" : ".musl";
  mkdirSync(folder, { recursive: true });
  copyFileSync("build/Release/inhouse.node", `${folder}/inhouse${tag}.node`);
}
