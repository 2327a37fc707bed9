// The codes of the core, of TypeScript and of the documentation are the same, in the same order.
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished, vi } from "vitest";

import { CallSite } from "../lib/call-site.js";
import { errorCodes, InhouseError } from "../lib/errors.js";
import { glibcVersion } from "../lib/native/platforms.js";

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

it.runIf(process.platform === "linux")("asks for the C library without the network's part", () => {
  const report = process.report as NodeJS.ProcessReport & { excludeNetwork?: boolean };
  const before = report.excludeNetwork;
  let during: boolean | undefined;
  const spy = vi.spyOn(report, "getReport").mockImplementation(() => {
    during = report.excludeNetwork;
    throw new Error("no report");
  });
  onTestFinished(() => spy.mockRestore());
  expect(glibcVersion()).toBeUndefined();
  expect([during, report.excludeNetwork]).toEqual([true, before]);
});
