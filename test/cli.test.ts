import { type ChildProcess, spawn, spawnSync, type SpawnOptions } from "node:child_process";
import {
  closeSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";

import type { BenchResult } from "../lib/cli/commands/bench.ts";
import { inFlags } from "../dist/cli/settings.js";
import { ggufAdapter, tinyPairs } from "./support/adapters.ts";
import { tinyModel, writeGguf } from "./support/gguf-writer.ts";
import { device, modelPath, smollm2 } from "./support/models.ts";

const root = join(import.meta.dirname, "..");
const program = join(root, "dist/cli/main.js");
const model = modelPath(smollm2);
const onDevice = ["--device", device];
const commands = [
  "run",
  "embed",
  "inspect",
  "pull",
  "list",
  "rm",
  "bench",
  "bench serving",
  "eval perplexity",
];

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), "inhouse-cli-"));
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

interface Ended {
  code: number | null;
  signal: NodeJS.Signals | null;
  stdout: string;
  stderr: string;
}

function start(args: string[], options: SpawnOptions = {}): ChildProcess {
  return spawn(process.execPath, [program, ...args], {
    env: { ...process.env, INHOUSE_CACHE: join(folder, "cache") },
    stdio: ["ignore", "pipe", "pipe"],
    ...options,
  });
}

function end(child: ChildProcess): Promise<Ended> {
  let stdout = "";
  let stderr = "";
  child.stdout?.on("data", (data: Buffer) => (stdout += data.toString()));
  child.stderr?.on("data", (data: Buffer) => (stderr += data.toString()));
  return new Promise((resolve) =>
    child.on("close", (code, signal) => resolve({ code, signal, stdout, stderr })),
  );
}

const inhouse = (...args: string[]) => end(start(args));

/** Runs a command with text on stdin. */
function feed(text: string, ...args: string[]): Promise<Ended> {
  const child = start(args, { stdio: ["pipe", "pipe", "pipe"] });
  child.stdin!.end(text);
  return end(child);
}

const first = (stream: NodeJS.ReadableStream | null) =>
  new Promise((resolve) => stream!.once("data", resolve));

describe("help and usage", () => {
  test("help of the program and of each command", async () => {
    const help = await inhouse("--help");
    expect([help.code, help.stderr]).toEqual([0, ""]);
    for (const name of commands) {
      expect(help.stdout).toContain(`  ${name} `);
      const own = await inhouse(...name.split(" "), "--help");
      expect([own.code, own.stdout]).toEqual([0, expect.stringContaining(`Usage: inhouse ${name} `)]);
      expect(Math.max(...own.stdout.split("\n").map((line) => line.length))).toBeLessThanOrEqual(110);
    }
    const { version } = JSON.parse(readFileSync(join(root, "package.json"), "utf8")) as { version: string };
    expect(await inhouse("--version")).toMatchObject({ code: 0, stdout: `${version}\n` });
  });

  test("each sampling setting has a flag in help", async () => {
    const { stdout } = await inhouse("run", "-h");
    for (const flag of [
      "temperature",
      "top-k",
      "top-p",
      "min-p",
      "seed",
      "dry-breakers",
      "logit-bias",
      "override",
    ]) {
      expect(stdout).toMatch(new RegExp(`--${flag} [A-Z=]+`));
    }
  });

  test("docs/cli.md has every flag, and says of it what help says", async () => {
    const plain = (text: string) => text.replaceAll("\\", "").replace(/\s+/g, " ");
    const docs = plain(readFileSync(join(root, "docs/cli.md"), "utf8"));
    for (const name of commands) {
      const { stdout } = await inhouse(...name.split(" "), "--help");
      const rows = stdout.matchAll(
        /^ {2}((?:-\w, )?--[\w-]+(?: [A-Z]\S*)?)(?: …)?\s+(\S.*(?:\n {4,}.*)*)\.$/gm,
      );
      for (const [, flag, text] of rows) {
        expect(docs).toContain(`\`${flag}\``);
        expect(docs).toContain(plain(text));
      }
    }
  });

  const wrong: [string, string[], string][] = [
    ["no command", [], "no command given"],
    ["unknown command", ["rum"], "did you mean run?"],
    ["no model", ["run"], "too few operands"],
    ["too many operands", ["run", model, "a", "b"], "too many operands"],
    ["unknown flag", ["run", model, "x", "--temprature", "1"], "did you mean --temperature?"],
    ["a flag without its value", ["run", model, "x", "--seed"], "--seed"],
    ["a value for a switch", ["run", model, "x", "--raw=1"], "--raw"],
    ["a short flag without its value", ["run", "x", "-t", "-abc"], "--threads: expected a value"],
    ["a flag as a short flag's value", ["bench", "x", "-t", "--json"], "--threads: expected a value"],
    ["a short flag out of range", ["run", "x", "-t", "-1"], '1 to 512 or auto, got "-1"'],
    ["a value for a short switch", ["run", "x", "-q=1"], "unknown flag -="],
    ["not a number", ["run", model, "x", "--temperature", "hot"], "--temperature"],
    ["out of range", ["run", model, "x", "--top-p", "1.5"], "--top-p"],
    ["negative", ["run", model, "x", "--top-k", "-5"], "--top-k"],
    ["not whole", ["run", model, "x", "--max-tokens", "1.5"], "--max-tokens"],
    [
      "threads",
      ["run", model, "x", "--threads", "0"],
      "--threads: expected a whole number from 1 to 512 or auto",
    ],
    ["device", ["run", model, "x", "--device", "abacus"], '--device: expected "auto", "cpu", "cuda"'],
    ["override", ["run", model, "x", "--override", "key"], "--override: expected KEY=VALUE"],
    ["bias", ["run", model, "x", "--logit-bias", "5"], "--logit-bias"],
    ["system and raw", ["run", model, "x", "--raw", "--system", "y"], "--system"],
    ["nothing to evaluate", ["eval", "perplexity", model], "--file or --tokens"],
    [
      "a window that scores nothing",
      ["eval", "perplexity", model, "--file", "a", "--context", "2"],
      "from 3",
    ],
    ["nothing to embed", ["embed"], "too few operands: expected inhouse embed MODEL"],
    ["texts twice", ["embed", model, "x", "--file", "y"], "not both"],
    ["an unknown pooling", ["embed", model, "x", "--pooling", "max"], "--pooling: expected mean, cls, last"],
    ["more dimensions than there are", ["embed", model, "x", "--dimensions", "577"], "--dimensions"],
    ["half a command", ["eval"], "expected inhouse eval perplexity MODEL"],
    ["help of no command", ["help", "rum"], "did you mean run?"],
    ["a flag as a value", ["run", model, "x", "--threads", "--raw"], "--threads: expected a value"],
    ["an empty stop text", ["run", model, "x", "--stop", ""], "--stop is [ '' ]"],
    ["a token beyond the vocabulary", ["run", model, "x", "--stop-token", "99999"], "--stop-token has 99999"],
    ["both to evaluate", ["eval", "perplexity", model, "--file", "a", "--tokens", "b"], "--file or --tokens"],
  ];
  test.each(wrong)("%s: exit code 2", async (_, args, text) => {
    const { code, stdout, stderr } = await inhouse(...args);
    expect([code, stdout, stderr]).toEqual([2, "", expect.stringContaining(text)]);
    expect(stderr).toMatch(/^inhouse: .*\n$/);
  });

  test("half a command has help", async () => {
    for (const args of [
      ["eval", "--help"],
      ["help", "eval"],
    ])
      expect((await inhouse(...args)).stdout).toContain("Usage: inhouse eval perplexity MODEL");
  });

  test("what fails has exit code 1 and its error code", async () => {
    const missing = await inhouse("run", "no-such-model", "hello");
    expect([missing.code, missing.stdout]).toEqual([1, ""]);
    expect(missing.stderr).toMatch(/no-such-model.*inhouse pull NAME.*ERR_INHOUSE_MODEL_NOT_FOUND/);
    const known = await inhouse("inspect", "smollm2");
    expect([known.code, known.stderr]).toEqual([1, expect.stringContaining("inhouse pull smollm2:135m")]);
    const other = await inhouse("inspect", join(root, "package.json"));
    expect([other.code, other.stderr]).toEqual([1, expect.stringContaining("ERR_INHOUSE_GGUF_MAGIC")]);
    const unknown = await inhouse("bench", model, "--override", "general.architecture=foo");
    expect([unknown.code, unknown.stdout]).toEqual([1, ""]);
    expect(unknown.stderr).toMatch(/^inhouse: .*"foo".*\(ERR_INHOUSE_UNSUPPORTED_ARCHITECTURE\)\n$/);
    expect((await inhouse("pull", "no-such-model")).code).toBe(1);
  });

  test("files that cannot be read, in the command line's words", async () => {
    const none = join(folder, "none");
    const ids = join(folder, "two.json");
    writeFileSync(ids, "[1, 2]");
    for (const [args, message] of [
      [["inspect", folder], "is a directory; expected a regular file (ERR_INHOUSE_FILE_READ)"],
      [["inspect", "/dev/null"], "is a device; expected a regular file (ERR_INHOUSE_FILE_READ)"],
      [
        ["run", model, "x", "--template", none],
        "none: no such file or directory (ERR_INHOUSE_FILE_NOT_FOUND)",
      ],
      [
        ["run", model, "x", "--template", "/dev/zero"],
        "longer than 100 MB, which is the most that is read (ERR_INHOUSE_FILE_READ)",
      ],
      [["run", model, "x", "--template", folder], "illegal operation on a directory (ERR_INHOUSE_FILE_READ)"],
      [["eval", "perplexity", model, "--file", none], `--file: ${none}: no such file`],
      [
        ["eval", "perplexity", model, "--tokens", ids, "--logprobs", join(none, "x")],
        "no such file or directory",
      ],
      [["run", model, "x", "--context", "4"], "larger --context (ERR_INHOUSE_CONTEXT_OVERFLOW)"],
    ] as const) {
      const { code, stdout, stderr } = await inhouse(...args);
      expect([code, stdout, stderr]).toEqual([1, "", expect.stringContaining(message)]);
      expect(stderr).toMatch(/^inhouse: .*\n$/);
      expect(stderr).not.toContain("ENO");
    }
  });

  test("names of options become flags in the library's words alone, not in paths", async () => {
    for (const name of ["maxTokens", "topP.gguf", "my maxTokens/x"]) {
      const path = join(folder, "none", name);
      const { stderr } = await inhouse("inspect", path, "--override", "a=b");
      expect(stderr).toContain(path);
    }
    const weights = "of /data/maxTokens/topP take 9 MB; use repack or repack: false to compute";
    expect(inFlags(weights)).toBe(weights.replace("repack: false", "--no-repack"));
    expect(inFlags("load with a larger contextLength")).toBe("load with a larger --context");
    expect(inFlags("loadModel: option 'maxBatchTokens' is 1")).toBe("--max-batch-tokens is 1");
    expect(inFlags("chat: option 'template': no end")).toBe("--template: no end");
    expect(inFlags("dryMultiplier * dryBase^(length - dryAllowedLength).")).toBe(
      "--dry-multiplier * --dry-base^(length - --dry-allowed-length).",
    );
  });

  test("the store", async () => {
    expect(await inhouse("list", "--json")).toMatchObject({ code: 0, stdout: "[]\n" });
    expect(await inhouse("rm", "smollm2:135m")).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^inhouse: no model in the store is called .* \(the store is empty\)/),
    });
    const store = join(folder, "cache", "models");
    mkdirSync(store, { recursive: true });
    writeFileSync(join(store, "odd.gguf"), "x");
    expect((await inhouse("list")).stdout).toMatch(/^odd +1 B +not a GGUF file/);
    expect((await inhouse("run", "odd", "x")).stderr).toContain("ERR_INHOUSE_GGUF_MAGIC");
    expect((await inhouse("rm", "odd")).code).toBe(0);
  });
});

describe("run", () => {
  // The reference device, whose greedy text is that of an independent implementation.
  const greedy = ["--temperature", "0", "--max-tokens", "20", "--device", "reference"];

  test("--raw continues a text as the reference does", async () => {
    const { code, stdout, stderr } = await inhouse(
      "run",
      model,
      "The capital of France is",
      "--raw",
      ...greedy,
    );
    expect([code, stdout]).toEqual([0, " Paris.\n\nThe answer is: 2018-01-22 \n"]);
    expect(stderr).toContain("prompt 5 tokens");
    expect(stderr).toContain("answer 20 tokens");
  });

  test("--json prints one document", async () => {
    const { code, stdout, stderr } = await inhouse(
      "run",
      model,
      "What is the capital of France?",
      "--json",
      ...greedy,
    );
    expect([code, stderr]).toEqual([0, ""]);
    const result = JSON.parse(stdout) as Record<string, never>;
    expect(result).toMatchObject({
      text: "The capital of France is Paris.",
      finishReason: "stop",
      usage: { promptTokens: 37, completionTokens: 7 },
      timings: { promptTokensPerSecond: expect.any(Number), timeToFirstTokenMs: expect.any(Number) },
    });
    expect(result.promptTokens).toHaveLength(37);
    expect(result.tokens).toEqual([504, 3575, 282, 4649, 314, 7042, 30]);
  });

  test("embed prints a vector for each text, from operands, a file or stdin", async () => {
    const flags = [...onDevice, "--dimensions", "3", "--pooling", "last"];
    const { code, stdout, stderr } = await inhouse("embed", model, "one text", "another", ...flags);
    expect([code, stderr]).toEqual([0, ""]);
    const vectors = stdout
      .trimEnd()
      .split("\n")
      .map((line) => JSON.parse(line) as number[]);
    expect(vectors.map((vector) => vector.length)).toEqual([3, 3]);
    expect(Math.hypot(...vectors[0])).toBeCloseTo(1, 5);
    const path = join(folder, "texts.txt");
    writeFileSync(path, "one text\r\nanother\n");
    const document = JSON.parse(
      (await inhouse("embed", model, "--file", path, "--json", ...flags)).stdout,
    ) as object;
    expect(document).toMatchObject({ pooling: "last", dimensions: 3, vectors });
    expect((await feed("one text\nanother", "embed", model, ...flags)).stdout).toBe(stdout);
    const empty = await feed("one text\n\nanother", "embed", model, ...flags);
    expect([empty.code, empty.stderr]).toEqual([2, expect.stringContaining("text 1 has no tokens")]);
  });

  test("--max-tokens 0 computes the prompt alone, as in the library", async () => {
    const args = ["run", model, "Hello", "--max-tokens", "0", ...onDevice];
    const { code, stdout } = await inhouse(...args, "--json");
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({ text: "", tokens: [], finishReason: "length" });
    expect(await inhouse(...args)).toMatchObject({ code: 0, stderr: expect.not.stringContaining("NaN") });
  });

  test("the prompt from stdin, and a system message", async () => {
    const args = [model, "--json", "--max-tokens", "1", ...onDevice];
    const piped = JSON.parse((await feed("Hello\n", "run", ...args)).stdout) as Record<string, unknown>;
    const given = JSON.parse((await inhouse("run", ...args, "--", "Hello")).stdout) as Record<
      string,
      unknown
    >;
    expect(piped.promptTokens).toEqual(given.promptTokens);
    const system = await feed("Hello", "run", model, "-", ...args.slice(1), "--system", "Be brief.");
    expect((JSON.parse(system.stdout) as Record<string, unknown>).promptTokens).not.toEqual(
      given.promptTokens,
    );
    expect(await feed("", "run", ...args)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("stdin"),
    });
    const endless = start(["run", ...args], { stdio: [openSync("/dev/zero", "r"), "pipe", "pipe"] });
    expect(await end(endless)).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^inhouse: stdin: .* \(ERR_INHOUSE_FILE_READ\)\n$/),
    });
  });

  test("an answer that was cut says so, unless it is to be quiet", async () => {
    const cut = await inhouse("run", model, "Tell me a story", "--max-tokens", "3", ...onDevice);
    expect(cut.stderr).toMatch(/^\(cut at --max-tokens 3\)\nprompt /);
    const full = await inhouse("run", model, "Tell me a story", "--context", "40", ...onDevice);
    expect(full.stderr).toContain("(cut: the context of 40 tokens is full; --context N");
    const whole = await inhouse("run", model, "What is the capital of France?", ...greedy);
    expect(whole.stderr).not.toContain("cut");
  });

  test("a model without a chat template continues texts alone", async () => {
    const base = writeGguf(join(folder, "base.gguf"), tinyModel());
    const refused = await inhouse("run", base, "hello");
    expect([refused.code, refused.stderr]).toEqual([1, expect.stringMatching(/--raw .*--template FILE/)]);
    expect((await inhouse("run", base, "hello", "--raw", "--max-tokens", "2")).code).toBe(0);
  });

  test("the same seed gives the same text", async () => {
    const args = [
      "run",
      model,
      "Tell me a story",
      "--max-tokens",
      "12",
      "--temperature",
      "1.5",
      "-q",
      ...onDevice,
    ];
    const [a, b, c] = await Promise.all(["7", "7", "8"].map((seed) => inhouse(...args, "--seed", seed)));
    expect(a.stdout).toBe(b.stdout);
    expect(a.stdout).not.toBe(c.stdout);
    expect(a.stderr).toBe("");
  });

  test("goes on from a state that another run saved", async () => {
    const state = join(folder, "run.state");
    const sea =
      "Tell me about the sea, its fish, its ships and its weather, and about the people on its shores.";
    const text = `${sea} ${sea}`;
    const args = [text, "--raw", "--temperature", "0", "--max-tokens", "8", "--json", ...onDevice];
    const run = async (...more: string[]) => {
      const { code, stdout, stderr } = await inhouse("run", model, ...args, ...more);
      expect([code, stderr]).toEqual([0, ""]);
      return JSON.parse(stdout) as { text: string; usage: { cachedTokens: number; promptTokens: number } };
    };
    const first = await run("--save-state", state);
    const second = await run("--load-state", state);
    expect([first.usage.cachedTokens, second.text]).toEqual([0, first.text]);
    expect(second.usage.cachedTokens).toBe(Math.floor((second.usage.promptTokens - 1) / 32) * 32);
    expect(second.usage.cachedTokens).toBeGreaterThan(0);
    writeFileSync(state, "no state");
    const refused = await inhouse("run", model, ...args, "--load-state", state);
    expect([refused.code, refused.stdout, refused.stderr]).toEqual([
      1,
      "",
      expect.stringContaining("ERR_INHOUSE_STATE_INVALID"),
    ]);
  });

  test("an adapter, as trained and scaled", async () => {
    const file = writeGguf(join(folder, "tiny-for-adapters.gguf"), tinyModel());
    const adapter = join(folder, "a=b.gguf");
    writeFileSync(adapter, ggufAdapter(tinyPairs(7), 8));
    const run = async (...args: string[]): Promise<string> => {
      const common = ["--raw", "--temperature", "0", "--max-tokens", "12", "--ignore-stop-tokens", "--json"];
      const { code, stdout, stderr } = await inhouse(
        "run",
        file,
        "a question",
        ...common,
        ...onDevice,
        ...args,
      );
      expect([code, stderr]).toEqual([0, ""]);
      return (JSON.parse(stdout) as { text: string }).text;
    };
    const plain = await run();
    expect(await run("--adapter", `${adapter}=0`)).toBe(plain);
    expect(await run("--adapter", adapter)).not.toBe(plain);
    expect(await run("--adapter", `${adapter}=1.0`)).toBe(await run("--adapter", adapter));
    const other = async (...args: string[]): Promise<unknown> => {
      const { code, stdout, stderr } = await inhouse(...args, "--json", ...onDevice);
      expect([code, stderr]).toEqual([0, ""]);
      return JSON.parse(stdout);
    };
    const text = join(folder, "text-for-adapters.txt");
    writeFileSync(text, "a question of style");
    for (const [field, ...command] of [
      ["vectors", "embed", file, "a question"],
      ["perplexity", "eval", "perplexity", file, "--file", text, "--context", "16"],
    ]) {
      const of = async (...args: string[]) =>
        ((await other(...command, ...args)) as Record<string, unknown>)[field];
      const without = await of();
      expect(await of("--adapter", `${adapter}=0`)).toEqual(without);
      expect(await of("--adapter", adapter)).not.toEqual(without);
    }
    const sizes = [
      "--prompt",
      "4",
      "--depth",
      "4",
      "--streams",
      "1",
      "--decode-tokens",
      "2",
      "--rounds",
      "1",
    ];
    expect(
      await inhouse("bench", file, ...sizes, "--context", "128", "--adapter", adapter, ...onDevice),
    ).toMatchObject({
      code: 0,
    });
    for (const command of [
      ["embed", file, "x"],
      ["bench", file, ...sizes, "--context", "128"],
      ["eval", "perplexity", file, "--file", text],
    ])
      expect(await inhouse(...command, "--adapter", file, ...onDevice)).toMatchObject({
        code: 1,
        stdout: "",
        stderr: expect.stringContaining("ERR_INHOUSE_ADAPTER_INVALID") as string,
      });
    const refused = await inhouse("run", file, "x", "--raw", "--adapter", file, ...onDevice);
    expect([refused.code, refused.stderr]).toEqual([
      1,
      expect.stringContaining("ERR_INHOUSE_ADAPTER_INVALID"),
    ]);
  });

  test("a template of one's own, stop texts and overrides", async () => {
    const path = join(folder, "raw.jinja");
    writeFileSync(path, "{{ messages[0].content }}");
    const args = [
      "run",
      model,
      "The capital of France is",
      "--template",
      path,
      "--stop",
      "answer",
      "--json",
      ...greedy,
    ];
    const result = JSON.parse((await inhouse(...args)).stdout) as Record<string, unknown>;
    expect(result).toMatchObject({ text: " Paris.\n\nThe ", finishReason: "stop" });
    writeFileSync(path, "{% for i in range(1000000000) %}{% endfor %}");
    expect(await inhouse(...args)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining("TEMPLATE_LIMIT"),
    });
    const wrong = await inhouse("run", model, "x", "--override", "llama.block_count=7", ...greedy);
    expect([wrong.code, wrong.stderr]).toEqual([1, expect.stringContaining("ERR_INHOUSE_")]);
  });
});

describe("interruptions", () => {
  const long = [
    "run",
    model,
    "Count to a thousand.",
    "--ignore-stop-tokens",
    "--max-tokens",
    "4000",
    ...onDevice,
  ];

  test("Ctrl-C ends an answer cleanly with 130", async () => {
    const child = start(long);
    const ended = end(child);
    await first(child.stdout);
    child.kill("SIGINT");
    const { code, stdout, stderr } = await ended;
    expect([code, stdout.endsWith("\n")]).toEqual([130, true]);
    expect(stderr).toContain("cancelled");
  });

  test("SIGTERM ends an answer as cleanly, with 143", async () => {
    const child = start(long);
    const ended = end(child);
    await first(child.stdout);
    child.kill("SIGTERM");
    const { code, stdout, stderr } = await ended;
    expect([code, stdout.endsWith("\n"), stderr]).toEqual([143, true, expect.stringContaining("cancelled")]);
  });

  test("Ctrl-C with --json still prints the document", async () => {
    const child = start([...long, "--json"]);
    const ended = end(child);
    setTimeout(() => child.kill("SIGINT"), 2500);
    const { code, stdout } = await ended;
    expect(code).toBe(130);
    if (stdout !== "") expect(JSON.parse(stdout)).toMatchObject({ finishReason: "cancelled" });
  });

  test("Ctrl-C while loading", async () => {
    const child = start(long);
    const ended = end(child);
    setTimeout(() => child.kill("SIGINT"), 150);
    const { code, signal } = await ended;
    // Within the first moments of Node itself nobody listens yet.
    expect(code === 130 || signal === "SIGINT").toBe(true);
  });

  test.skipIf(process.platform === "win32")("a pull ends though a call never returns", async () => {
    const store = join(folder, "stuck", "models");
    mkdirSync(store, { recursive: true });
    // To open it for writing waits for a reader.
    spawnSync("mkfifo", [join(store, "SmolLM2-135M-Instruct.Q4_1.gguf.partial")]);
    const child = start(["pull", "smollm2:135m"], {
      env: { ...process.env, INHOUSE_CACHE: join(folder, "stuck") },
    });
    const ended = end(child);
    while (readdirSync(store).length < 2) await new Promise((resolve) => setTimeout(resolve, 20));
    setTimeout(() => child.kill("SIGTERM"), 300);
    expect((await ended).signal).toBe("SIGTERM");
  });

  test("a second Ctrl-C ends at once", async () => {
    // The reader does not read, so the program waits for it and cannot end by itself.
    const child = start(["inspect", model, "--json", "--arrays"]);
    await first(child.stdout);
    child.stdout!.pause();
    child.kill("SIGINT");
    await new Promise((resolve) => setTimeout(resolve, 200));
    child.kill("SIGINT");
    const [code, signal] = await new Promise<[number | null, string | null]>((resolve) =>
      child.on("exit", (...how) => resolve(how)),
    );
    expect(signal === "SIGINT" || code === 130).toBe(true);
  });

  test("a reader that goes away ends the program without a word", async () => {
    const child = start(long);
    const ended = end(child);
    await first(child.stdout);
    child.stdout!.destroy();
    expect(await ended).toMatchObject({ code: 0, stderr: "" });
    const shell = spawn("sh", [
      "-c",
      `"${process.execPath}" "${program}" inspect "${model}" --json --arrays | head -1`,
    ]);
    expect(await end(shell)).toMatchObject({ code: 0, stdout: "{\n", stderr: "" });
  });
});

describe.skipIf(process.platform === "win32")("a conversation on a terminal", () => {
  const python = join(root, "test/support/terminal.py");
  function converse(steps: [string, string][], ...args: string[]): Promise<Ended> {
    return converseWith(model, steps, ...args);
  }
  function converseWith(path: string, steps: [string, string][], ...args: string[]): Promise<Ended> {
    const command = [process.execPath, program, "run", path, "--temperature", "0", ...onDevice, ...args];
    return end(
      spawn("python3", [python, JSON.stringify(steps), ...command], { stdio: ["ignore", "pipe", "pipe"] }),
    );
  }

  test("answers, remembers, clears, cancels and ends", async () => {
    const steps: [string, string][] = [
      ["> ", "What is the capital of France?\r"],
      ["is Paris.", ""],
      ["> ", "/clear\r"],
      ["cleared", ""],
      ["> ", "/nonsense\r"],
      ["unknown command", ""],
      ["> ", "/exit\r"],
    ];
    const { code, stdout } = await converse(steps, "--device", "reference", "--max-tokens", "20");
    expect(code).toBe(0);
    expect(stdout).toContain("The capital of France is Paris.");
  });

  test("Ctrl-C cancels an answer, not the conversation; Ctrl-D ends it", async () => {
    const { code, stdout } = await converse(
      [
        ["> ", "Who are you?\r"],
        ["I", "\x03"],
        ["(cancelled)", ""],
        ["> ", "\x04"],
      ],
      "--ignore-stop-tokens",
    );
    expect([code, stdout]).toEqual([0, expect.stringContaining("(cancelled)")]);
  });

  test("Ctrl-C keeps a line that was typed meanwhile from being sent", async () => {
    const steps: [string, string][] = [
      ["> ", "Who are you?\r"],
      ["I", "What is the capital of France?\r"],
      ["France?", "half\x03"],
      ["(cancelled)", ""],
      ["> ", ""],
      ["half", "\x03"],
      ["> ", "/exit\r"],
    ];
    // Were it sent, its answer would go on, and no prompt would come.
    expect((await converse(steps, "--ignore-stop-tokens")).code).toBe(0);
  });

  test("an answer that was cut says so", async () => {
    const steps: [string, string][] = [
      ["> ", "Tell me a story\r"],
      ["(cut at --max-tokens 3)", ""],
      ["> ", "/exit\r"],
    ];
    expect((await converse(steps, "--max-tokens", "3")).code).toBe(0);
  });

  test("what cannot hold a conversation is refused before it begins, once", async () => {
    const base = writeGguf(join(folder, "base.gguf"), tinyModel());
    for (const args of [[base], [model, "--override", "tokenizer.chat_template="]] as const) {
      const { code, stdout } = await converseWith(args[0], [["> ", "hello\r"]], ...args.slice(1));
      expect([code, stdout.match(/--raw/g)]).toEqual([1, ["--raw"]]);
      expect(stdout).not.toContain("> ");
    }
  });

  test("a second Ctrl-C at the prompt ends with 130", async () => {
    const steps: [string, string][] = [
      ["> ", "\x03"],
      ["Ctrl-C again", ""],
      ["> ", "\x03"],
    ];
    expect(await converse(steps)).toMatchObject({ code: 130 });
  });

  test("control characters of a model stay harmless", async () => {
    const template = join(folder, "escape.jinja");
    writeFileSync(template, "{{ raise_exception('\u001b]0;title\u0007\u009b2J') }}");
    const { code, stdout } = await converse([["> ", "hello\r"]], "--template", template);
    expect([code, stdout]).toEqual([1, expect.stringContaining("\u241b]0;title\u2407")]);
    expect(stdout).not.toContain("\u001b]0;");
  });
});

describe("inspect, bench, eval", () => {
  test("inspect tells what the file says", async () => {
    const text = await inhouse("inspect", model);
    expect(text.stdout).toContain("architecture: llama");
    expect(text.stdout).toContain("llama.block_count (u32) = 30");
    const { code, stdout } = await inhouse(
      "inspect",
      model,
      "--json",
      "--override",
      "general.name=Mine \u009b31m",
    );
    expect(code).toBe(0);
    expect(stdout).not.toContain("\u009b");
    expect(JSON.parse(stdout)).toMatchObject({
      architecture: "llama",
      name: "Mine \u009b31m",
      parameters: 134515008,
      layers: 30,
      vocabularySize: 49152,
      hasChatTemplate: true,
      metadata: { "tokenizer.ggml.tokens": { type: "string", length: 49152 } },
    });
  });

  test("bench", async () => {
    const args = ["--prompt", "16", "--depth", "8", "--streams", "1,2", "--decode-tokens", "4"];
    const { code, stdout } = await inhouse("bench", model, ...args, "--rounds", "2", "--json", ...onDevice);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as BenchResult;
    expect(result.figures.map(({ name, unit }) => [name, unit])).toEqual([
      ["prompt of 16", "tokens/s"],
      ["decode at depth 8", "tokens/s"],
      ["decode at depth 64", "tokens/s"],
      ["2 streams at depth 64", "tokens/s"],
      ["load", "ms"],
      ["load to first token", "ms"],
      ["peak memory", "bytes"],
    ]);
    for (const { name, value, low, high, rounds, floor, share } of result.figures) {
      // The peak of a process never falls, so that only the first round's says something.
      expect(rounds, name).toHaveLength(name === "peak memory" ? 1 : 2);
      expect([low <= value, value <= high], name).toEqual([true, true]);
      expect(floor.value, name).toBeGreaterThan(0);
      expect(share, name).toBeGreaterThan(0);
    }
    expect(Math.min(...Object.values(result.limits))).toBeGreaterThan(1e8);
    expect(result).toMatchObject({
      model: { path: model, architecture: "llama" },
      versions: { node: process.versions.node },
      settings: { decodeTokens: 4, rounds: 2, contextLength: 69, maxBatchTokens: 512 },
    });
    const { threads, instructionSet, deviceDescription } = result.settings;
    expect(deviceDescription).toContain(`(${instructionSet}), ${threads} thread`);
  });

  test("bench leaves out defaults beyond the context, and refuses what is asked for", async () => {
    const short = ["bench", model, "--override", "llama.context_length=600", ...onDevice];
    for (const [args, needed] of [
      [["--prompt", "600"], "prompt of 600 needs a context of 601 tokens, more than the 600"],
      [["--depth", "600"], "decode at depth 600 needs"],
      [["--streams", "1", "--decode-tokens", "600"], "decode at depth 64 needs"],
      [["--streams", "16", "--decode-tokens", "2"], "16 streams at depth 64 need at least 4 tokens of each"],
      [["--streams", "1", "--decode-tokens", "1"], "decode at depth 64 needs at least 2 tokens"],
    ] as const) {
      const { code, stdout, stderr } = await inhouse(...short, ...args);
      expect([code, stdout, stderr]).toEqual([2, "", expect.stringContaining(needed)]);
    }
    const narrow = [...short, "--max-batch-tokens", "8"];
    const refused = await inhouse(...narrow, "--streams", "16");
    expect([refused.code, refused.stderr]).toEqual([
      2,
      expect.stringContaining(
        "16 streams at depth 64 need steps of 16 tokens, more than the 8 of --max-batch",
      ),
    ]);
    const sizes = ["--prompt", "16", "--streams", "1", "--decode-tokens", "4", "--rounds", "1"];
    const { code, stdout, stderr } = await inhouse(...short, ...sizes);
    expect([code, stdout]).toEqual([0, expect.stringContaining("medians of 1 round\n")]);
    expect(stderr).toMatch(
      /^left out: decode at depth 1024 needs .*\nleft out: decode at depth 4096 needs /m,
    );
  });

  test("bench --decode-tokens alone makes no streams wanted", async () => {
    const args = ["bench", model, "--prompt", "16", "--decode-tokens", "1", "--rounds", "1", "--json"];
    const { code, stdout, stderr } = await inhouse(...args, ...onDevice);
    expect(code).toBe(0);
    const names = (JSON.parse(stdout) as BenchResult).figures.map(({ name }) => name);
    expect(names).toEqual(["prompt of 16", "load", "load to first token", "peak memory"]);
    expect(stderr).toMatch(/^left out: decode at depth 64 needs at least 2 tokens/m);
    expect(stderr).toMatch(/^left out: 4 streams at depth 64 need at least 2 tokens of each stream/m);
  });

  test("bench leaves out more streams than a step has tokens", async () => {
    const sizes = ["--prompt", "16", "--depth", "8", "--max-batch-tokens", "8", "--rounds", "1"];
    const { code, stdout, stderr } = await inhouse("bench", model, ...sizes, "--json", ...onDevice);
    expect(code).toBe(0);
    const names = (JSON.parse(stdout) as BenchResult).figures.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(["decode at depth 64", "4 streams at depth 64"]));
    expect(names.filter((name) => /^(16|32) streams/.test(name))).toEqual([]);
    expect(stderr).toMatch(/^left out: 16 streams .*\nleft out: 32 streams /m);
  });

  test("bench of a vocabulary alone", async () => {
    const path = join(folder, "vocabulary.gguf");
    const { tensors: _, ...contents } = tinyModel();
    writeGguf(path, { ...contents, tensors: [] });
    const { code, stderr } = await inhouse("bench", path);
    expect([code, stderr]).toEqual([1, expect.stringContaining("ERR_INHOUSE_MODEL_INVALID")]);
  });

  test("eval perplexity of token ids, with log-probabilities", async () => {
    const ids = join(folder, "ids.json");
    const out = join(folder, "rows.bin");
    const tokens = [504, 3575, 282, 4649, 314, 7042, 30];
    writeFileSync(ids, JSON.stringify([tokens, tokens.slice(0, 3)]));
    const args = ["eval", "perplexity", model, "--tokens", ids, "--json", "--logprobs", out, ...onDevice];
    const { code, stdout } = await inhouse(...args);
    expect(code).toBe(0);
    const result = JSON.parse(stdout) as Record<string, number>;
    expect(result).toMatchObject({ tokens: 10, scoredTokens: 8, contexts: 2, vocabularySize: 49152 });

    expect(statSync(out).size).toBe(10 * 49152 * 4);
    const file = readFileSync(out);
    const logprob = (row: number, token: number) => file.readFloatLE((row * 49152 + token) * 4);
    const scored = [1, 2, 3, 4, 5, 6].map((at) => logprob(at - 1, tokens[at]));
    scored.push(logprob(7, tokens[1]), logprob(8, tokens[2]));
    const mean = -scored.reduce((sum, value) => sum + value, 0) / 8;
    expect(result.meanNegativeLogLikelihood).toBeCloseTo(mean, 5);
    expect(result.perplexity).toBeCloseTo(Math.exp(mean), 3);
    const total = Array.from({ length: 49152 }, (_, i) => Math.exp(logprob(9, i))).reduce((a, b) => a + b);
    expect(total).toBeCloseTo(1, 4);

    for (const [path, what] of [
      [model, "is the model"],
      [ids, "is the list of tokens"],
    ]) {
      const refused = await inhouse("eval", "perplexity", model, "--tokens", ids, "--logprobs", path);
      expect([refused.code, refused.stderr]).toEqual([2, expect.stringContaining(what)]);
    }
    expect(readFileSync(ids, "utf8")).toBe(JSON.stringify([tokens, tokens.slice(0, 3)]));

    // What fails later leaves the older file as it was.
    writeFileSync(ids, "[[1, 2], [1, 49152]]");
    const failed = await inhouse(...args);
    expect([failed.code, failed.stderr]).toEqual([1, expect.stringContaining("TOKEN_OUT_OF_RANGE")]);
    expect(readFileSync(out).equals(file)).toBe(true);
    expect(readdirSync(folder)).not.toContain("rows.bin.partial");
  });

  test("eval perplexity of a text in windows", async () => {
    const path = join(folder, "text.txt");
    writeFileSync(path, "The quick brown fox jumps over the lazy dog. ".repeat(12));
    const args = ["eval", "perplexity", model, "--file", path, "--json", ...onDevice];
    const windows = JSON.parse((await inhouse(...args, "--context", "32")).stdout) as Record<string, number>;
    expect(windows.contexts).toBe(Math.floor(120 / 32));
    expect(windows.scoredTokens).toBe(windows.contexts * 15);
    const whole = await inhouse(...args);
    expect(whole.stderr).toContain("less than one window of 512");
    expect(JSON.parse(whole.stdout)).toMatchObject({ contexts: 1 });
    expect((await inhouse(...args.filter((arg) => arg !== "--json"))).stdout).toMatch(/ in 1 context, /);
  });

  test("eval perplexity refuses what are no token ids", async () => {
    const path = join(folder, "bad.json");
    for (const [text, message] of [
      ["{", "not JSON"],
      ["[]", "not empty"],
      ["[1]", "at least two"],
      ['[1, "2"]', 'entry 1 is "2"'],
      ["[[1, 2], [3, -4]]", "context 1: entry 1 is -4"],
      ["[[1, 2], 3]", "context 1"],
    ] as const) {
      writeFileSync(path, text);
      const { code, stderr } = await inhouse("eval", "perplexity", model, "--tokens", path, ...onDevice);
      expect([text, code, stderr]).toEqual([text, 2, expect.stringContaining(message)]);
    }
    writeFileSync(path, "[1, 49152]");
    const out = join(folder, "never.bin");
    const result = await inhouse(
      "eval",
      "perplexity",
      model,
      "--tokens",
      path,
      "--logprobs",
      out,
      ...onDevice,
    );
    expect([result.code, result.stderr]).toEqual([1, expect.stringContaining("TOKEN_OUT_OF_RANGE")]);
    expect(() => closeSync(openSync(out, "r"))).toThrow();
  });
});
