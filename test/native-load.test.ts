// Finding and loading the addon, and what is said where that fails: child processes over installed packages.
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { compileFunction } from "node:vm";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { explain } from "../lib/native/explain.js";
import { isOlder } from "../lib/native/manifest.js";
import { libc, platformName, platforms } from "../lib/native/platforms.js";
import { builtAddon, install, type Installation, platform } from "./support/installed.js";
import { modelPath, smollm2 } from "./support/models.js";

const linux = process.platform === "linux";
const newerPermission = !isOlder(process.versions.node, "22.13");
const permission = newerPermission ? "--permission" : "--experimental-permission";

// Each test says itself where to look.
delete process.env.INHOUSE_PREBUILD;
delete process.env.NODE_OPTIONS;

let base: string;
beforeAll(() => {
  base = mkdtempSync(join(realpathSync(tmpdir()), "inhouse-load-"));
});
afterAll(() => rmSync(base, { recursive: true, force: true }));

let count = 0;
function installed(what?: Installation): string {
  const folder = join(base, String(count++));
  mkdirSync(folder);
  install(folder, what);
  return folder;
}

interface Options {
  flags?: string[];
  env?: Record<string, string>;
  /** Runs before the package is required. */
  first?: string;
  /** Before node, on the command line. */
  wrapper?: string[];
}

/** What readHeader of a file that is none rejects with: "CODE message". The native part says MAGIC where it is loaded. */
function attempt(folder: string, { flags = [], env = {}, first = "", wrapper = [] }: Options = {}): string {
  const script =
    `${first}; const { readHeader } = require("inhouse");` +
    'readHeader("package.json").catch((error) => console.log(error.code, error.message));';
  writeFileSync(join(folder, "package.json"), "{}  ");
  const [command, ...args] = [...wrapper, process.execPath, ...flags, "-e", script];
  const { stdout, stderr } = spawnSync(command, args, {
    cwd: folder,
    env: { ...process.env, NODE_NO_WARNINGS: "1", ...env },
    encoding: "utf8",
  });
  expect(stderr).toBe("");
  return stdout.trim();
}

const works = /^ERR_INHOUSE_GGUF_MAGIC /;
const fails = (...parts: (string | RegExp)[]) =>
  expect.toSatisfy(
    (text: string) => {
      const rest = parts.map((part) => (typeof part === "string" ? text.includes(part) : part.test(text)));
      return text.startsWith("ERR_INHOUSE_NATIVE_LOAD the native part of inhouse") && !rest.includes(false);
    },
    `says ${parts.join(", ")}`,
  ) as unknown;

describe("the addon is loaded", () => {
  it("from this platform's package", () => {
    expect(attempt(installed())).toMatch(works);
  });

  it("from a local build first", () => {
    const folder = installed({ platforms: { [platform]: join(import.meta.dirname, "native-load.test.ts") } });
    expect(attempt(folder, { env: { INHOUSE_PREBUILD: join(import.meta.dirname, "..") } })).toMatch(works);
    const builds = join(folder, "node_modules/inhouse/build/Release");
    mkdirSync(builds, { recursive: true });
    symlinkSync(builtAddon, join(builds, "inhouse.node"));
    expect(attempt(folder)).toMatch(works);
  });

  it("from its package, whatever addons other packages have beside the program", () => {
    const folder = installed();
    const others = join(folder, "prebuilds", `${process.platform}-${process.arch}`);
    mkdirSync(others, { recursive: true });
    symlinkSync(import.meta.filename, join(others, "leveldown.node"));
    const first = `process.execPath = ${JSON.stringify(join(folder, "program"))}`;
    expect(attempt(folder, { first })).toMatch(works);
  });

  it("from its package, whatever addon the program has whose bundle it is in", () => {
    const folder = installed();
    const builds = join(folder, "build/Release");
    mkdirSync(builds, { recursive: true });
    symlinkSync(import.meta.filename, join(builds, "app.node"));
    writeFileSync(join(folder, "package.json"), '{ "name": "app" }');
    const script = `
      const { load } = require("./node_modules/inhouse/dist/native/load.js");
      console.log(load(process.cwd()).package);`;
    const bundle = (env: Record<string, string>) =>
      spawnSync(process.execPath, ["-e", script], {
        cwd: folder,
        env: { ...process.env, ...env },
        encoding: "utf8",
      }).stdout;
    expect(bundle({ APP_PREBUILD: folder })).toBe(`@inhouse/${platform}\n`);
    expect(bundle({ INHOUSE_PREBUILD: join(import.meta.dirname, "..") })).toBe("undefined\n");
  });

  it.runIf(linux)("from the package for this C library where both are installed", () => {
    const other = platform.endsWith("-musl") ? platform.slice(0, -5) : `${platform}-musl`;
    expect(attempt(installed({ platforms: { [platform]: builtAddon, [other]: null } }))).toMatch(works);
  });

  it("only when it is needed", () => {
    const flags = ["--no-addons", "-e", 'console.log(typeof require("inhouse").loadModel)'];
    const run = spawnSync(process.execPath, flags, { cwd: installed({ platforms: {} }), encoding: "utf8" });
    expect(run).toMatchObject({ stdout: "function\n", stderr: "" });
  });

  it("and works on any processor of its kind, without vector instructions", () => {
    const script =
      'require("inhouse").loadModel(process.argv[1], { instructionSet: "baseline" }).then(async (model) => {' +
      'const answer = model.complete("The capital of France is", { maxTokens: 4, temperature: 0 });' +
      "console.log(model.info.deviceDescription, await answer.text()); await model.dispose(); });";
    const run = spawnSync(process.execPath, ["-e", script, modelPath(smollm2)], {
      cwd: installed(),
      encoding: "utf8",
    });
    expect(run).toMatchObject({
      stdout: expect.stringMatching(/^cpu \(no vector extension\).* Paris/),
      stderr: "",
    });
  });
});

describe("a load that fails says what was found and what mends it:", () => {
  it("no platform package", () => {
    expect(attempt(installed({ platforms: {} }))).toEqual(
      fails("looked in build/Release", `package @inhouse/${platform}`, "npm install --include=optional"),
    );
  });

  it("a package for another system", () => {
    const other = linux ? "darwin-arm64" : "linux-x64";
    expect(attempt(installed({ platforms: { [other]: null } }))).toEqual(
      fails(
        `but @inhouse/${other}, so node_modules or the lock file came from another system`,
        "delete node_modules and package-lock.json",
      ),
    );
  });

  it.runIf(linux)("a package for another C library", () => {
    const other = platform.endsWith("-musl") ? platform.slice(0, -5) : `${platform}-musl`;
    expect(attempt(installed({ platforms: { [other]: null } }))).toEqual(
      fails(`but @inhouse/${other}, which is for another C library`, "delete node_modules"),
    );
  });

  it("a package without its addon", () => {
    expect(attempt(installed({ platforms: { [platform]: null } }))).toEqual(
      fails("without its inhouse.node", "npm install"),
    );
  });

  it("a damaged addon", () => {
    const text = join(import.meta.dirname, "native-load.test.ts");
    expect(attempt(installed({ platforms: { [platform]: text } }))).toEqual(
      fails("inhouse.node, which could not be loaded: ", "it may be damaged", "npm install"),
    );
  });

  it("an addon of another version", () => {
    expect(attempt(installed({ version: "99.1.2" }))).toEqual(
      fails("the native part of inhouse 99.1.2", /inhouse\.node of version \d+\.\d+\.\d+; install anew/),
    );
  });

  it("the addon of another program", () => {
    const first = 'require("module")._extensions[".node"] = (module) => { module.exports = { add() {} }; }';
    expect(attempt(installed(), { first })).toEqual(
      fails("inhouse.node, which is the addon of another program; install anew"),
    );
  });

  it.skipIf(process.platform === "win32")("an addon that may not be read", () => {
    const folder = installed();
    const builds = join(folder, "clone/build/Release");
    mkdirSync(builds, { recursive: true });
    copyFileSync(builtAddon, join(builds, "inhouse.node"));
    chmodSync(join(builds, "inhouse.node"), 0);
    // Root may read anything.
    const root = process.getuid?.() === 0;
    if (root) chmodSync(base, 0o755);
    expect(
      attempt(folder, {
        first: root ? "process.setgid(65534); process.setuid(65534)" : "",
        env: { INHOUSE_PREBUILD: join(folder, "clone") },
      }),
    ).toEqual(fails("this process may not read it; allow it: chmod a+r"));
  });

  it("an unknown system", () => {
    const first = 'Object.defineProperty(process, "platform", { value: "freebsd" })';
    expect(attempt(installed(), { first })).toEqual(
      fails("there is no package for freebsd-", platforms.join(", "), "INHOUSE_PREBUILD"),
    );
  });

  it("an old Node", () => {
    const first = 'Object.defineProperty(process.versions, "node", { value: "18.20.4" })';
    expect(attempt(installed(), { first })).toEqual(
      fails("Node 18.20.4: this Node is too old; install Node 20.19"),
    );
  });

  it("an empty folder in INHOUSE_PREBUILD", () => {
    expect(attempt(installed(), { env: { INHOUSE_PREBUILD: import.meta.dirname } })).toEqual(
      fails(`of ${import.meta.dirname} for a local build`, "unset INHOUSE_PREBUILD"),
    );
  });

  it("an addon of another version, or a damaged one, in INHOUSE_PREBUILD", () => {
    const mends = "unset INHOUSE_PREBUILD, or build it anew: npm run build:addon in the folder it names";
    const folder = installed({ version: "99.1.2" });
    const clone = join(folder, "clone");
    const builds = join(clone, "build/Release");
    mkdirSync(builds, { recursive: true });
    symlinkSync(builtAddon, join(builds, "inhouse.node"));
    expect(attempt(folder, { env: { INHOUSE_PREBUILD: clone } })).toEqual(
      fails(/inhouse\.node of version \d+\.\d+\.\d+; /, mends),
    );
    rmSync(join(builds, "inhouse.node"));
    symlinkSync(import.meta.filename, join(builds, "inhouse.node"));
    expect(attempt(folder, { env: { INHOUSE_PREBUILD: clone } })).toEqual(fails("it may be damaged", mends));
  });

  it.runIf(process.platform === "linux")("an addon that was cut off, which would end the process", () => {
    const folder = installed();
    const builds = join(folder, "clone/build/Release");
    mkdirSync(builds, { recursive: true });
    const whole = readFileSync(builtAddon);
    for (const part of [0.05, 0.5, 0.95]) {
      writeFileSync(join(builds, "inhouse.node"), whole.subarray(0, whole.length * part));
      expect(attempt(folder, { env: { INHOUSE_PREBUILD: join(folder, "clone") } })).toEqual(
        fails(/the file is cut off: \d+ of \d+ bytes/, "unset INHOUSE_PREBUILD"),
      );
    }
  });

  it("an addon in a bundle", () => {
    const error = Object.assign(new Error("/app/dist/inhouse-AB.node: file too short"), {
      code: "ERR_DLOPEN_FAILED",
    });
    const failure = { root: base, platform: "linux-x64" };
    expect(explain({ ...failure, error })).toContain(
      "found /app/dist/inhouse-AB.node, which could not be loaded: /app/dist/inhouse-AB.node: file too short; it may",
    );
    const disabled = Object.assign(new Error("no"), { code: "ERR_DLOPEN_DISABLED" });
    expect(explain({ ...failure, error: disabled })).toContain("found the addon in this program, which");
    expect(explain({ ...failure, version: "0.0.1" })).toContain("the addon in this program of version 0.0.1");
  });

  it("a bundle of ES modules", () => {
    const file = join(import.meta.dirname, "../dist/native.js");
    const module = { exports: {} as { native(): unknown } };
    // As in one, there is no __dirname.
    const parameters = ["module", "exports", "require"];
    const body = compileFunction(readFileSync(file, "utf8"), parameters) as (...values: unknown[]) => void;
    body(module, module.exports, createRequire(file));
    expect(() => module.exports.native()).toThrow(
      /leave inhouse out of the bundle \(external\), or bundle as/,
    );
  });

  it("--no-addons", () => {
    const wanted = fails("inhouse.node, which this process may not load: --no-addons", "without --no-addons");
    expect(attempt(installed(), { flags: ["--no-addons"] })).toEqual(wanted);
    expect(attempt(installed(), { env: { NODE_OPTIONS: "--no-addons" } })).toEqual(wanted);
  });

  it("--permission", () => {
    const flags = [permission, "--allow-fs-read=*"];
    expect(attempt(installed(), { flags })).toEqual(
      fails("without --allow-addons; start node with --allow-addons"),
    );
    expect(attempt(installed(), { flags: [...flags, "--allow-addons"] })).toMatch(works);
  });

  it("--permission that does not cover the package", () => {
    const folder = installed({ platforms: {} }); // Node 20 loads what it may not read
    const own = join(folder, "node_modules/inhouse");
    const script = `try { require("${own}/dist/native/load.js").load("${own}"); } catch (error) { console.log(String(error)); }`;
    const flags = [permission, "--allow-addons", `--allow-fs-read=${join(own, "*")}`, "-e", script];
    const { stdout } = spawnSync(process.execPath, flags, { cwd: folder, encoding: "utf8" });
    const wanted = join(folder, "node_modules/@inhouse", platform);
    expect(stdout).toContain(
      `--permission does not let this process read ${wanted}; start node with --allow-fs-read=${wanted}`,
    );
  });

  const namespace = ["unshare", "--map-root-user", "--mount", "sh", "-ec"];
  const mounts = 'mount -t tmpfs -o noexec none "$0"';
  const canMount = linux && spawnSync(namespace[0], [...namespace.slice(1), mounts, tmpdir()]).status === 0;
  it.runIf(canMount)("a file system that is mounted noexec", () => {
    const folder = installed();
    const at = join(folder, "node_modules/@inhouse");
    const names = readdirSync(at);
    renameSync(at, join(folder, "apart"));
    mkdirSync(at);
    const script = `mount -t tmpfs -o noexec none '${at}'; cp -r '${folder}'/apart/* '${at}'; exec "$0" "$@"`;
    expect(names).toEqual([platform]);
    expect(attempt(folder, { wrapper: [...namespace, script] })).toEqual(
      fails(`the file system at ${at} is mounted noexec`, `mount -o remount,exec ${at}`),
    );
  });

  it("a C library that is too old", () => {
    const error = new Error(
      "/lib/libc.so.6: version `GLIBC_2.99' not found (required by inhouse.node)\nmore",
    );
    const failure = { root: base, platform: "linux-x64", path: join(base, "inhouse.node"), error };
    const old = explain(failure, "2.27");
    expect(old).toContain("version `GLIBC_2.99' not found");
    expect(old).not.toContain("more");
    expect(old).toMatch(/linux-x64 \(glibc 2\.27\).*; use a system with glibc 2\.28 or newer$/);
    // One that asks for more than packages do is not the package's.
    expect(explain(failure, "2.28")).toMatch(/; install anew: [^;]*$/);
  });
});

it("knows the C library by Node's loader, or by the report", () => {
  const report = (version?: string) => () => version;
  expect(libc("ELF /lib64/ld-linux-x86-64.so.2", report())).toBe("glibc");
  expect(libc("ELF /lib/ld-linux-aarch64.so.1", report())).toBe("glibc");
  expect(libc("ELF /lib/ld-musl-x86_64.so.1", report("2.36"))).toBe("musl");
  expect(libc("", report("2.36"))).toBe("glibc");
  expect(libc("", report())).toBe("musl");
});

it("knows platforms by their packages' names", () => {
  expect(platformName("linux", "x64", () => "musl")).toBe("linux-x64-musl");
  expect(platformName("linux", "arm64", () => "glibc")).toBe("linux-arm64");
  expect(platformName("win32", "x64", () => "musl")).toBe("win32-x64");
});

it("compares versions number by number", () => {
  expect(["20.18.9", "20.9", "2"].map((version) => isOlder(version, "20.19"))).toEqual([true, true, true]);
  expect(["20.19.0", "20.20.1", "26.0.0-pre"].map((version) => isOlder(version, "20.19"))).toEqual([
    false,
    false,
    false,
  ]);
});
