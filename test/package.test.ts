import { spawn, spawnSync } from "node:child_process";
import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { basename, join, resolve } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { oldestGlibc as explained } from "../lib/native/explain.js";
import { platforms } from "../lib/native/platforms.js";
import { packMain } from "../scripts/packing/main.mjs";
import { serve } from "../scripts/packing/registry.mjs";
import { platformSbom } from "../scripts/packing/sbom.mjs";
import { buildEnvironment } from "../scripts/prebuilds/cmake.mjs";
import { makePackage, packFolder, writeChecksums } from "../scripts/prebuilds/packages.mjs";
import { oldestGlibc, targets } from "../scripts/prebuilds/targets.mjs";
import { builtAddon, platform } from "./support/installed.js";

interface Lock {
  packages: Record<string, { resolved?: string; dev?: boolean; link?: boolean; engines?: { node?: string } }>;
}
const lock = JSON.parse(readFileSync("package-lock.json", "utf8")) as Lock;
const manifest = JSON.parse(readFileSync("package.json", "utf8")) as {
  engines: { node: string };
  scripts: Record<string, string>;
  dependencies: Record<string, string>;
};

/** Whether a range of package.json's `engines` (alternatives of ^, >=, > and bare versions) admits a version. */
function admits(range: string, version: readonly number[]): boolean {
  const compare = (other: readonly number[]): number => {
    for (let i = 0; i < 3; ++i) if (version[i] !== (other[i] ?? 0)) return version[i] - (other[i] ?? 0);
    return 0;
  };
  const admitsOne = (comparator: string): boolean => {
    const match = /^(\^|>=|>|<|~)?(\d+)(?:\.(\d+|x|\*))?(?:\.(\d+|x|\*))?$/.exec(comparator);
    if (comparator === "*" || comparator === "") return true;
    if (match === null) throw new Error(`cannot read the range "${comparator}" of "${range}"`);
    const parts = match
      .slice(2)
      .filter((part) => /^\d+$/.test(part ?? ""))
      .map(Number);
    if (match[1] === ">=") return compare(parts) >= 0;
    if (match[1] === ">") return compare(parts) > 0;
    if (match[1] === "<") return compare(parts) < 0;
    const fixed = match[1] === "^" ? 1 : match[1] === "~" ? 2 : parts.length;
    return compare(parts) >= 0 && parts.slice(0, fixed).every((part, i) => part === version[i]);
  };
  return range.split("||").some((alternative) =>
    alternative
      .trim()
      .replace(/(\^|>=|>|<|~)\s+/g, "$1")
      .split(/\s+/)
      .every(admitsOne),
  );
}

const papers = ["CHANGELOG.md", "LICENSE", "README.md", "THIRD_PARTY.md", "package.json", "sbom.cdx.json"];

interface Sbom {
  serialNumber: string;
  metadata: { component: { purl: string } };
  components: {
    name: string;
    version?: string;
    scope: string;
    licenses: unknown[];
    hashes?: { content: string }[];
  }[];
}

describe("the packages", () => {
  let out: string;
  let tarballs: Record<"main" | "platform", string>;
  beforeAll(() => {
    out = mkdtempSync(join(tmpdir(), "inhouse-pack-"));
    tarballs = { main: packMain(out), platform: makePackage(platform, builtAddon, out) };
  });
  afterAll(() => rmSync(out, { recursive: true, force: true }));

  const list = (tarball: string) =>
    spawnSync("tar", ["-tzf", tarball], { encoding: "utf8" })
      .stdout.trim()
      .split("\n")
      .map((path) => path.replace("package/", ""))
      .sort();
  const read = (folder: string, name: string): unknown =>
    JSON.parse(readFileSync(join(out, "packages", folder, name), "utf8"));

  it("hold the built library or the addon with its papers, and nothing else", () => {
    const paths = list(tarballs.main);
    const isBuilt = (path: string) => /^dist\/[\w/-]+(\.d)?\.(js|ts|mjs|mts)$/.test(path);
    expect(paths.filter((path) => !isBuilt(path))).toEqual(papers);
    // Of each module its code and its types; no source, map, test or addon.
    const sources = readdirSync("lib", { recursive: true, encoding: "utf8" }).filter((path) =>
      path.endsWith(".ts"),
    );
    const modules = sources.map((path) => `dist/${path.replaceAll("\\", "/").slice(0, -3)}`);
    const wanted = [...modules, "dist/index.m", "dist/hub/index.m"].flatMap((path) =>
      path.endsWith(".m") ? [`${path}js`, `${path.slice(0, -1)}d.mts`] : [`${path}.js`, `${path}.d.ts`],
    );
    expect(paths.filter(isBuilt)).toEqual(wanted.sort());
    for (const path of ["index.js", "cli/main.js"])
      expect(readFileSync(join(out, "packages/inhouse/dist", path), "utf8")).not.toContain(
        "sourceMappingURL",
      );
    expect(list(tarballs.platform)).toEqual(
      ["inhouse.node", ...papers.filter((name) => name !== "CHANGELOG.md")].sort(),
    );
  });

  it("run nothing when they are installed", () => {
    for (const folder of ["inhouse", platform])
      expect(read(folder, "package.json")).not.toHaveProperty("scripts");
  });

  it("have one version, and each platform its package", () => {
    const main = read("inhouse", "package.json") as {
      version: string;
      optionalDependencies: Record<string, string>;
    };
    expect(main.optionalDependencies).toEqual(
      Object.fromEntries(platforms.map((name) => [`@inhouse/${name}`, main.version])),
    );
    expect(Object.keys(targets).sort()).toEqual([...platforms].sort());
    expect(oldestGlibc).toBe(explained);
    expect(read(platform, "package.json")).toMatchObject({
      name: `@inhouse/${platform}`,
      version: main.version,
      license: "Apache-2.0",
      os: [process.platform],
      cpu: [process.arch],
    });
    expect(readFileSync("CHANGELOG.md", "utf8")).toMatch(new RegExp(`^## \\[.*\\b${main.version}\\b`, "m"));
    expect(main).not.toHaveProperty("devDependencies");
  });

  it("say what they are made of, the same each time", () => {
    const main = read("inhouse", "sbom.cdx.json") as Sbom;
    expect(main).toMatchObject({ bomFormat: "CycloneDX", specVersion: "1.5" });
    expect(main.metadata.component.purl).toMatch(/^pkg:npm\/inhouse@\d/);
    const required = main.components.filter(({ scope }) => scope === "required").map(({ name }) => name);
    expect(required).toEqual([...Object.keys(manifest.dependencies), "Unicode Character Database"]);
    for (const { name, hashes } of main.components.slice(0, 2))
      expect(hashes?.[0].content, name).toMatch(/^[0-9a-f]{128}$/);
    const zigged = platformSbom(
      { name: "a", version: "1", license: "MIT" },
      { platform: "win32" },
      "0.17.1",
    ) as Sbom;
    const local = read(platform, "sbom.cdx.json") as Sbom;
    const notices = readFileSync("THIRD_PARTY.md", "utf8");
    for (const { name, licenses } of [...main.components, ...zigged.components, ...local.components]) {
      expect(licenses, name).toHaveLength(1);
      if (!name.startsWith("@inhouse/")) expect(notices).toContain(name);
    }
    const again = mkdtempSync(join(tmpdir(), "inhouse-again-"));
    try {
      expect(readFileSync(packMain(again))).toEqual(readFileSync(tarballs.main));
      expect(readFileSync(makePackage(platform, builtAddon, again))).toEqual(readFileSync(tarballs.platform));
    } finally {
      rmSync(again, { recursive: true, force: true });
    }
  });

  it("have checksums", () => {
    writeChecksums(out);
    const check = spawnSync("sha256sum", ["--check", "--strict", "SHA256SUMS"], {
      cwd: out,
      encoding: "utf8",
    });
    if (check.error === undefined)
      expect([check.status, check.stdout.match(/: OK$/gm)?.length]).toEqual([0, 2]);
    expect(readFileSync(join(out, "SHA256SUMS"), "utf8").split("\n")).toHaveLength(3);
  });

  it("work from their tarballs, without a build folder", () => {
    const folder = join(out, "project");
    const modules = join(folder, "node_modules");
    for (const [name, tarball] of [
      ["inhouse", tarballs.main],
      [`@inhouse/${platform}`, tarballs.platform],
    ]) {
      mkdirSync(join(modules, name), { recursive: true });
      const args = ["-xzf", tarball, "--strip-components=1", "-C", join(modules, name)];
      expect(spawnSync("tar", args).status).toBe(0);
    }
    mkdirSync(join(modules, "@huggingface"));
    for (const name of Object.keys(manifest.dependencies))
      symlinkSync(resolve("node_modules", name), join(modules, name), "junction");
    const args = [join(modules, "inhouse/dist/cli/main.js"), "inspect", resolve("package.json")];
    const { INHOUSE_PREBUILD: _, ...env } = process.env;
    const { stderr } = spawnSync(process.execPath, args, { cwd: folder, env, encoding: "utf8" });
    expect(stderr).toContain("ERR_INHOUSE_GGUF_MAGIC"); // the addon's own words
  });

  it("have scripts that npm runs for nothing else", () => {
    const names = Object.keys(manifest.scripts);
    expect(names.filter((name) => names.includes(`pre${name}`) || names.includes(`post${name}`))).toEqual([]);
  });

  it("are not made of the clone itself", () => {
    const { status, stderr } = spawnSync("npm", ["pack", "--dry-run"], {
      encoding: "utf8",
      shell: process.platform === "win32",
    });
    expect(status).not.toBe(0);
    expect(stderr).toContain("pack with npm run packages");
  });

  it("can be published only whole", { timeout: 120_000 }, async () => {
    const release = mkdtempSync(join(tmpdir(), "inhouse-release-"));
    const registry = await serve([]);
    const publish = () =>
      new Promise<{ lines: string[]; commands: string[] }>((done) => {
        const env = { ...process.env, npm_config_registry: registry.url };
        const child = spawn(process.execPath, ["scripts/publish.mjs", "--from", release], { env });
        let stdout = "";
        let stderr = "";
        child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
        child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
        child.on("close", () =>
          done({ lines: stderr.trim().split("\n"), commands: stdout.trim().split("\n") }),
        );
      });
    // What a release of this clone lacks, and a test cannot give it.
    const ours = /no clone|tree has changes|HEAD has no tag|CHANGELOG\.md has no section|names no repository/;
    const problems = ({ lines }: { lines: string[] }) =>
      lines.filter((line) => line !== "" && !ours.test(line));
    try {
      cpSync(tarballs.main, join(release, basename(tarballs.main)));
      writeChecksums(release);
      const missing = problems(await publish());
      expect(missing).toEqual(
        platforms.map((name) => expect.stringContaining(`inhouse-${name}-`) as string).sort(),
      );
      for (const name of platforms) makePackage(name, resolve("package.json"), release); // any file will do
      const unlisted = problems(await publish());
      expect(unlisted.every((line) => line.startsWith("not ready: SHA256SUMS does not have inhouse-"))).toBe(
        true,
      );
      expect(unlisted).toHaveLength(platforms.length);
      writeChecksums(release);
      const whole = await publish();
      expect(problems(whole)).toEqual([]);
      expect(whole.commands).toHaveLength(platforms.length + 1);
      for (const command of whole.commands)
        expect(command).toMatch(/^npm publish .* --dry-run .*--provenance/);
      expect(whole.commands.at(-1)).toContain(`/${basename(tarballs.main)}`); // the main package last

      // A platform's package of another commit, and a main package without that platform.
      const edit = (name: string, change: (manifest: Record<string, unknown>) => void) => {
        const folder = join(release, "packages", name);
        const path = join(folder, "package.json");
        const own = JSON.parse(readFileSync(path, "utf8")) as Record<string, unknown>;
        change(own);
        writeFileSync(path, JSON.stringify(own));
        packFolder(folder, release);
      };
      packMain(release);
      edit(platform, (own) => (own.gitHead = "another"));
      edit(
        "inhouse",
        (own) => delete (own.optionalDependencies as Record<string, string>)[`@inhouse/${platform}`],
      );
      writeChecksums(release);
      expect(problems(await publish())).toEqual([
        expect.stringContaining(`inhouse-${platform}-`) as string,
        expect.stringContaining("does not depend on the platforms of this version") as string,
      ]);
    } finally {
      registry.close();
      rmSync(release, { recursive: true, force: true });
    }
  });
});

describe("the package", () => {
  it("gives the store on its own, to both kinds of import, as one instance", () => {
    const script =
      'import * as hub from "inhouse/hub"; import { createRequire } from "node:module"; ' +
      'const same = createRequire(import.meta.url)("inhouse/hub"); ' +
      "console.log(hub.pull === same.pull, hub.knownModels[0].name, " +
      "hub.storeFolder().length > 0)";
    const run = spawnSync(process.execPath, ["--input-type=module", "-e", script], { encoding: "utf8" });
    expect([run.stderr, run.stdout]).toEqual(["", "true smollm2:135m true\n"]);
    expect(readFileSync("dist/hub/index.d.mts", "utf8")).toContain("./index.js");
  });

  it("has types that need no settings, beside @types/node", () => {
    const folder = mkdtempSync(resolve("build/types-"));
    try {
      writeFileSync(
        join(folder, "use.mts"),
        'import { loadModel, type ChatMessage, type LoadOptions } from "inhouse";\n' +
          'const messages: ChatMessage[] = [{ role: "user", content: "Hi" }];\n' +
          "export const answer = async (options: LoadOptions): Promise<string> => {\n" +
          '  const { chat } = await loadModel(new URL("file:///a.gguf"), options);\n' +
          "  const { text, textStream } = chat(messages, { signal: AbortSignal.timeout(5) });\n" +
          '  let all = "";\n' +
          "  for await (const piece of textStream()) all += piece;\n" +
          "  return all + (await text());\n" +
          "};\n",
      );
      const compiler = createRequire(import.meta.url).resolve("typescript/bin/tsc");
      const settings = "--ignoreConfig --noEmit --strict --target es2022 --lib es2022 --module node16".split(
        " ",
      );
      const run = spawnSync(process.execPath, [compiler, ...settings, join(folder, "use.mts")], {
        encoding: "utf8",
      });
      expect(run.stdout).toBe("");
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});

it("leaves compilers no options of the environment's when packages are built", () => {
  const env = { PATH: "/bin", CXX: "g++", CXXFLAGS: "-march=native", CPATH: "/opt", LDFLAGS: "-lm" };
  expect(buildEnvironment("/out", env)).toEqual({
    PATH: "/bin",
    CXX: "g++",
    ZIG_GLOBAL_CACHE_DIR: resolve(".cache/zig"),
    ZIG_LOCAL_CACHE_DIR: "/out/zig",
  });
});

it("says that the sanitized addon wants a compiler", () => {
  const env = { ...process.env, CXX: "no-such-compiler" };
  const args = ["scripts/test.mjs", "--sanitized-addon", "test/errors.test.ts"];
  const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^no-such-compiler has no libasan\.so: .*\n$/)]);
});

describe("the lock file", () => {
  it.each([".", "bench/peers", "test/install"])("in %s names no registry", (folder) => {
    expect(readFileSync(join(folder, "package-lock.json"), "utf8")).not.toMatch(/"resolved"/);
    expect(readFileSync(join(folder, ".npmrc"), "utf8")).not.toMatch(/registry\s*=|:\/\//);
  });

  it("holds only packages that run on the oldest Node this package supports", () => {
    const floor = [...manifest.engines.node.replace(">=", "").split(".").map(Number), 0];
    const tooNew = Object.entries(lock.packages)
      .filter(([, { engines }]) => engines?.node !== undefined && !admits(engines.node, floor))
      .map(([path, { engines }]) => `${path}: ${engines?.node}`);
    expect(tooNew).toEqual([]);
  });

  it("has few run-time dependencies", () => {
    const runtime = Object.entries(lock.packages).filter(([path, { dev }]) => path !== "" && dev !== true);
    expect(runtime.map(([path]) => path.replace("node_modules/", ""))).toEqual(
      Object.keys(manifest.dependencies),
    );
  });
});

it("reads engine ranges as npm does", () => {
  expect(admits("^20.19.0 || ^22.13.0 || >=24", [20, 19, 0])).toBe(true);
  expect(admits("^20.20.0 || >=22.12.0", [20, 19, 0])).toBe(false);
  expect(admits(">= 18", [20, 19, 0])).toBe(true);
  expect(admits("^22.0.0 || >=24.0.0", [20, 19, 0])).toBe(false);
  expect(admits(">=18 <20", [20, 19, 0])).toBe(false);
  expect(admits("20 || 22", [20, 19, 0])).toBe(true);
});
