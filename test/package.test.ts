import { spawnSync } from "node:child_process";
import {
  existsSync,
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
import { join, resolve } from "node:path";
import { describe, expect, it } from "vitest";

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

describe("the package", () => {
  const { stdout, status } = spawnSync("npm", ["pack", "--dry-run", "--json", "--ignore-scripts"], {
    encoding: "utf8",
    shell: process.platform === "win32",
  });

  it("holds the built library and its papers, and nothing else", () => {
    expect(status).toBe(0);
    const parsed: unknown = JSON.parse(stdout);
    // npm 11 prints a list, later versions an object by name.
    const packed = Object.values(parsed as Record<string, { files: { path: string }[] }>)[0];
    const paths = packed.files.map(({ path }) => path);
    expect(paths).toEqual(
      expect.arrayContaining([
        "package.json",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
        "dist/index.js",
        "dist/index.d.ts",
      ]),
    );
    expect(paths).toEqual(expect.arrayContaining(["dist/index.mjs", "dist/index.d.mts"]));
    const papers = new Set(["package.json", "README.md", "CHANGELOG.md", "LICENSE"]);
    expect(paths.filter((path) => !papers.has(path) && !/^(dist|prebuilds)\//.test(path))).toEqual([]);
    expect(paths.filter((path) => /\.(gguf|tsbuildinfo|test\.js)$/.test(path))).toEqual([]);
  });

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

  it("works from its tarball, without a build folder", () => {
    const folder = mkdtempSync(join(tmpdir(), "inhouse-pack-"));
    const run = (command: string, ...args: string[]) =>
      spawnSync(command, args, { cwd: folder, encoding: "utf8", shell: process.platform === "win32" });
    try {
      // The scripts around `npm pack`, but for the builds, which other tests' dist/ would not survive.
      const stage = (...args: string[]) =>
        expect(spawnSync(process.execPath, ["scripts/prepack.mjs", ...args]).status).toBe(0);
      stage();
      const pack = run("npm", "pack", resolve("."), "--pack-destination", folder, "--ignore-scripts");
      stage("--undo");
      expect(pack.stderr).not.toContain("npm error");
      expect(existsSync(`prebuilds/${process.platform}-${process.arch}`)).toBe(false);
      const [tarball] = readdirSync(folder);
      expect(run("tar", "-xzf", tarball).status).toBe(0);
      mkdirSync(join(folder, "package/node_modules/@huggingface"), { recursive: true });
      for (const name of Object.keys(manifest.dependencies))
        symlinkSync(resolve("node_modules", name), join(folder, "package/node_modules", name), "junction");
      const inspect = run(process.execPath, "package/dist/cli/main.js", "inspect", resolve("package.json"));
      expect(inspect.stderr).toContain("ERR_INHOUSE_GGUF_MAGIC"); // the addon's own words

      if (process.platform !== "linux") return;
      const find = 'console.log(require("node-gyp-build").path("."))';
      const found = ["glibc", "musl"].filter((LIBC) => {
        const env = { ...process.env, LIBC };
        return spawnSync(process.execPath, ["-e", find], { cwd: join(folder, "package"), env }).status === 0;
      });
      expect(found).toHaveLength(1); // not another C library's
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });

  it("is built before it is packed, and leaves the clone as it was", () => {
    expect(manifest.scripts.prepack).toMatch(/build:addon && .*build:ts && .*prepack/);
    expect(manifest.scripts.postpack).toContain("--undo");
  });

  it("runs nothing when it is installed", () => {
    const hooks = [
      "preinstall",
      "install",
      "postinstall",
      "prepublish",
      "prepare",
      "preprepare",
      "postprepare",
    ];
    expect(Object.keys(manifest.scripts).filter((name) => hooks.includes(name))).toEqual([]);
  });
});

it("says that the sanitized addon wants a compiler", () => {
  const env = { ...process.env, CXX: "no-such-compiler" };
  const args = ["scripts/test.mjs", "--sanitized-addon", "test/errors.test.ts"];
  const { status, stderr } = spawnSync(process.execPath, args, { env, encoding: "utf8" });
  expect([status, stderr]).toEqual([1, expect.stringMatching(/^no-such-compiler has no libasan\.so: .*\n$/)]);
});

describe("the lock file", () => {
  it("names no registry", () => {
    for (const path of ["package-lock.json", "bench/peers/package-lock.json"]) {
      expect(readFileSync(path, "utf8")).not.toMatch(/"resolved"/);
    }
    expect(readFileSync(".npmrc", "utf8")).not.toMatch(/registry\s*=|:\/\//);
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
