// Renders hostile templates one after the other and prints what came of each as a line of JSON. Run in a process of
// its own by template.test.ts, since what it guards against would end the process.
import { createRequire } from "node:module";

const { ChatTemplate } = createRequire(import.meta.url)("../../dist/chat/template.js");

const grown = (times) =>
  `{% set ns = namespace(s='aa', a=[]) %}{% for i in range(${times}) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}`;
const nestedList =
  "{% set ns = namespace(s=[1]) %}{% for i in range(50000) %}{% set ns.s = [ns.s] %}{% endfor %}";
const listTree =
  "{% set ns = namespace(s=[1]) %}{% for i in range(100) %}{% set ns.s = [ns.s, ns.s] %}{% endfor %}";
const loops = (body) =>
  `{% for i in range(50000) %}{% for j in range(50000) %}${body}{% endfor %}{% endfor %}`;

const bombs = {
  "range of 10^9": "{% for i in range(1000000000) %}x{% endfor %}",
  "range of 10^300": "{% for i in range(10 ** 300) %}x{% endfor %}",
  "nested loops": loops(""),
  "nested loops that print": loops("abcdefgh"),
  "doubling with ~": `${grown(100)}{{ ns.s }}`,
  "doubling with +": grown(100).replace("~", "+"),
  "doubling a list": grown(1).replaceAll("'aa'", "[1]").replace("range(1)", "range(100)").replace("~", "+"),
  "a tree of shared lists": `${listTree}{{ ns.s | tojson }}`,
  "a deep list": `${nestedList}{{ ns.s | tojson }}`,
  "a namespace in itself": "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns | tojson }}",
  "a namespace in itself, printed": "{% set ns = namespace() %}{% set ns.a = ns %}{{ ns }}",
  "endless macro": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
  "endless macro that grows": "{% macro f(x) %}{{ f(x ~ x) }}{% endmacro %}{{ f('ab') }}",
  "macro of 2^60 calls":
    "{% macro f(n) %}{% if n > 0 %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(60) }}",
  "endless caller": "{% macro f() %}{% call f() %}{{ caller() }}{% endcall %}{% endmacro %}{{ f() }}",
  "100,000 parentheses": `{{ ${"(".repeat(1e5)}1${")".repeat(1e5)} }}`,
  "100,000 not": `{{ ${"not ".repeat(1e5)}1 }}`,
  "100,000 sums": `{{ ${"1+".repeat(1e5)}1 }}`,
  "100,000 brackets": `{{ ${"[".repeat(1e5)}`,
  "20,000 if": "{% if 1 %}".repeat(20_000) + "{% endif %}".repeat(20_000),
  "half a million spaces": `${" ".repeat(5e5)}x`,
  "spaces before tags": `${" ".repeat(2000)}{%`.repeat(250),
  "a source too long": "x".repeat(600_000),
  "wide indent": "{{ 'a\\nb' | indent(500000000) }}",
  "wide tojson": "{{ [[[1]]] | tojson(indent=100000000) }}",
  "long separator": `${grown(18)}{{ range(50000) | list | join(ns.s) }}`,
  "replace by long text": `${grown(18)}{{ ns.s.replace('a', ns.s) | length }}`,
  "replace filter by long text": `${grown(18)}{{ ns.s | replace('', ns.s) | length }}`,
  "many long copies": `${grown(18)}{% for i in range(50000) %}{{ (ns.s ~ i) | upper | length }}{% endfor %}`,
  "kept long copies": `${grown(18)}{% for i in range(50000) %}{% set ns.a = ns.a + [(ns.s ~ i) | upper] %}{% endfor %}`,
  "split to pieces": `${grown(18)}{% for i in range(50000) %}{{ ns.s.split('a') | length }}{% endfor %}`,
  "sort again and again":
    "{% for i in range(50000) %}{{ range(50000) | sort(reverse=true) | length }}{% endfor %}",
  "a chain of calls": `{{ 'a'${".strip()".repeat(60)} }}{{ ${"f(".repeat(3000)}${")".repeat(3000)} }}`,
};

for (const [name, source] of Object.entries(bombs)) {
  const start = performance.now();
  let outcome = "rendered";
  try {
    new ChatTemplate(source).render([{ role: "user", content: "hi" }]);
  } catch (error) {
    outcome = error.code ?? `no code: ${error.stack}`;
  }
  const megabytes = Math.round(process.memoryUsage().rss / 2 ** 20);
  console.log(
    JSON.stringify({ name, outcome, milliseconds: Math.round(performance.now() - start), megabytes }),
  );
}
console.log(new ChatTemplate("{{ messages[0].content }}").render([{ role: "user", content: "alive" }]).text);
