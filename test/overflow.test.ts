// Prompts and answers that the context does not hold.
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { type ChatMessage, loadModel, type Model } from "../lib/index.js";
import { lastTurns } from "../lib/overflow.js";
import { device, modelPath, smollm2 } from "./support/models.js";

const greedy = { temperature: 0, ignoreStopTokens: true, speculation: "off" } as const;
let model: Model;

beforeAll(async () => {
  model = await loadModel(modelPath(smollm2), { device, contextLength: 1024, maxConcurrent: 4 });
});
afterAll(() => model.dispose());

const tokens = (count: number): number[] => Array.from({ length: count }, (_, i) => 1000 + ((i * 37) % 5000));

describe("overflow", () => {
  const system: ChatMessage = { role: "system", content: "Be brief." };
  const turns = Array.from({ length: 40 }, (_, i): ChatMessage[] => [
    { role: "user", content: `Question ${i}: ${"word ".repeat(30)}` },
    { role: "assistant", content: `Answer ${i}.` },
  ]).flat();
  const last: ChatMessage = { role: "user", content: "The end?" };

  it("is refused by default, with the sizes", async () => {
    await expect(model.chat([system, ...turns, last]).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_CONTEXT_OVERFLOW",
      message: expect.stringMatching(/\d+ tokens.*1024/) as string,
    });
  });

  it("drops the oldest turns, keeps the system prompt, and says so", async () => {
    const result = await model
      .chat([system, ...turns, last], { ...greedy, maxTokens: 20, overflow: "shift" })
      .result();
    const prompt = model.tokenizer.decode(Int32Array.from(result.promptTokens));
    expect(prompt).toContain("Be brief.");
    expect(prompt).toContain("The end?");
    expect(prompt).toContain("Question 39");
    expect(prompt).not.toContain("Question 3:");
    expect(result.dropped!.messages).toBeGreaterThan(0);
    expect(result.dropped!.messages % 2).toBe(0);
    expect(result.usage.promptTokens).toBeLessThan(1005);
    // Not a turn more than needed.
    const messages = [system, ...turns.slice(result.dropped!.messages - 2), last];
    const more = await model.chat(messages, { ...greedy, maxTokens: 0 }).result();
    expect(more.usage.promptTokens).toBeGreaterThan(1004);
    const fits = await model.chat([system, last], { ...greedy, maxTokens: 4, overflow: "shift" }).result();
    expect(fits.dropped).toEqual({ messages: 0, tokens: 0 });
  });

  it("refuses a last turn that does not fit", async () => {
    const long: ChatMessage = { role: "user", content: "word ".repeat(3000) };
    await expect(model.chat([system, ...turns, long], { overflow: "shift" }).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_CONTEXT_OVERFLOW",
    });
  });

  it("lets an answer go on", async () => {
    const options = { ...greedy, maxTokens: 1500, overflow: "shift" } as const;
    const result = await model.complete(tokens(3000), options).result();
    expect(result.tokens).toHaveLength(1500);
    expect(result.usage.promptTokens).toBe(512);
    expect(result.dropped!.tokens).toBeGreaterThan(3000 - 512);
  });

  it("keeps the system prompt of a conversation whose answer fills the context", async () => {
    const small = await loadModel(modelPath(smollm2), { device, contextLength: 128 });
    const user = (content: string): ChatMessage => ({ role: "user", content });
    const pirate: ChatMessage = { role: "system", content: "You are a pirate. ".repeat(5) };
    const options = { ...greedy, overflow: "shift" } as const;
    for (const turns of [[], [user("Hello."), { role: "assistant", content: "Arr." }]]) {
      const messages = [pirate, ...turns, user("Tell me a story.")];
      const { tokens, promptTokens, dropped } = await small
        .chat(messages, { ...options, maxTokens: 100 })
        .result();
      // The system's part is what any user would have said it to.
      const [one, other] = await Promise.all(
        ["Tell", "Sing"].map((said) => small.chat([pirate, user(said)], { maxTokens: 0 }).result()),
      );
      const keep = one.promptTokens.findIndex((id, i) => id !== other.promptTokens[i]);
      expect(small.tokenizer.decode(promptTokens.slice(0, keep))).toContain(
        "You are a pirate. You are a pirate.",
      );
      const all = [...promptTokens, ...tokens];
      const drop = (128 - keep) >> 1;
      expect(all.length).toBeGreaterThan(128);
      expect(dropped).toEqual({ messages: 0, tokens: drop });
      // The answer goes on as one to what is left.
      const left = [...all.slice(0, keep), ...all.slice(keep + drop, 128)];
      const after = await small.complete(left, { ...greedy, maxTokens: all.length - 128 }).result();
      expect(tokens.slice(128 - all.length)).toEqual(after.tokens);
    }
    await small.dispose();
  });

  it("refuses a prompt of which nothing would be left", async () => {
    const small = await loadModel(modelPath(smollm2), { device, contextLength: 1 });
    await expect(small.complete([100], { overflow: "shift" }).result()).rejects.toMatchObject({
      code: "ERR_INHOUSE_CONTEXT_OVERFLOW",
      message: expect.stringMatching(/has 1 tokens.*context of 1;/) as string,
    });
    const { usage } = await small.complete([100], { overflow: "shift", maxTokens: 0 }).result();
    expect(usage.promptTokens).toBe(1);
    await small.dispose();
  });
});

describe("lastTurns", () => {
  /** Messages of so many tokens, which begin with BOS and tell their roles. */
  const encode = (messages: readonly ChatMessage[]): Int32Array =>
    Int32Array.from([
      1,
      ...messages.flatMap(({ role, content }) => [
        role === "user" ? 2 : 3,
        ...Buffer.from(content!).map((byte) => 100 + byte),
      ]),
    ]);
  const instructions: ChatMessage = { role: "system", content: "s".repeat(39) };
  const said = (content: string): ChatMessage => ({ role: "user", content });
  const answer: ChatMessage = { role: "assistant", content: "well" };

  it.each([
    ["one turn", [said("hello")]],
    ["one that begins as any might", [said("a"), answer, said("a")]],
    ["turns that begin alike", [said("hello there"), answer, said("hello there")]],
  ])("keeps the system's part and no more, with %s", async (_, turns) => {
    const { keep, tokens } = await lastTurns([instructions, ...turns], encode, 256, undefined);
    expect(keep).toBe(1 + 40 + 1);
    expect(Array.from(tokens)).toEqual(Array.from(encode([instructions, ...turns])));
  });

  it("keeps it, too, where turns were dropped, and at most half of the context", async () => {
    const turns = Array.from({ length: 9 }, () => [said("hello there"), answer]).flat();
    const prompt = await lastTurns([instructions, ...turns, said("hello")], encode, 120, 20);
    expect(prompt.keep).toBe(42);
    expect(prompt.dropped!.messages).toBeGreaterThan(2);
    const long = { ...instructions, content: "s".repeat(100) };
    expect((await lastTurns([long, said("hello")], encode, 160, 20)).keep).toBe(80);
    expect((await lastTurns([said("hello")], encode, 160, 20)).keep).toBe(2);
  });
});
