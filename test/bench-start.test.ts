// The programs of bench/ say in one line what they lack, before they measure.
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import {
  closeSync,
  constants,
  cpSync,
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import { outputOf } from "../bench/child.mjs";
import { ResultFile } from "../bench/start.mjs";
import { tinyModel, writeGguf } from "./support/gguf-writer.ts";
import { modelPath, smollm2 } from "./support/models.ts";

const root = join(import.meta.dirname, "..");
const model = modelPath(smollm2);
const run = (folder: string, name: string, ...args: string[]) => {
  const argv = [join(folder, "bench", `${name}.mjs`), ...args];
  const { status, stdout, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
  return [status, stdout, stderr];
};
const line = (words: string): unknown => {
  const quoted = words.replace(/[.*+?()[\]\\]/g, "\\$&");
  return expect.stringMatching(new RegExp(`^[^\\n]*${quoted}[^\\n]*\\n$`));
};

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-bench-"));
  mkdirSync(join(folder, "bench"));
  const keep = (path: string) => !path.includes("node_modules") && !path.includes("results");
  cpSync(join(root, "bench"), join(folder, "bench"), { recursive: true, filter: keep });
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const programs = ["run", "event-loop", "serving", "soak", "speculation"];

test.each([...programs, "cut-model", "embeddings", "instructions"])("%s --help", (name) => {
  expect(run(folder, name, "--help")).toEqual([0, expect.stringMatching(/MODEL|instructions\.mjs/), ""]);
});

test.each(programs)("%s: nothing is built", (name) => {
  expect(run(folder, name, model)).toEqual([1, "", line("inhouse is not built: npm run build")]);
});

describe("what is wrong with a command line", () => {
  const json = ["--json", join(tmpdir(), "nowhere", "out.json")];
  test.each([
    ["run", ["nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["run", ["--only", "models", model, ...json], 1, "out.json: no such file or directory"],
    ["run", ["--only", "models", model, "--json", tmpdir()], 2, "is in the way"],
    ["run", ["--only", "models", import.meta.filename, "--json", "/dev/null"], 1, "magic is"],
    ["event-loop", [], 2, "expected one model"],
    ["event-loop", ["nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["event-loop", [model, "cpu", "more"], 2, "got also more"],
    ["serving", [], 2, "expected one model"],
    ["serving", ["nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["serving", [model, "--rounds", "0"], 2, "--rounds: expected a whole number from 1"],
    ["serving", [model, "--peer", "nobody"], 2, "--peer: expected node-llama-cpp"],
    ["serving", [model, "--peers", "x"], 2, "--peers"],
    ["serving", [model, ...json], 1, "out.json: no such file or directory"],
    ["soak", [], 2, "expected one model"],
    ["soak", ["nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["soak", [model, "--requests", "many"], 2, "--requests: expected a whole number"],
    ["embeddings", [], 2, "expected at least one model"],
    ["embeddings", ["nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["embeddings", [model, "--texts", "0"], 2, "--texts: expected a whole number from 1"],
    ["embeddings", [model, "--peer", "inhouse"], 2, "--peer: expected node-llama-cpp or none"],
    ["instructions", ["--build", "nowhere"], 2, "inhouse_product_count is not built"],
    ["instructions", ["more"], 2, "more"],
    ["speculation", [], 2, "expected one model"],
    ["speculation", [model, "--way", "draft"], 2, "--way: expected auto, lookup, got"],
    ["speculation", [model, "--draft", "nowhere.gguf"], 2, "nowhere.gguf: no such file"],
    ["cut-model", [], 2, "expected MODEL, BLOCKS and OUT"],
    ["cut-model", [model, "1", model], 2, "is the model; it would be overwritten"],
    ["cut-model", [model, "0", "out.gguf"], 2, "cut-model: BLOCKS: expected a whole number from 1"],
    ["cut-model", [model, "31", join(tmpdir(), "out.gguf")], 2, "has 30 blocks, fewer than the 31"],
    ["cut-model", [import.meta.filename, "1", join(tmpdir(), "out.gguf")], 1, "is no GGUF file"],
    ["soak", [model, "--warm-up", "0"], 2, "--warm-up: expected a whole number"],
  ])("%s %j", (name, args, code, words) => {
    expect(run(root, name, ...args)).toEqual([code, "", line(words)]);
  });
});

test("serving: a context too short for its prompts", () => {
  const path = join(folder, "short.gguf");
  writeGguf(path, tinyModel());
  const wanted = line("this bench needs a context of 4160 tokens, more than the ");
  expect(run(root, "serving", path)).toEqual([2, "", wanted]);
});

test.skipIf(existsSync(join(root, "bench/peers/node_modules")))("a peer that is not installed", () => {
  const wanted = line("node-llama-cpp is not installed: npm install in bench/peers");
  expect(run(root, "serving", model, "--peer", "node-llama-cpp")).toEqual([1, "", wanted]);
});

describe.skipIf(process.platform === "win32")("where a result goes", () => {
  let place: string;
  beforeAll(() => (place = mkdtempSync(join(folder, "result-"))));

  test("a link stays one, and what it leads to changes when all is there", () => {
    const [link, target] = [join(place, "link.json"), join(place, "target.json")];
    symlinkSync(target, link);
    for (const old of [undefined, "old"]) {
      if (old !== undefined) writeFileSync(target, old);
      const result = new ResultFile(link);
      result.keep("half");
      expect(readdirSync(place).sort()).toContain(`target.json.${process.pid}.partial`);
      if (old === undefined) expect(existsSync(target)).toBe(false);
      else expect(readFileSync(target, "utf8")).toBe(old);
      result.finish("whole");
      expect([lstatSync(link).isSymbolicLink(), readFileSync(target, "utf8")]).toEqual([true, "whole"]);
      expect(readdirSync(place).sort()).toEqual(["link.json", "target.json"]);
    }
  });

  test("a pipe gets the whole alone, and stays a pipe", () => {
    const pipe = join(place, "pipe");
    expect(spawnSync("mkfifo", [pipe]).status).toBe(0);
    const result = new ResultFile(pipe); // waits for no reader
    result.keep("half");
    const reader = openSync(pipe, constants.O_RDONLY | constants.O_NONBLOCK);
    result.finish("whole");
    expect([readFileSync(reader, "utf8"), lstatSync(pipe).isFIFO()]).toEqual(["whole", true]);
    closeSync(reader);
  });
});

describe("the processes in which a bench measures", () => {
  const program = (code: string) => {
    const path = join(folder, "measuring.mjs");
    writeFileSync(path, code);
    return [path];
  };

  test("what they print, and why they fail", async () => {
    expect(await outputOf(process.execPath, program("console.log(1 + 1)"))).toBe("2\n");
    const failing = program('console.error("measuring: no such model"); process.exit(2)');
    await expect(outputOf(process.execPath, failing)).rejects.toThrow(/^no such model$/);
    await expect(outputOf(process.execPath, program("process.exit(3)"))).rejects.toThrow(
      "measuring failed with exit code 3",
    );
    await expect(outputOf("nowhere", [])).rejects.toThrow("ENOENT");
  });

  test.skipIf(process.platform === "win32")("they end with the bench", async () => {
    const pid = join(folder, "pid");
    const [path] = program(
      'import { writeFileSync } from "node:fs"; writeFileSync(process.argv[2], String(process.pid)); setInterval(() => {}, 1000);',
    );
    const url = pathToFileURL(join(root, "bench/child.mjs")).href;
    const code = `import { outputOf } from ${JSON.stringify(url)}; await outputOf(process.execPath, process.argv.slice(1));`;
    const bench = spawn(process.execPath, ["--input-type=module", "-e", code, path, pid]);
    while (!existsSync(pid) || readFileSync(pid, "utf8") === "") await sleep(20);
    bench.kill("SIGTERM");
    expect(await once(bench, "exit")).toEqual([143, null]);
    expect(() => process.kill(Number(readFileSync(pid, "utf8")), 0)).toThrow("ESRCH");
  });
});

describe("performance-doc", () => {
  let copy: string;
  const doc = (...args: string[]) => {
    const argv = [join(copy, "scripts/performance-doc.mjs"), ...args];
    const { status, stderr } = spawnSync(process.execPath, argv, { encoding: "utf8" });
    return [status, stderr];
  };
  beforeAll(() => {
    copy = mkdtempSync(join(folder, "doc-"));
    const names = ["scripts/performance-doc.mjs", "README.md", "docs", "test/golden/peer-kl.json", "bench"];
    for (const name of names)
      cpSync(join(root, name), join(copy, name), {
        recursive: true,
        filter: (path) => !path.includes("node_modules"),
      });
    symlinkSync(join(root, "node_modules"), join(copy, "node_modules"), "junction");
  });

  test("refuses what it does not know", () => {
    expect(doc("--chek")).toEqual([2, line("--chek")]);
    expect(doc("more")).toEqual([2, line("more")]);
    expect(doc("--help")).toEqual([0, ""]);
  });

  test("names a picture without a result, and removes it", () => {
    const picture = join(copy, "docs/performance-gone.svg");
    writeFileSync(picture, "<svg/>");
    expect(doc("--check")).toEqual([1, line("docs/performance-gone.svg is not what bench/results say")]);
    expect(doc()).toEqual([0, ""]);
    expect(existsSync(picture)).toBe(false);
    expect(doc("--check")).toEqual([0, ""]);
  });

  test.each([
    ["{", "is broken: "],
    ["{}", 'is broken: it has no "machine"'],
  ])("names a broken result: %s", (text, words) => {
    const path = join(copy, "bench/results/broken.speed.json");
    writeFileSync(path, text);
    expect(doc("--check")).toEqual([1, line(`bench/results/broken.speed.json ${words}`)]);
    rmSync(path);
  });
});
