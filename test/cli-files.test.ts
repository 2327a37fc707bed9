import { spawnSync } from "node:child_process";
import {
  chmodSync,
  existsSync,
  linkSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  realpathSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";

import { OutputFile } from "../dist/cli/output-file.js";
import { cutWindows } from "../dist/cli/windows.js";

let folder: string;
beforeEach(() => {
  folder = realpathSync(mkdtempSync(join(tmpdir(), "inhouse-files-")));
});
afterEach(() => rmSync(folder, { recursive: true, force: true }));

const at = (name: string) => join(folder, name);
const plan = (path: string, inputs = {}) => OutputFile.plan("logprobs", path, inputs);
const text = (value: string) => new TextEncoder().encode(value);

describe("an output file", () => {
  test("stands under its name when it is whole, and not before", async () => {
    const file = await plan(at("out"));
    expect(readdirSync(folder)).toEqual([]);
    await file.create();
    await file.append(text("ab"));
    expect(readdirSync(folder)).toEqual(["out.partial"]);
    await file.append(text("cd"));
    await file.finish();
    expect(readdirSync(folder)).toEqual(["out"]);
    expect(readFileSync(at("out"), "utf8")).toBe("abcd");
  });

  test("leaves the older file alone until then, and when it fails", async () => {
    writeFileSync(at("out"), "precious");
    chmodSync(at("out"), 0o600);
    const failed = await plan(at("out"));
    await failed.create();
    await failed.append(text("half"));
    await failed.discard();
    expect(readdirSync(folder)).toEqual(["out"]);
    expect(readFileSync(at("out"), "utf8")).toBe("precious");

    const neverCreated = await plan(at("out"));
    writeFileSync(at("out.partial"), "of another");
    await neverCreated.discard();
    expect(readFileSync(at("out.partial"), "utf8")).toBe("of another");
    rmSync(at("out.partial"));

    const file = await plan(at("out"));
    await file.create();
    await file.append(text("new"));
    await file.finish();
    expect(readFileSync(at("out"), "utf8")).toBe("new");
    if (process.platform !== "win32") expect(statSync(at("out")).mode & 0o777).toBe(0o600);
  });

  test.skipIf(process.platform === "win32")("keeps a symbolic link and replaces what it names", async () => {
    mkdirSync(at("deep"));
    writeFileSync(at("deep/real"), "old");
    symlinkSync(at("deep/real"), at("out"));
    const file = await plan(at("out"));
    await file.create();
    await file.append(text("new"));
    await file.finish();
    expect(readFileSync(at("deep/real"), "utf8")).toBe("new");
    expect(realpathSync(at("out"))).toBe(at("deep/real"));
    expect(readdirSync(at("deep"))).toEqual(["real"]);
  });

  test("is never one of the inputs, under whatever name", async () => {
    writeFileSync(at("m-00001-of-00002.gguf"), "1");
    writeFileSync(at("m-00002-of-00002.gguf"), "2");
    writeFileSync(at("text"), "text");
    linkSync(at("text"), at("same"));
    linkSync(at("text"), at("odd.partial"));
    const inputs = { "the model": at("m-00001-of-00002.gguf"), "the text": at("text") };
    for (const [name, what] of [
      ["m-00001-of-00002.gguf", "is the model"],
      ["m-00002-of-00002.gguf", "is the model"],
      ["text", "is the text"],
      ["same", "is the text"],
      ["odd", "odd.partial first, which is the text"],
    ] as const) {
      await expect(plan(at(name), inputs), name).rejects.toThrow(what);
    }
    await plan(at("else"), inputs);
    mkdirSync(at("taken.partial"));
    await expect(plan(at("taken"), inputs)).rejects.toThrow("is in the way");
    expect(readFileSync(at("text"), "utf8")).toBe("text");
  });

  test.skipIf(process.platform === "win32")("devices and pipes are written through and stay", async () => {
    const none = await plan("/dev/null");
    await none.create();
    await none.append(text("x"));
    await none.discard();
    expect(existsSync("/dev/null")).toBe(true);

    expect(spawnSync("mkfifo", [at("pipe")]).status).toBe(0);
    const { open } = await import("node:fs/promises");
    const reader = open(at("pipe"), "r").then(async (handle) => {
      const read = await handle.readFile("utf8");
      await handle.close();
      return read;
    });
    const pipe = await plan(at("pipe"));
    await pipe.create();
    await pipe.append(text("through"));
    await pipe.finish();
    expect(await reader).toBe("through");
    expect(readdirSync(folder)).toEqual(["pipe"]);
  });
});

describe("windows of a text", () => {
  const tokens = [10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20];

  test("as llama.cpp cuts them: 11 tokens in windows of 4", () => {
    // Predictions are scored at positions 2 (4 / 2) to 2 (4 - 2): the tokens after them are those at position 3.
    expect(cutWindows(tokens, 4, 1)).toEqual([
      { tokens: [1, 11, 12, 13], scoredFrom: 3 },
      { tokens: [1, 15, 16, 17], scoredFrom: 3 },
    ]);
    expect(tokens[0]).toBe(10);
  });

  test("an odd size, and a model without BOS", () => {
    // Scored at positions 2 (5 / 2, rounded down) to 3: the tokens at 3 and 4.
    expect(cutWindows(tokens, 5, undefined)).toEqual([
      { tokens: [10, 11, 12, 13, 14], scoredFrom: 3 },
      { tokens: [15, 16, 17, 18, 19], scoredFrom: 3 },
    ]);
    // llama.cpp scores n_ctx - n_ctx/2 - 1 tokens of each window: 255 of 512.
    const [window] = cutWindows(
      Array.from({ length: 512 }, (_, i) => i),
      512,
      undefined,
    );
    expect(window.tokens.length - window.scoredFrom).toBe(255);
  });

  test("a text of exactly one window, and a shorter one", () => {
    expect(cutWindows(tokens, 11, 1)).toEqual([{ tokens: [1, ...tokens.slice(1)], scoredFrom: 6 }]);
    expect(cutWindows(tokens, 12, 1)).toEqual([{ tokens, scoredFrom: 1 }]);
  });
});
