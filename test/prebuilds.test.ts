// What stands in the binaries that `npm run prebuilds` has made. A platform that was not built is skipped, by name; with
// INHOUSE_PREBUILDS=linux-x64,… those must be there.
import { spawnSync } from "node:child_process";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";

import { oldestGlibc, targets } from "../scripts/prebuilds/targets.mjs";
import { pythonEnvironment } from "../scripts/python-env.mjs";

type Name = keyof typeof targets;

/** What scripts/prebuilds/inspect.py prints of a binary. */
interface Binary {
  format: "ELF" | "MACHO" | "PE";
  machine: string;
  exports: string[];
  libraries: string[];
  imports: string[];
  symbols: number;
  searchPath: boolean;
  // ELF
  versions: string[];
  noDelete: boolean;
  executableStack: boolean;
  // Mach-O
  type: string;
  commands: string[];
  platform: string;
  oldestSystem: string;
  name: string;
  uuid: string;
  signature: { valid: boolean; adHoc: boolean; limit: number; offset: number } | null;
  // PE
  delayed: string[];
  timestamps: number[];
  /** Says that the times are hashes. */
  reproducible: boolean;
  characteristics: string[];
}

const folder = "build-prebuilds/packages";
const file = (name: string) => join(folder, name, "inhouse.node");
const names = Object.keys(targets) as Name[];
const wanted = process.env.INHOUSE_PREBUILDS?.split(",") ?? [];
const built = names.filter((name) => wanted.includes(name) || existsSync(file(name)));

function inspect(): Record<string, Binary> {
  if (built.length === 0) return {};
  const { python, env } = pythonEnvironment("requirements-prebuilds.txt", "python-prebuilds");
  const args = [...python.slice(1), "scripts/prebuilds/inspect.py", ...built.map(file)];
  const { status, stdout, stderr } = spawnSync(python[0], args, { encoding: "utf8", env });
  if (status !== 0) throw new Error(stderr);
  const list = JSON.parse(stdout) as Binary[];
  return Object.fromEntries(built.map((name, i) => [name, list[i]]));
}
const binaries = inspect();

const entryPoints = ["napi_register_module_v1", "node_api_module_get_api_version_v1"];
const isNodeApi = (name: string) => /^_?(napi|node_api)_/.test(name);
const machines = { ELF: ["X86_64", "AARCH64"], MACHO: ["X86_64", "ARM64"], PE: ["AMD64", "ARM64"] };
const formats = { linux: "ELF", darwin: "MACHO", win32: "PE" } as const;
/** Bytes under a mask, one after the other. */
type Pattern = [mask: number, value: number][];
// VEX and EVEX with their widest registers (Intel's Software Developer's Manual, 2.3.5 and 2.7.1).
// prettier-ignore
const vex = (opcode: number): Pattern => [[0xff, 0xc4], [0x1f, 2], [7, 5], [0xff, opcode]];
// prettier-ignore
const evex = (prefix: number, opcode: number): Pattern =>
  [[0xff, 0x62], [0xf, 2], [7, prefix], [0x60, 0x40], [0xff, opcode]];
const word = (mask: number, value: number): Pattern =>
  [0, 8, 16, 24].map((shift) => [(mask >>> shift) & 0xff, (value >>> shift) & 0xff]);
/** By set an instruction that it alone has, or undefined. */
const instructionSets: Record<string, Record<string, Pattern | undefined>> = {
  x64: {
    baseline: undefined,
    avx2: vex(0x04), // vpmaddubsw
    avxvnni: vex(0x50), // vpdpbusd
    avx512: evex(5, 0x04),
    avx512vnni: evex(5, 0x50),
    avx512bf16: evex(6, 0x52), // vdpbf16ps
  },
  arm64: {
    baseline: undefined,
    neon: word(0xbfe0fc00, 0x0e208000), // smlal
    neondot: word(0xffc0f400, 0x4f80e000), // sdot, by element
    neoni8mm: word(0xffc0f400, 0x4f80f000), // usdot, by element
  },
};

/** How often a pattern occurs, which is now and then by chance. */
function occurrences(data: Buffer, pattern: Pattern): number {
  let count = 0;
  for (let at = 0; at + pattern.length <= data.length; ++at)
    if (pattern.every(([mask, value], i) => (data[at + i] & mask) === value)) ++count;
  return count;
}
const olderFirst = (a: string, b: string) => a.localeCompare(b, "en", { numeric: true });

for (const name of names) {
  const { platform, arch, libc } = targets[name] as { platform: string; arch: string; libc?: string };
  const skipped = !built.includes(name);
  const why = skipped ? ` (not built: npm run prebuilds -- --target ${name})` : "";

  describe.skipIf(skipped)(`the binary for ${name}${why}`, () => {
    const binary = binaries[name];

    it("is of its platform", () => {
      expect(binary.format).toBe(formats[platform as keyof typeof formats]);
      expect(binary.machine).toBe(machines[binary.format][arch === "x64" ? 0 : 1]);
    });

    it("exports the two entry points of Node-API alone", () => {
      expect(binary.exports.map((symbol) => symbol.replace(/^_/, "")).sort()).toEqual(entryPoints);
    });

    it("is stripped, and names no folder of the machine that built it", () => {
      expect(binary.symbols).toBe(0);
      const text = readFileSync(file(name), "latin1");
      expect(/\/(?:home|root|Users|tmp|work|build)\/[\w./-]*/.exec(text)?.[0]).toBeUndefined();
      expect(text.includes(process.cwd())).toBe(false);
    });

    it("holds every instruction set, with its instructions", () => {
      const data = readFileSync(file(name));
      for (const [set, pattern] of Object.entries(instructionSets[arch])) {
        expect(data.includes(`${set}\0`), set).toBe(true);
        if (pattern !== undefined) expect(occurrences(data, pattern), set).toBeGreaterThan(100);
      }
    });

    it("asks its system for what is recorded, and for Node-API", async () => {
      const system = binary.imports.filter((symbol) => !isNodeApi(symbol)).sort();
      // A name without a place to come from may be nowhere; musl's have none.
      if (libc !== "musl") expect(system.filter((symbol) => !symbol.includes("@"))).toEqual([]);
      await expect(`${system.join("\n")}\n`).toMatchFileSnapshot(`data/imports/${name}.txt`);
    });

    it("has the package that npm chooses it by", () => {
      const manifest = JSON.parse(readFileSync(join(folder, name, "package.json"), "utf8")) as object;
      const own = JSON.parse(readFileSync("package.json", "utf8")) as { version: string; license: string };
      expect(manifest).toMatchObject({
        name: `@inhouse/${name}`,
        version: own.version,
        license: own.license,
        main: "inhouse.node",
        os: [platform],
        cpu: [arch],
      });
      expect((manifest as { libc?: string[] }).libc).toEqual(libc === undefined ? undefined : [libc]);
      expect(manifest).not.toHaveProperty("scripts");
      expect(readFileSync(file(name)).length).toBeLessThan(12e6);
    });

    if (platform === "linux") {
      it(`needs ${libc === "musl" ? "musl alone" : `nothing newer than glibc ${oldestGlibc}`}`, () => {
        const own =
          libc === "musl" ? /^libc\.(so|musl-\w+\.so\.1)$/ : /^(lib(c|m|dl|pthread|rt)\.so|ld-linux-)/;
        expect(binary.libraries.filter((library) => !own.test(library))).toEqual([]);
        const versions = binary.versions.map((version) => version.replace(/^GLIBC_/, ""));
        expect(versions.filter((version) => !/^[\d.]+$/.test(version))).toEqual([]); // GLIBCXX, GCC
        if (libc === "musl") expect(versions).toEqual([]);
        else expect([...versions, oldestGlibc].sort(olderFirst).at(-1)).toBe(oldestGlibc);
      });

      it("stays loaded, and asks for no executable stack or search path", () => {
        const { noDelete, executableStack, searchPath } = binary;
        expect({ noDelete, executableStack, searchPath }).toEqual({
          noDelete: true,
          executableStack: false,
          searchPath: false,
        });
      });
    } else if (platform === "darwin") {
      it("needs macOS 11 and its system library alone", () => {
        const { platform, oldestSystem, type, name } = binary;
        expect({ platform, oldestSystem, type, name }).toEqual({
          platform: "MACOS",
          oldestSystem: "11.0",
          type: "DYLIB",
          name: "@rpath/inhouse.node",
        });
        expect(binary.searchPath).toBe(false);
        expect(binary.commands).toEqual(expect.arrayContaining(["BUILD_VERSION", "UUID"]));
        expect(binary.libraries).toEqual(["/usr/lib/libSystem.B.dylib"]);
        expect(binary.imports.filter(isNodeApi).length).toBeGreaterThan(20);
      });

      it(arch === "arm64" ? "is signed, with the hashes of its own pages" : "is not signed", () => {
        const { signature } = binary;
        // Intel's processors load what has no signature; Apple's do not.
        if (arch === "arm64")
          expect(signature).toMatchObject({ valid: true, adHoc: true, limit: signature?.offset });
        else expect(signature).toBeNull();
        expect(binary.uuid).not.toMatch(/^0*$/);
      });
    } else {
      it("needs Windows 10's own libraries, and Node-API from whoever loads it", () => {
        const own = /^(KERNEL32|ADVAPI32|ntdll|bcrypt(primitives)?|api-ms-win-[\w-]+)\.dll$/i;
        expect(binary.libraries.filter((library) => !own.test(library))).toEqual([]);
        expect(binary.imports.filter(isNodeApi)).toEqual([]);
        expect(binary.delayed).toEqual([]);
      });

      it("bears a hash of its contents in place of a time, and may stand anywhere in memory", () => {
        expect(binary.reproducible).toBe(true);
        expect(new Set(binary.timestamps.filter((hash) => hash !== 0)).size).toBe(1);
        expect(binary.characteristics).toEqual(expect.arrayContaining(["DYNAMIC_BASE", "NX_COMPAT"]));
      });
    }
  });
}

it("names only platforms there are", () => {
  expect(wanted.filter((name) => !(names as string[]).includes(name))).toEqual([]);
});
