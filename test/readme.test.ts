import { spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { describe, expect, test } from "vitest";

import { knownModels } from "../dist/hub/index.js";
import { modelPath, smollm2 } from "./support/models.ts";

const root = join(import.meta.dirname, "..");
const readme = readFileSync(join(root, "README.md"), "utf8");
const blocks = (language: string) =>
  [...readme.matchAll(/^```(\w+)\n([\s\S]*?)^```/gm)]
    .filter(([, kind]) => kind === language)
    .map(([, , b]) => b);
const program = join(root, "dist/cli/main.js");
const inhouse = (...args: string[]) => spawnSync(process.execPath, [program, ...args], { encoding: "utf8" });
const commands = [
  ...blocks("sh")
    .join("")
    .matchAll(/^npx inhouse (\w+) +(\S+)/gm),
];

describe("the README", () => {
  test("its example runs", () => {
    const [example] = blocks("ts");
    expect(example.trim().split("\n").length).toBeLessThanOrEqual(12);
    // A path of this machine, and an answer that is not waited for long.
    const source = example
      .replace(/loadModel\(".*?"/, `loadModel(${JSON.stringify(modelPath(smollm2))}`)
      .replace(/maxTokens: \d+/, "maxTokens: 8");
    expect(source).not.toBe(example);
    const end = "console.log(JSON.stringify([usage.completionTokens, finishReason, typeof timings]));";
    const run = spawnSync(process.execPath, ["--input-type=module", "-e", `${source}\n${end}`], {
      cwd: root,
      encoding: "utf8",
    });
    expect([run.status, run.stderr]).toEqual([0, ""]);
    expect(run.stdout).toMatch(/\[8,"length","object"\]\n$/);
  });

  test("its commands exist, and the models that they fetch", () => {
    expect(commands.map(([, command]) => command)).toEqual(["run", "inspect", "pull", "doctor"]);
    for (const [, command, operand] of commands) {
      expect(inhouse(command, "--help").status, command).toBe(0);
      if (command === "pull") expect(knownModels.map(({ name }) => name)).toContain(operand);
    }
    const { scripts } = createRequire(import.meta.url)("../package.json") as {
      scripts: Record<string, string>;
    };
    for (const [, name] of readme.matchAll(/npm run ([\w:]+)/g)) expect(scripts).toHaveProperty([name]);
  });
});
