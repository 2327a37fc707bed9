import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { expect } from "vitest";

import { ChatTemplate } from "../../dist/chat/template.js";
import { readHeader } from "../../dist/header.js";

const json = (path: string) => JSON.parse(readFileSync(new URL(path, import.meta.url), "utf8")) as unknown;
const { conversations, tools } = json("../data/templates.json") as {
  conversations: Record<string, unknown>;
  tools: unknown[];
};
const golden = json("../golden/templates.json") as Record<string, { text?: string; error?: string }>;

/** What names the templates of the golden file; real files' ones are named by their SHA-256. */
export const templateNames = [...new Set(Object.keys(golden).map((key) => key.split("/")[0]))];

/** Renders all conversations and compares them with what Python's jinja2 made of them (scripts/golden/templates.py). */
export function compareWithGolden(name: string, source: string): void {
  const template = new ChatTemplate(source, { bosToken: "<s>", eosToken: "</s>" });
  const cases = Object.entries(golden).filter(([key]) => key.startsWith(`${name}/`));
  expect(cases.length).toBe(24);
  for (const [key, expected] of cases) {
    const [, conversation, ...flags] = key.split("/");
    const render = () =>
      template.render(conversations[conversation], {
        tools: flags.includes("tools") ? tools : undefined,
        addGenerationPrompt: flags.includes("prompt"),
        now: new Date(2025, 2, 4, 15, 6, 7),
      }).text;
    if (expected.text !== undefined) expect(render(), key).toBe(expected.text);
    else expect(render, key).toThrow(expected.error);
  }
}

/** The same for a GGUF file's own template. */
export async function compareFileWithGolden(path: string): Promise<void> {
  const source = (await readHeader(path)).metadata.get("tokenizer.chat_template")?.value;
  if (typeof source !== "string") throw new Error(`${path} has no chat template`);
  compareWithGolden(`sha256:${createHash("sha256").update(source).digest("hex")}`, source);
}
