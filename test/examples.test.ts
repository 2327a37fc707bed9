// The programs of examples/ do what they say.
import { type ChildProcess, spawn } from "node:child_process";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";

import { modelPath, smollm2 } from "./support/models.js";

const root = join(import.meta.dirname, "..");
const model = modelPath(smollm2);

function start(name: string, args: string[]): ChildProcess & { ended: Promise<Ended>; out: () => string } {
  const child = spawn(process.execPath, [join(root, "examples", name), ...args], { cwd: root });
  let stdout = "";
  let stderr = "";
  child.stdout.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr.on("data", (data: Buffer) => (stderr += data.toString()));
  const ended = new Promise<Ended>((resolve) =>
    child.on("close", (code) => resolve({ code, stdout, stderr })),
  );
  onTestFinished(() => void child.kill("SIGKILL"));
  return Object.assign(child, { ended, out: () => stdout });
}

interface Ended {
  code: number | null;
  stdout: string;
  stderr: string;
}

async function until(what: () => boolean): Promise<void> {
  while (!what()) await new Promise((resolve) => setTimeout(resolve, 10));
}

it("server.mjs streams answers, refuses wrong requests, and ends", async () => {
  const server = start("server.mjs", [model, "0"]);
  await until(() => server.out().includes("listening at "));
  const [, address] = /listening at (\S+)/.exec(server.out())!;
  const post = (body: unknown) =>
    fetch(`${address}/chat`, {
      method: "POST",
      headers: { "content-type": "application/json" },
      body: JSON.stringify(body),
    });
  const messages = [{ role: "user", content: "Say hello." }];

  const answer = await post({ messages, maxTokens: 5 });
  expect(answer.headers.get("content-type")).toContain("text/event-stream");
  const events = (await answer.text()).trimEnd().split("\n\n");
  expect(events.length).toBeGreaterThan(2);
  for (const event of events.slice(0, -1)) expect(event).toMatch(/^event: text\ndata: "/);
  expect(events.at(-1)).toMatch(/^event: end\ndata: \{"finishReason":"\w+","usage":\{/);

  const wrong = await post({ messages: "hello" });
  expect([wrong.status, ((await wrong.json()) as { code: string }).code]).toEqual([
    400,
    "ERR_INHOUSE_INVALID_ARGUMENT",
  ]);

  // A reader that goes away leaves the server able to answer the next one and to end.
  const long = await post({ messages, maxTokens: 5000 });
  const reader = long.body!.getReader();
  await reader.read();
  await reader.cancel();
  expect((await post({ messages, maxTokens: 1 })).status).toBe(200);
  server.kill("SIGTERM");
  expect(await server.ended).toMatchObject({ code: 0, stderr: "" });
});

it("worker.mjs answers all its prompts", async () => {
  const prompts = ["The capital of France is", "The capital of Italy is"];
  const { code, stdout, stderr } = await start("worker.mjs", [model, ...prompts]).ended;
  expect([code, stderr]).toEqual([0, ""]);
  expect(stdout).toMatch(/^The capital of France is Paris/m);
  expect(stdout).toMatch(/^The capital of Italy is/m);
});

it("worker.mjs says what is wrong with a model", async () => {
  const { code, stderr } = await start("worker.mjs", [join(root, "package.json"), "Hi"]).ended;
  expect([code, stderr]).toEqual([1, expect.stringMatching(/^.*package\.json: magic is .*\n$/)]);
});

it("ask.mjs answers about its input", async () => {
  const child = start("ask.mjs", [model, "What is it about?", "--max-tokens", "8"]);
  child.stdin!.end("The cat sat on the mat.\n".repeat(20));
  const { code, stdout, stderr } = await child.ended;
  expect(code).toBe(0);
  expect(stdout.trim()).not.toBe("");
  expect(stderr).toMatch(/^\d+ \+ \d+ tokens, \d+ tokens\/s, (length|stop)\n$/);
});

it("ask.mjs says in one line what is wrong", async () => {
  const { code, stderr } = await start("ask.mjs", [join(root, "none.gguf")]).ended;
  expect([code, stderr.trim().split("\n").length]).toEqual([1, 1]);
});

it("search.mjs finds three paragraphs, the nearest first", async () => {
  const { code, stdout, stderr } = await start("search.mjs", [
    model,
    "errors and their codes",
    "docs/errors.md",
  ]).ended;
  expect([code, stderr]).toEqual([0, ""]);
  const scores = [...stdout.matchAll(/^(0\.\d{3}) docs\/errors\.md: ./gm)].map(([, score]) => Number(score));
  expect(scores).toHaveLength(3);
  expect(scores).toEqual([...scores].sort((a, b) => b - a));
});

it.each(["worker.mjs", "search.mjs"])("%s says how it is used", async (name) => {
  const { code, stderr } = await start(name, [model]).ended;
  expect([code, stderr]).toEqual([2, expect.stringMatching(`^usage: node ${name} MODEL .*\n$`)]);
});

it("README.md names them all", () => {
  const readme = readFileSync(join(root, "examples/README.md"), "utf8");
  const files = readdirSync(join(root, "examples")).filter((name) => name.endsWith(".mjs"));
  expect(files.filter((name) => !readme.includes(`(${name})`))).toEqual([]);
});
