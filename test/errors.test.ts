// The codes of the core, of TypeScript and of the documentation are the same, in the same order.
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";

import { CallSite } from "../lib/call-site.js";
import { errorCodes, InhouseError } from "../lib/errors.js";
import { load } from "../lib/native.js";

const root = join(import.meta.dirname, "..");
const find = (file: string, pattern: RegExp): string[] =>
  [...readFileSync(join(root, file), "utf8").matchAll(pattern)].map((match) => match[1]);

describe("error codes", () => {
  it("are those of the core, then TypeScript's own", () => {
    const core = find("native/core/error.h", /^ {2}X\(\w+, "(\w+)"\)/gm);
    expect(core.length).toBeGreaterThan(20);
    expect(errorCodes.slice(0, core.length)).toEqual(core);
    expect(new Set(errorCodes).size).toBe(errorCodes.length);
  });

  it("are all explained in docs/errors.md", () => {
    expect(find("docs/errors.md", /^\| `ERR_INHOUSE_(\w+)` +\|/gm)).toEqual([...errorCodes]);
  });
});

describe("InhouseError", () => {
  const error = new InhouseError("ERR_INHOUSE_DISPOSED", "gone", { cause: 5 });

  it("is recognized by its brand, also from another copy", () => {
    expect(InhouseError.is(error)).toBe(true);
    expect(InhouseError.is(error, "ERR_INHOUSE_DISPOSED")).toBe(true);
    expect(InhouseError.is(error, "ERR_INHOUSE_INTERNAL")).toBe(false);
    expect(InhouseError.is({ [Symbol.for("inhouse.error")]: true })).toBe(true);
    expect(InhouseError.is(new Error("gone"))).toBe(false);
    expect(InhouseError.is(null)).toBe(false);
  });

  it("becomes plain data", () => {
    expect(JSON.parse(JSON.stringify(error))).toEqual({
      name: "InhouseError",
      code: "ERR_INHOUSE_DISPOSED",
      message: "gone",
    });
    expect(error.cause).toBe(5);
  });

  it("carries the stack of the call site", async () => {
    const outer = (): CallSite => new CallSite(outer);
    const site = outer();
    await Promise.resolve();
    const late = site.native({ code: "ERR_INHOUSE_NUMERIC", message: "NaN" });
    expect(late.stack).toMatch(/^InhouseError: NaN\n {4}at .*errors\.test\.ts/);
    expect(late.stack).not.toContain("outer");
    const other = new Error("mine");
    expect(site.translate(other)).toBe(other);
  });
});

it("says what was looked for and what to do where the addon is missing", () => {
  const error = (() => {
    try {
      load(join(root, "docs"));
    } catch (reason) {
      return reason as InhouseError;
    }
    return undefined;
  })();
  expect(error?.code).toBe("ERR_INHOUSE_NATIVE_LOAD");
  expect(error?.message).toMatch(/looked for build\/Release.*prebuilds\/.* no platform; .*npm run build/);
  if (process.platform === "linux") expect(error?.message).toMatch(/linux-\w+ \((glibc [\d.]+|musl)\), Node/);
});

it.runIf(process.platform === "linux")("asks for the C library without the network's part", () => {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  let during: boolean | undefined;
  const spy = vi.spyOn(report, "getReport").mockImplementation(() => {
    during = report.excludeNetwork;
    throw new Error("no report");
  });
  onTestFinished(() => spy.mockRestore());
  expect(() => load(join(root, "docs"))).toThrow(/linux-\w+, Node/);
  expect([during, report.excludeNetwork]).toEqual([true, before]);
});

it("names the prebuilds there are where this platform's is missing", () => {
  const folder = mkdtempSync(join(tmpdir(), "inhouse-"));
  writeFileSync(join(folder, "package.json"), '{ "name": "inhouse" }');
  for (const name of ["plan9-mips", "plan9-x64"])
    mkdirSync(join(folder, "prebuilds", name), { recursive: true });
  expect(() => load(folder)).toThrow(
    /has prebuilds for plan9-mips, plan9-x64; elsewhere, build it from source/,
  );
  rmSync(folder, { recursive: true });
});
