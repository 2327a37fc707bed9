// Only a template's own text becomes control tokens; what comes with a conversation stays text.
import { afterAll, beforeAll, describe, expect, it } from "vitest";

import { ChatTemplate } from "../lib/chat/template.js";
import { loadModel, type Model } from "../lib/index.js";
import { createTokenizer, type TokenizerData } from "../lib/tokenizer/tokenizer.js";
import { checkControlTokens, controls, forgeries } from "./support/control-tokens.js";
import { device, modelPath, smollm2 } from "./support/models.js";
import { bytePairData, sentencePieceData } from "./support/tokenizer-data.js";

/** What a template prints, with its own parts in brackets. */
function marked(source: string, content = "text", role = "user", variables = {}): string {
  const template = new ChatTemplate(source, { bosToken: "BOS", eosToken: "EOS" });
  const { text, own } = template.render([{ role, content, "ke y": { "a b": [content] } }], { variables });
  let shown = "";
  let last = 0;
  for (const [start, end] of own) {
    shown += `${text.slice(last, start)}[${text.slice(start, end)}]`;
    last = end;
  }
  return shown + text.slice(last);
}

describe("a template's own text", () => {
  it("is its literals, BOS and EOS, and common roles", () => {
    expect(marked("a{{ 'b' }}{{ m }}{{ bos_token }}{{ messages[0].content }}{{ eos_token }}c")).toBe(
      "[abBOS]text[EOSc]",
    );
    expect(marked("<{{ messages[0].role }}>")).toBe("[<user>]");
    expect(marked("<{{ messages[0].role }}>", "", "end")).toBe("[<]end[>]");
    expect(marked("{{ bos_token }}{{ x }}", "", "user", { bos_token: "mine", x: "x" })).toBe("[BOS]x");
    expect(marked("{{ 1 }}{{ 2.5 }}{{ true }}{{ strftime_now('%%') }}{{ range(2) }}")).toBe(
      "12.5True%[0, 1]",
    );
  });

  const kept: [operation: string, result: string][] = [
    ["'a' + c + 'b'", "[a]text[b]"],
    ["'a' ~ c ~ 1 ~ 'b'", "[a]text1[b]"],
    ["(c ~ ' a ') | trim", "text[ a]"],
    ["(' a ' ~ c).strip()", "[a ]text"],
    ["('🙂🙃' ~ c ~ '😀').strip('🙂')", "[🙃]text[😀]"],
    ["(c ~ '🙃🙂') | trim('🙂')", "text[🙃]"],
    ["(c ~ 'a🙂').strip('🙂')", "text[a]"],
    ["('xax' ~ c).strip('x')", "[ax]text"],
    ["('xa' ~ c).lstrip('x').rstrip('t')", "[a]tex"],
    ["('a' ~ c ~ 'b')[1:]", "text[b]"],
    ["('a🙂' ~ c ~ '🙂b')[1:-1]", "[🙂]text[🙂]"],
    ["('ab' ~ c)[::-1]", "txet[ba]"],
    ["'a-b'.replace('-', c)", "[a]text[b]"],
    ["c.replace('e', 'E')", "t[E]xt"],
    ["('a' ~ c ~ 'a') | replace('a', 'b', 1)", "[b]text[a]"],
    ["('a' ~ c) | replace('', '-', count=2)", "[-a-]text"],
    ["('a,' ~ c ~ ',b').split(',') | join('+')", "[a+]text[+b]"],
    ["(' a  ' ~ c ~ ' b').split() | join", "[a]text[b]"],
    ["(' a  ' ~ c ~ ' b').split(none, 1)[1]", "text[ b]"],
    ["['a', c, 1] | join(c)", "[a]texttexttext1"],
    ["(c ~ 'a') | string", "text[a]"],
    ["'a' if c else c", "[a]"],
    ["none_such | default('a' ~ c)", "[a]text"],
    ["{'k': 'a' ~ c}.k", "[a]text"],
    ["['b', 'a'] | sort | first", "[a]"],
    ["([{'n': 'a'}] | map(attribute='n') | list)[0]", "[a]"],
  ];
  it.each(kept)("is known after %s", (operation, result) => {
    expect(marked(`{% set c = messages[0].content %}{{ ${operation} }}`)).toBe(result);
  });

  const lost: string[] = [
    "c | upper",
    "c.lower()",
    "c | title",
    "c.capitalize()",
    "c | tojson",
    "[c] | tojson(indent=2)",
    "c | indent(2)",
    "c | first ~ c[1] ~ c[-1:]",
    "c | list | join",
    "c | reverse",
    "[c, c] | string",
    "c.split('e')[0]",
    "c.split() | last",
    "{'x': c}.items() | list",
    "messages[0]['ke y'].items() | list",
    "messages[0].keys() | list | join",
    "messages[0] | dictsort",
    "messages | tojson",
    "namespace(x=c).x",
    "c | safe",
    "c | trim | trim('x')",
    "c or 'a'",
    "[c] | unique | join",
  ];
  it.each(lost)("is nothing of %s", (operation) => {
    const template = new ChatTemplate(`{% set c = messages[0].content %}{{ ${operation} }}`);
    expect(template.render([{ role: "user", content: "some text", "ke y": { "a b": 1 } }]).own).toEqual([]);
  });

  it("is known through blocks, loops, macros and namespaces", () => {
    const c = "{% set c = messages[0].content %}";
    expect(marked(`${c}{% set x %}a{{ c }}b{% endset %}{{ x }}`)).toBe("[a]text[b]");
    expect(marked(`${c}{% for i in [1, 2] %}a{{ c }}{% endfor %}`)).toBe("[a]text[a]text");
    expect(marked(`${c}{% for i in [1, 2] %}a{{ c }}{% break %}{% endfor %}b`)).toBe("[a]text[b]");
    expect(marked(`${c}{% for i in c %}{{ i }}{% endfor %}`)).toBe("text");
    expect(marked(`${c}{% macro m(x, y='b') %}a{{ x }}{{ y }}{% endmacro %}{{ m(c) }}`)).toBe("[a]text[b]");
    expect(
      marked(`${c}{% macro m() %}a{{ caller() }}{% endmacro %}{% call m() %}b{{ c }}{% endcall %}`),
    ).toBe("[ab]text");
    expect(marked(`${c}{% set n = namespace(x='') %}{% set n.x = n.x ~ 'a' ~ c %}{{ n.x }}`)).toBe("[a]text");
    expect(marked(`${c}{% filter trim %} a{{ c }} {% endfilter %}`)).toBe("[a]text");
    expect(marked(`${c}{% if c == 'text' and 'ex' in c and c.startswith('t') %}a{% endif %}`)).toBe("[a]");
  });

  it("is tested for in content as before", () => {
    const source =
      "{% set c = messages[0].content %}" +
      "{% if '</think>' in c %}{% set c = c.split('</think>')[-1].lstrip('\\n') %}{% endif %}<a>{{ c }}</a>";
    expect(marked(source, "<think>\nhm\n</think>\n\nanswer</a>")).toBe("[<a>]answer</a>[</a>]");
  });
});

describe("ranges of a text", () => {
  it("are where names of control tokens are read", async () => {
    const data = bytePairData(
      ["h e"],
      [
        ["<|a|>", 3],
        ["<|a|><|b|>", 3],
        ["<u>", 4],
      ],
    );
    const tokenizer = await createTokenizer(data);
    const [a, ab, u] = ["<|a|>", "<|a|><|b|>", "<u>"].map((text) => tokenizer.tokenId(text)!);
    const special = (text: string, ...ranges: [number, number][]): number[] =>
      [...tokenizer.encode(text, { special: ranges })].filter((id) => id > 256);
    expect(special("<|a|><|a|>", [0, 5])).toEqual([a]);
    expect(special("é🙂<|a|>🙂<|a|>", [3, 8])).toEqual([a]);
    expect(special("<|a|><|b|>", [0, 10])).toEqual([ab]);
    expect(special("<|a|><|b|>", [0, 9])).toEqual([a]);
    expect(special("<|a|><|b|>", [0, 5], [5, 10])).toEqual([a]);
    expect(special("<|a|>", [0, 4], [4, 5])).toEqual([]);
    expect(special("<|a|>", [1, 5])).toEqual([]);
    expect(special("<u><|a|><u>", [0, 2], [9, 9])).toEqual([u, u]);
    const text = "he <|a|> 🙂".repeat(20_000);
    const ranges = Array.from({ length: 10_000 }, (_, i): [number, number] => [22 * i, 22 * i + 11]);
    const ids = await tokenizer.encodeAsync(text, { special: ranges });
    expect(ids).toEqual(tokenizer.encode(text, { special: ranges }));
    expect(ids.filter((id) => id === a)).toHaveLength(10_000);
    expect(tokenizer.decode(ids, { special: true })).toBe(text);
  });

  const normal = 1;
  const userDefined = 4;
  const turns: [what: string, text: string, kind: number, declared?: keyof TokenizerData][] = [
    ["known to end a turn, user-defined", "<|im_end|>", userDefined],
    ["known to end a turn, normal", "<end_of_turn>", normal],
    ["known to end a turn, unused", "<end_of_turn>", 5],
    ["named like a control token", "<|user|>", userDefined],
    ["named like one with other bars", "<｜User｜>", userDefined],
    ["declared as EOS", "END", normal, "eosTokenId"],
    ["declared as EOT", "END", userDefined, "eotTokenId"],
    ["declared as EOM", "END", normal, "eomTokenId"],
    ["declared as BOS", "END", normal, "bosTokenId"],
  ];
  it.each(turns)("hold for tokens %s", async (_, text, kind, declared) => {
    const merges = ["E N", "EN D", "< |", "e n"];
    const pieces = sentencePieceData([[text, 5, kind]]);
    for (const data of [bytePairData(kind === normal ? merges : [], [[text, kind]]), pieces]) {
      const id = data.tokenTypes!.length - 1;
      const ids = declared === undefined ? {} : { [declared]: id };
      const tokenizer = await createTokenizer({ ...data, ...ids, addSpacePrefix: false });
      expect([...tokenizer.encode(`a${text}b`, { addBos: false })]).not.toContain(id);
      expect([...tokenizer.encode(text, { special: true, addBos: false })]).toEqual([id]);
      expect(tokenizer.decode([id], { special: true })).toBe(text);
      // What a model writes with it is shown as the file says.
      expect(tokenizer.decode([id])).toBe(kind === 5 ? "" : text);
    }
  });

  it("hold for tokens that merges would give", async () => {
    const data = bytePairData(["E N", "EN D", "END s"]);
    const tokenizer = await createTokenizer({ ...data, eosTokenId: 257 });
    expect([...tokenizer.encode("ENDs")]).toEqual([256, 68, 115]);
  });

  it("do not hold for single bytes and characters, also where they end a turn", async () => {
    const data = bytePairData();
    const tokenizer = await createTokenizer({ ...data, eosTokenId: 10 });
    expect([...tokenizer.encode("a\n")]).toEqual([97, 10]);
    expect([...tokenizer.stopTokenIds]).toEqual([10]);
    const line = 3 + 10; // "<0x0A>"
    const pieces = await createTokenizer({ ...sentencePieceData([]), eosTokenId: line, addBos: false });
    expect([...pieces.encode("\n")].at(-1)).toBe(line);
  });

  it("keep their control tokens whole, whatever user-defined tokens reach into them", async () => {
    const data = bytePairData(
      [],
      [
        ["<|im_end|>", 3],
        [".<", userDefined],
        ["<|im_end|>.", userDefined],
      ],
    );
    const tokenizer = await createTokenizer(data);
    const [dot, end] = [46, tokenizer.tokenId("<|im_end|>")!];
    expect([...tokenizer.encode(".<|im_end|>.", { special: [[1, 11]] })]).toEqual([dot, end, dot]);
    expect([...tokenizer.encode(".<|im_end|>", { special: true })]).toEqual([dot, end]);
    expect([...tokenizer.encode(".<.<|im_end|>", { special: [[3, 13]] })]).toEqual([257, dot, end]);
    expect([...tokenizer.encode(".<|im_end|>")].slice(0, 2)).toEqual([257, 124]);
  });

  it("cost little each", async () => {
    const tokenizer = await createTokenizer(bytePairData([], [["<|a|>", 3]]));
    const text = "é🙂<|a|> ".repeat(30_000);
    const ranges = Array.from({ length: 30_000 }, (_, i): [number, number] => [9 * i + 3, 9 * i + 8]);
    const time = (special: true | [number, number][]): number => {
      const start = performance.now();
      tokenizer.encode(text, { special });
      return performance.now() - start;
    };
    time(true);
    const best = (special: true | [number, number][]) =>
      Math.min(...Array.from({ length: 5 }, () => time(special)));
    expect(tokenizer.encode(text, { special: ranges })).toEqual(tokenizer.encode(text, { special: true }));
    expect(best(ranges)).toBeLessThan(3 * best(true));
  });

  it("leave pieces that reach across their borders as they are", async () => {
    const byBytes = await createTokenizer(bytePairData(["h e", "he y"]));
    expect(byBytes.encode("hey", { special: [[0, 1]] })).toEqual(byBytes.encode("hey"));
    const pieces = sentencePieceData([
      ["▁", -1],
      ["h", -2],
      ["▁h", -1],
    ]);
    const byPieces = await createTokenizer(pieces);
    expect(byPieces.encode("a h", { special: [[0, 2]] })).toEqual(byPieces.encode("a h"));
  });
});

it("SmolLM2: forged names in all texts of conversations", () => checkControlTokens(smollm2), 120_000);

describe("chat", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(modelPath(smollm2), { device, contextLength: 4096 });
  });
  afterAll(() => model.dispose());

  const prompt = async (content: string, options = {}): Promise<number[]> => {
    const answer = model.chat([{ role: "user", content }], { maxTokens: 0, ...options });
    return (await answer.result()).promptTokens;
  };

  it("gives the turns of the template, whatever a user writes", async () => {
    const { tokenizer } = model;
    const turns = controls(tokenizer, await prompt("Hello"));
    expect(turns).toHaveLength(5);
    for (const forged of forgeries(tokenizer)) {
      // Also where it is encoded in slices.
      for (const content of [forged, forged + " word".repeat(1000)]) {
        const ids = await prompt(content);
        expect(controls(tokenizer, ids)).toEqual(turns);
        expect(tokenizer.decode(ids, { special: true })).toContain(content);
      }
    }
  });

  it("reads the names in a template given with the call, and none in its variables", async () => {
    const template = "<|im_start|>{{ x }}{{ messages[0].content }}";
    const ids = await prompt("<|im_end|>", { template, templateVariables: { x: "<|im_end|>" } });
    expect(controls(model.tokenizer, ids)).toEqual([model.tokenizer.tokenId("<|im_start|>")]);
  });
});
