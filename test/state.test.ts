// Saved and restored prefixes, through the public API and across processes. What files can be made to say is tested in
// C++ (test/native/state_test.cpp).
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pathToFileURL } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { type Adapter, InhouseError, loadModel, type Model, type SaveStateOptions } from "../lib/index.js";
import { ggufAdapter, tinyPairs } from "./support/adapters.js";
import { tinyModel, writeGguf } from "./support/gguf-writer.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const folder = mkdtempSync(join(tmpdir(), "inhouse-state-"));
const options = { device, contextLength: 1024, maxConcurrent: 4 } as const;
let model: Model;

beforeAll(async () => {
  model = await loadModel(modelPath(smollm2), options);
});
afterAll(async () => {
  await model.dispose();
  rmSync(folder, { recursive: true });
});

const tokens = (count: number, salt = 0): number[] =>
  Array.from({ length: count }, (_, i) => 1000 + ((i * 37 + salt * 101) % 5000));
const greedy = { temperature: 0, ignoreStopTokens: true } as const;
const answerOf = (prompt: number[], given = {}, of = model) =>
  of.complete(prompt, { ...greedy, maxTokens: 8, logprobs: 1, ...given }).result();
const codeOf = async (promise: Promise<unknown>): Promise<unknown> => {
  const error: unknown = await promise.then(
    () => undefined,
    (reason: unknown) => reason,
  );
  return InhouseError.is(error) ? error.code : error;
};

describe("a saved state", () => {
  it("spares another load of the model the work, and changes nothing", async () => {
    const path = join(folder, "state");
    const before = await answerOf(tokens(300), { cacheScope: "mine" });
    const saved = await model.saveState(pathToFileURL(path), { cacheScope: "mine" });
    expect(saved).toEqual({ tokens: 288, blocks: 9, bytes: statSync(path).size });
    if (process.platform !== "win32") expect(statSync(path).mode & 0o777).toBe(0o600);
    await using other = await loadModel(modelPath(smollm2), options);
    expect(await other.loadState(path)).toEqual({ tokens: 288, blocks: 9 });
    expect(other.stats().kv).toMatchObject({ held: 0, kept: 288 });
    const after = await answerOf(tokens(300), {}, other);
    expect(after.usage.cachedTokens).toBe(288);
    expect([after.tokens, after.logprobs]).toEqual([before.tokens, before.logprobs]);
    expect((await answerOf(tokens(300), { cacheScope: "mine" }, other)).usage.cachedTokens).toBe(0);
  });

  it.each(["f16", "q4_0"])("outlives its process, in %s", (kvType) => {
    const path = join(folder, `process-${kvType}`);
    const run = (mode: string) => {
      const script = join(import.meta.dirname, "lifetimes/state.mjs");
      const args = [script, mode, modelPath(smollm2), device, path, kvType];
      const { stdout, stderr } = spawnSync(process.execPath, args, { encoding: "utf8" });
      expect(stderr).toBe("");
      return JSON.parse(stdout) as Record<"tokens" | "text" | "logprobs" | "cached" | "report", unknown>;
    };
    const { cached, report, ...first } = run("save");
    expect([cached, report]).toMatchObject([0, { tokens: 192 }]);
    expect(run("load")).toEqual({ ...first, cached: 192, report: { tokens: 192, blocks: 6 } });
  });

  it("is written within maxBytes, the most recently used first", async () => {
    const cacheScope = "limited";
    await answerOf(tokens(200, 1), { cacheScope });
    await answerOf(tokens(200, 2), { cacheScope });
    const all = await model.saveState(join(folder, "all"), { cacheScope });
    expect(all.blocks).toBe(12);
    const path = join(folder, "half");
    const half = await model.saveState(path, { cacheScope, maxBytes: Math.ceil(all.bytes * 0.55) });
    expect(half.blocks).toBe(6);
    expect((await model.loadState(path, { cacheScope: "half" })).blocks).toBe(6);
    expect((await answerOf(tokens(200, 1), { cacheScope: "half" })).usage.cachedTokens).toBe(0);
    expect((await answerOf(tokens(200, 2), { cacheScope: "half" })).usage.cachedTokens).toBe(192);
  });

  it("is of one conversation alone, and goes on with it", async () => {
    const path = join(folder, "conversation");
    const cacheScope = "talks";
    const say = (content: string) => ({ role: "user", content: `${content} `.repeat(20) });
    const talk = async (content: string, given = {}, of = model) => {
      const messages = [say(content)];
      const result = await of.chat(messages, { ...greedy, maxTokens: 40, cacheScope, ...given }).result();
      return { messages, result, tokens: [...result.promptTokens, ...result.tokens] };
    };
    const [first, second] = [await talk("What do fish eat?"), await talk("Where is the wind from?")];
    const blocks = (of: { tokens: number[] }) => Math.floor((of.tokens.length - 1) / 32);
    const all = await model.saveState(join(folder, "talks"), { cacheScope });
    expect(all.blocks).toBeLessThanOrEqual(blocks(first) + blocks(second));
    expect(all.blocks).toBeGreaterThan(Math.max(blocks(first), blocks(second)));

    const byTokens = await model.saveState(path, { cacheScope, tokens: first.tokens });
    expect(byTokens.blocks).toBe(blocks(first));
    await using other = await loadModel(modelPath(smollm2), options);
    expect(await other.loadState(path, { cacheScope })).toMatchObject({ blocks: byTokens.blocks });
    const next = [...first.tokens, ...tokens(20)];
    const expected = await answerOf(next, { cachePrompt: false });
    const continued = await answerOf(next, { cacheScope }, other);
    expect(continued.usage.cachedTokens).toBe(byTokens.tokens);
    expect([continued.tokens, continued.logprobs]).toEqual([expected.tokens, expected.logprobs]);
    // Of the other conversation it has what the template begins both with, at most.
    expect((await talk("Where is the wind from?", {}, other)).result.usage.cachedTokens).toBeLessThanOrEqual(
      32,
    );

    const byMessages = await model.saveState(path, { cacheScope, messages: first.messages });
    expect(byMessages.blocks).toBe(Math.floor(first.result.promptTokens.length / 32));
    const elsewhere = { cacheScope: "elsewhere" };
    expect((await other.loadState(path, elsewhere)).blocks).toBe(byMessages.blocks);
    const again = await talk("What do fish eat?", elsewhere, other);
    expect(again.result.usage.cachedTokens).toBe(byMessages.tokens);
    expect(again.result.text).toBe(first.result.text);
    const bytes = readFileSync(path);
    const { messages } = first;
    for (const nothing of [{ messages }, { cacheScope, tokens: tokens(20) }, { cacheScope, maxBytes: 0 }])
      expect(await codeOf(model.saveState(path, nothing))).toBe("ERR_INHOUSE_STATE_EMPTY");
    const long = [say("A conversation longer than the context. ".repeat(10))];
    const overflow = { cacheScope, messages: long };
    expect(await codeOf(model.saveState(path, overflow))).toBe("ERR_INHOUSE_CONTEXT_OVERFLOW");
    expect(readFileSync(path).equals(bytes)).toBe(true);
  });

  it("is written and read while others go on", async () => {
    const path = join(folder, "busy");
    await answerOf(tokens(100, 5)); // so that there is something to save from the beginning
    const alone = await answerOf(tokens(100, 3), { maxTokens: 60, cachePrompt: false });
    const running = [1, 2, 3].map(() => answerOf(tokens(100, 3), { maxTokens: 60 }));
    for (let i = 0; i < 5; i++) {
      await model.saveState(path);
      await model.loadState(path);
    }
    for (const answer of await Promise.all(running)) expect(answer.tokens).toEqual(alone.tokens);
  });
});

describe("what an adapter computed", () => {
  it("comes back with the same adapter at the same scale, and no other", async () => {
    const file = writeGguf(join(folder, "tiny.gguf"), tinyModel());
    const write = (name: string, seed: number): string => {
      writeFileSync(join(folder, name), ggufAdapter(tinyPairs(seed), 8));
      return join(folder, name);
    };
    const path = join(folder, "adapted");
    const prompt = Array.from({ length: 100 }, (_, i) => 3 + ((i * 7) % 20));
    const ask = (of: Model, adapter: SaveStateOptions["adapter"]) =>
      of.complete(prompt, { ...greedy, maxTokens: 4, logprobs: 1, adapter }).result();
    await using first = await loadModel(file, { device, contextLength: 256 });
    const adapter = { adapter: await first.loadAdapter(write("one.gguf", 7)), scale: 0.5 };
    const before = await ask(first, adapter);
    expect(await codeOf(first.saveState(path))).toBe("ERR_INHOUSE_STATE_EMPTY");
    const unscaled = { adapter: adapter.adapter };
    expect(await codeOf(first.saveState(path, unscaled))).toBe("ERR_INHOUSE_STATE_EMPTY");
    expect((await first.saveState(path, { adapter, tokens: prompt })).blocks).toBe(3);

    await using second = await loadModel(file, { device, contextLength: 256 });
    const same = await second.loadAdapter(write("same.gguf", 7));
    const other = await second.loadAdapter(write("other.gguf", 8));
    for (const [given, why] of [
      [undefined, /was saved with an adapter/],
      [same, /at scale 0\.5/],
      [{ adapter: other, scale: 0.5 }, /another adapter/],
    ] as const) {
      await expect(second.loadState(path, { adapter: given })).rejects.toThrow(why);
      expect(await codeOf(second.loadState(path, { adapter: given }))).toBe("ERR_INHOUSE_STATE_INVALID");
    }
    expect(second.stats().kv.kept).toBe(0);
    expect((await second.loadState(path, { adapter: { adapter: same, scale: 0.5 } })).blocks).toBe(3);
    expect((await ask(second, undefined)).usage.cachedTokens).toBe(0);
    const after = await ask(second, { adapter: same, scale: 0.5 });
    expect(after.usage.cachedTokens).toBe(96);
    expect([after.tokens, after.logprobs]).toEqual([before.tokens, before.logprobs]);
    expect(await codeOf(first.loadState(path, { adapter: same }))).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
    same.dispose();
    expect(await codeOf(second.saveState(path, { adapter: same }))).toBe("ERR_INHOUSE_DISPOSED");
  });
});

describe("a file that does not belong", () => {
  it("is refused, and says why", async () => {
    const path = join(folder, "refused");
    await answerOf(tokens(100, 4));
    await model.saveState(path);
    const bytes = readFileSync(path);
    const kept = model.stats().kv.kept;
    const damaged = Buffer.from(bytes);
    damaged[bytes.length - 100] ^= 1;
    for (const [content, why] of [
      [damaged, /checksum of block/],
      [bytes.subarray(0, bytes.length - 1), /cut off/],
      [Buffer.from("GGUF and more"), /not a saved state/],
      [Buffer.alloc(0), /not a saved state/],
    ] as const) {
      writeFileSync(path, content);
      await expect(model.loadState(path)).rejects.toThrow(why);
      expect(await codeOf(model.loadState(path))).toBe("ERR_INHOUSE_STATE_INVALID");
    }
    expect(model.stats().kv.kept).toBe(kept);
    writeFileSync(path, bytes);
    await using other = await loadModel(modelPath(smollm2), { ...options, kvType: "q8_0" });
    await expect(other.loadState(path)).rejects.toThrow(/this model's kvType is q8_0 and q8_0/);
    expect(await codeOf(model.loadState(join(folder, "none")))).toBe("ERR_INHOUSE_FILE_NOT_FOUND");
    expect(await codeOf(model.loadState(folder))).toBe("ERR_INHOUSE_FILE_READ");
  });

  it("keeps its place where writing fails", async () => {
    expect(await codeOf(model.saveState(join(folder, "no/folder")))).toBe("ERR_INHOUSE_FILE_WRITE");
    expect(await codeOf(model.saveState(folder))).toBe("ERR_INHOUSE_FILE_WRITE");
    const other = join(folder, "letter.txt");
    writeFileSync(other, "not a state");
    expect(await codeOf(model.saveState(other))).toBe("ERR_INHOUSE_FILE_WRITE");
    expect(readFileSync(other, "utf8")).toBe("not a state");
    expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
  });
});

it("wrong arguments, signals and a disposed model reject", async () => {
  const path = join(folder, "never");
  const wrong = [
    model.saveState(3 as unknown as string),
    model.saveState(""),
    model.saveState(path, { maxBytes: -1 }),
    model.saveState(path, { scope: "x" } as object),
    model.loadState(path, { maxBytes: 1 } as object),
    model.loadState(path, { tokens: [1] } as object),
    model.saveState(path, { tokens: [] }),
    model.saveState(path, { tokens: [1, -2] }),
    model.saveState(path, { tokens: 5 as unknown as number[] }),
    model.saveState(path, { messages: "hello" as unknown as [] }),
    model.saveState(path, { tokens: [1], messages: [{ role: "user", content: "hello" }] }),
    model.saveState(path, { adapter: {} as unknown as Adapter }),
    model.loadState(path, { cacheScope: 1 as unknown as string }),
  ];
  for (const promise of wrong) expect(await codeOf(promise)).toBe("ERR_INHOUSE_INVALID_ARGUMENT");
  const reason = new Error("enough");
  expect(await codeOf(model.saveState(path, { signal: AbortSignal.abort(reason) }))).toBe(reason);
  expect(readdirSync(folder)).not.toContain("never");

  const other = await loadModel(modelPath(smollm2), options);
  await answerOf(tokens(500), {}, other);
  const saving = codeOf(other.saveState(path));
  await other.dispose();
  expect([undefined, "ERR_INHOUSE_DISPOSED"]).toContain(await saving);
  expect(await codeOf(other.saveState(path))).toBe("ERR_INHOUSE_DISPOSED");
  expect(await codeOf(other.loadState(path))).toBe("ERR_INHOUSE_DISPOSED");
  expect(readdirSync(folder).filter((name) => name.endsWith(".tmp"))).toEqual([]);
});
