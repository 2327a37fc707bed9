// `npm run packages`: the packages as they are published, of dist/ and the binaries as they stand.
//
//   node scripts/pack.mjs           the main package, into build-prebuilds/, where `npm run prebuilds` puts the platforms'
//   node scripts/pack.mjs --local   the main package and this machine's platform alone, from build/Release, into
//                                   build-local/: for projects on machines of the same kind
//
// Each tarball has its SHA-256 in SHA256SUMS beside it.
import { existsSync, mkdirSync, readdirSync } from "node:fs";
import { join, relative } from "node:path";
import { parseArgs } from "node:util";
import { platformName } from "../dist/native/platforms.js";
import { packMain } from "./packing/main.mjs";
import { makePackage, writeChecksums } from "./prebuilds/packages.mjs";
import { root } from "./source-files.mjs";

const { values } = parseArgs({ options: { local: { type: "boolean" } } });
const out = join(root, values.local ? "build-local" : "build-prebuilds");
mkdirSync(out, { recursive: true });
try {
  const tarballs = [packMain(out)];
  if (values.local) {
    const binary = join(root, "build/Release/inhouse.node");
    if (!existsSync(binary)) throw new Error(`${binary} is missing: npm run build:addon`);
    tarballs.push(makePackage(platformName(), binary, out));
  }
  writeChecksums(out);
  const others = readdirSync(out).some((name) => /^inhouse-(linux|darwin|win32)-.*\.tgz$/.test(name));
  if (!others) console.error("no platform's package stands beside it: npm run prebuilds makes them");
  for (const path of tarballs) console.log(relative(process.cwd(), path));
} catch (error) {
  console.error(error.message);
  process.exitCode = 1;
}
