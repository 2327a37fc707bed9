import { execFile } from "node:child_process";
import { readFileSync } from "node:fs";
import { promisify } from "node:util";
import { describe, expect, test } from "vitest";

import { ChatTemplate } from "../dist/chat/template.js";
import { modelPath, smollm2 } from "./support/models.ts";
import { compareFileWithGolden, compareWithGolden, templateNames } from "./support/template-golden.ts";

const read = (path: string) => readFileSync(new URL(path, import.meta.url), "utf8");
const user = (content: string) => [{ role: "user", content }];
const render = (source: string, options = {}) => new ChatTemplate(source).render(user("hi"), options).text;

/** The code and message of what `task` throws. */
function failure(task: () => unknown): { code: string; message: string } {
  try {
    task();
  } catch (error) {
    return error as { code: string; message: string };
  }
  throw new Error("nothing was thrown");
}

describe("templates render as Python's jinja2 renders them", () => {
  for (const name of templateNames.filter((known) => !known.startsWith("sha256:"))) {
    test(name, () => compareWithGolden(name, read(`data/templates/${name}.jinja`)));
  }

  test("SmolLM2's own", () => compareFileWithGolden(modelPath(smollm2)));
});

describe("what a template can use", () => {
  test("variables, tokens and time", () => {
    const template = new ChatTemplate("{{ bos_token }}{{ mood }}{{ messages[0].x.y }}{{ eos_token }}", {
      bosToken: "<b>",
      eosToken: "<e>",
    });
    const messages = [{ role: "user", content: "", x: { y: 5 } }];
    expect(template.render(messages, { variables: { mood: "fine" } }).text).toBe("<b>fine5<e>");
    expect(render("{{ add_generation_prompt }}{{ messages is defined }}{{ tools is defined }}")).toBe(
      "TrueTrueFalse",
    );
    expect(render("{{ messages | length }}", { variables: { messages: [] } })).toBe("1");
    const now = new Date(2024, 6, 4, 9, 5, 3);
    expect(render("{{ strftime_now('%d %B %Y %b %-d %A %H:%M:%S %j %I%p %%') }}", { now })).toBe(
      "04 July 2024 Jul 4 Thursday 09:05:03 186 09AM %",
    );
  });

  test("nothing of JavaScript", () => {
    expect(
      render("{{ messages.constructor }}{{ ''.constructor }}{{ messages[0].__proto__ }}{{ toString }}"),
    ).toBe("");
    expect(render("{{ __proto__ }}{{ process }}{{ globalThis }}{{ range.constructor }}")).toBe("");
  });
});

describe("refusals", () => {
  test("a missing template names complete", () => {
    for (const source of [undefined, "", " \n"]) {
      const { code, message } = failure(() => new ChatTemplate(source));
      expect(code).toBe("ERR_INHOUSE_TEMPLATE_MISSING");
      expect(message).toContain("complete(");
    }
  });

  test("a template's own refusal and a broken template", () => {
    const refusal = failure(() => render("{{ raise_exception('only one system message') }}"));
    expect(refusal.code).toBe("ERR_INHOUSE_TEMPLATE_INVALID");
    expect(refusal.message).toContain("refuses this conversation: only one system message");
    for (const source of [
      "{% if %}",
      "{{ x(",
      "{% for %}",
      "{{ nothing() }}",
      "{% endif %}",
      "{{ 1 + none }}",
      "{#",
    ]) {
      expect(failure(() => render(source)).code, source).toBe("ERR_INHOUSE_TEMPLATE_INVALID");
    }
  });

  test("a broken template's line and column", () => {
    const table: [source: string, message: string][] = [
      ["{{", "line 1, column 3: the template ends within a tag or block"],
      ["a\n{% if x %}b", "line 2, column 12: the template ends"],
      ["a\n{# b", "line 2, column 5: the template ends"],
      ["a\n{{ 'b }}\n", "line 3, column 1: the template ends"],
      ["a\n  {% if %}b{% endif %}", "line 2, column 9: Unexpected token: CloseStatement"],
      ["a\n{{ b ? c }}", "line 2, column 6: Unexpected character: ?"],
      ["{{ 'a\\'b' }}\n\n{% unless a %}", "line 3, column 4: Unknown statement type: unless"],
      ["{% for a of b %}{% endfor %}", "line 1, column 10: Expected `in`"],
    ];
    for (const [source, message] of table) {
      expect(failure(() => render(source)).message).toContain(
        `the chat template cannot be parsed: ${message}`,
      );
    }
  });

  test("content that is null, where the template wants text", () => {
    const calls = [...user("hi"), { role: "assistant", content: null, tool_calls: [] }];
    const { code, message } = failure(() =>
      new ChatTemplate("{% for m in messages %}{{ 'a' + m.content }}{% endfor %}").render(calls),
    );
    expect(code).toBe("ERR_INHOUSE_TEMPLATE_INVALID");
    expect(message).toMatch(/cannot be rendered, maybe because messages\[1\]\.content is no text, .* ""/);
    expect(failure(() => render("{{ 'a' + none }}")).message).not.toContain("maybe");
  });

  test("messages of the wrong shape", () => {
    const template = new ChatTemplate("{{ messages | length }}");
    const cyclic: Record<string, unknown> = { role: "user", content: "x" };
    cyclic.self = cyclic;
    const raise = (): never => {
      throw new Error("boom");
    };
    const unreadable = (key: string): object =>
      Object.defineProperty({ ...user("x")[0] }, key, { enumerable: true, get: raise });
    class Inherited {
      role = "user";
      get content(): string {
        return "x";
      }
    }
    const table: [unknown, string][] = [
      [undefined, "messages: expected an array"],
      ["hello", "messages: expected an array"],
      [{}, "messages: expected an array"],
      [[], "at least one message"],
      [["x"], "messages[0]: expected an object"],
      [[null], "messages[0]: expected an object"],
      [[{ content: "x" }], "messages[0].role: expected a string"],
      [[{ role: "", content: "x" }], "messages[0].role"],
      [[{ role: 1, content: "x" }], "messages[0].role: expected a string"],
      [[{ role: "user" }], "messages[0].content: expected a string"],
      [[{ role: "user", content: null }], "messages[0].content: expected a string, got null"],
      [[...user("a"), { role: "user", content: [] }], "messages[1].content: expected a string, got an array"],
      [[{ role: "user", content: "", x: () => 1 }], "messages[0].x: expected plain data"],
      [[{ role: "user", content: "", x: NaN }], "messages[0].x: expected a finite number"],
      [[{ role: "user", content: "", x: 1n }], "messages[0].x: expected plain data"],
      [[cyclic], "nested deeper than"],
      [new Array(1), "messages[0]: expected an object { role, content }, got undefined"],
      [[, ...user("a")], "messages[0]: expected an object"],
      [[Object.create({ role: "user", content: "x" })], "messages[0].role: expected a string, got undefined"],
      [[new Inherited()], "messages[0].content: expected a string, got undefined"],
      [[unreadable("content")], "messages[0].content cannot be read: boom"],
      [[{ ...user("x")[0], x: { toJSON: raise } }], "messages[0].x cannot be read: boom"],
      [[{ ...user("x")[0], x: [, 1] }], "messages[0].x[0]: expected plain data"],
      [new Proxy([], { get: raise }), "messages cannot be read: boom"],
      [
        [{ ...user("x")[0], x: new Map() }],
        "messages[0].x: expected plain data (text, numbers, lists, objects), got",
      ],
      [
        [{ ...user("x")[0], x: new Date() }],
        "messages[0].x: expected plain data (text, numbers, lists, objects), got",
      ],
      [[{ ...user("x")[0], x: [new Uint8Array(1)] }], "got a value of type Uint8Array"],
      [[new Proxy({}, { ownKeys: raise })], "messages[0] cannot be read: boom"],
    ];
    for (const [messages, text] of table) {
      const { code, message } = failure(() => template.render(messages));
      expect([code, message]).toEqual(["ERR_INHOUSE_INVALID_ARGUMENT", expect.stringContaining(text)]);
    }
    expect(template.render([{ role: "assistant", content: null, tool_calls: [] }]).text).toBe("1");
    const variables: [object, string][] = [
      [{ f: () => 1 }, "templateVariables.f: expected"],
      [{ f: new Map() }, "templateVariables.f: expected"],
      [new Map([["f", 1]]), "templateVariables: expected plain data"],
      [unreadable("f"), "templateVariables.f cannot be read: boom"],
    ];
    for (const [given, text] of variables) {
      const { code, message } = failure(() =>
        template.render(user("x"), { variables: given as Record<string, unknown> }),
      );
      expect([code, message]).toEqual(["ERR_INHOUSE_INVALID_ARGUMENT", expect.stringContaining(text)]);
    }
  });
});

describe("hostile templates", () => {
  // Also with a small heap, where a bomb that only the clock stops would end the process.
  for (const flags of [[], ["--max-old-space-size=256"]]) {
    test(
      `stop within a second and leave the process alive ${flags.join("")}`,
      { timeout: 120_000 },
      async () => {
        const script = new URL("support/template-bombs.mjs", import.meta.url).pathname;
        const { stdout } = await promisify(execFile)(process.execPath, [...flags, script]);
        const lines = stdout.trim().split("\n");
        expect(lines.pop()).toBe("alive");
        for (const line of lines) {
          const { name, outcome, milliseconds, megabytes } = JSON.parse(line) as Record<
            string,
            string | number
          >;
          expect([name, outcome]).toEqual([name, "ERR_INHOUSE_TEMPLATE_LIMIT"]);
          expect(milliseconds, String(name)).toBeLessThan(1000);
          expect(megabytes, String(name)).toBeLessThan(500);
        }
      },
    );
  }

  test("one that is always too slow blocks twice, not with every request", () => {
    for (const source of [
      "{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}",
      "{% if messages | length > 1 %}{% for i in range(99999999) %}{% endfor %}{% endif %}",
    ]) {
      const template = new ChatTemplate(source);
      const talk = [...user("x".repeat(5000)), ...user("b")];
      for (let i = 0; i < 2; ++i)
        expect(failure(() => template.render(talk)).code).toBe("ERR_INHOUSE_TEMPLATE_LIMIT");
      const start = performance.now();
      for (let i = 0; i < 50; ++i) {
        const { code, message } = failure(() => template.render(talk));
        expect([code, message]).toEqual([
          "ERR_INHOUSE_TEMPLATE_LIMIT",
          expect.stringContaining("short conversation"),
        ]);
      }
      expect(performance.now() - start).toBeLessThan(500);
    }
  });

  test("one holds the thread no longer for a large conversation", () => {
    const endless = "{% for i in range(50000) %}{% for j in range(50000) %}{% endfor %}{% endfor %}";
    const start = performance.now();
    expect(failure(() => new ChatTemplate(endless).render(user("\u0001".repeat(1_200_000)))).code).toBe(
      "ERR_INHOUSE_TEMPLATE_LIMIT",
    );
    expect(performance.now() - start).toBeLessThan(2500);
  });

  test("an enormous conversation does not spoil the template for others", () => {
    const template = new ChatTemplate(
      "{% for m in messages %}{% for n in messages %}{% endfor %}{{ m.content }}{% endfor %}",
    );
    const huge = Array.from({ length: 10_000 }, () => ({ role: "user", content: "" }));
    for (let i = 0; i < 2; ++i) {
      expect(failure(() => template.render(huge)).code).toBe("ERR_INHOUSE_TEMPLATE_LIMIT");
      expect(template.render(user("hi")).text).toBe("hi");
    }
  });

  test("long honest conversations pass", () => {
    const template = new ChatTemplate(read("data/templates/tools-xml.jinja"));
    const turn = (i: number) => ({ role: i % 2 ? "assistant" : "user", content: "word ".repeat(200) });
    const long = Array.from({ length: 2001 }, (_, i) => turn(i));
    expect(template.render(long).text.length).toBeGreaterThan(2_000_000);
    expect(template.render(user("x".repeat(5_000_000))).text.length).toBeGreaterThan(5_000_000);
  });
});
