// The suite behind `npm run bench`: a small measurement of a model, and the pictures of docs/performance.md.
import { expect, test } from "vitest";

import { measureModel } from "../bench/models.mjs";
import { picture } from "../bench/picture.mjs";
import { modelTable } from "../bench/tables.mjs";
import { modelPath, smollm2 } from "./support/models.ts";

const engine = (value: number, share: number) => ({ value, share, settings: { threads: 2 } });
const result = {
  machine: { name: "test", processor: 'A <fast> & "new" one', cores: 2 },
  models: [
    {
      file: "a<b>.gguf",
      figures: [
        {
          name: "prompt of 64",
          unit: "tokens/s",
          engines: { inhouse: engine(100, 0.5), peer: engine(50, 1.2) },
        },
        { name: "load", unit: "ms", engines: { inhouse: engine(1, 0.5), peer: engine(2, 0.2) } },
      ],
    },
  ],
};

/** Names of elements in order; throws where tags do not match or a text holds what belongs to markup. */
function elements(xml: string): string[] {
  const open: string[] = [];
  const names: string[] = [];
  for (const [, text, tag] of xml.matchAll(/([^<]*)(?:<([^<>]*)>)?/g)) {
    expect(text).not.toMatch(/>|&(?!#\d+;)/);
    if (tag === undefined) continue;
    expect(tag).toMatch(/^\/?[a-z]+(\s[\w:-]+="[^"<>]*")*\s*\/?$/i);
    const name = /\w+/.exec(tag)![0];
    if (tag.startsWith("/")) expect(open.pop()).toBe(name);
    else {
      names.push(name);
      if (!tag.endsWith("/")) open.push(name);
    }
  }
  expect(open).toEqual([]);
  return names;
}

test("a result as SVG", () => {
  const svg = picture(result);
  const names = elements(svg);
  expect(names[0]).toBe("svg");
  // The background, a legend of two, and a bar of each engine for the one figure that is a speed.
  expect(names.filter((name) => name === "rect")).toHaveLength(1 + 2 + 2);
  expect(svg).toContain("A &#60;fast&#62; &#38; &#34;new&#34; one");
  expect(svg).not.toMatch(/href|<script|<image|NaN|undefined/);
  const widths = [...svg.matchAll(/<rect x="230" y="\d+" width="([\d.]+)" height="12"/g)].map(([, w]) =>
    Number(w),
  );
  expect(widths[0] * 2).toBeCloseTo(widths[1], 0); // shares above 1 end at the edge
});

test("a model measured in two rounds", async () => {
  const lists = { prompts: [16], depths: [8], streams: [1, 2], tokens: 8 };
  const plan = { engines: ["inhouse"], threads: [1], rounds: 2, lists };
  const said: string[] = [];
  const model = await measureModel(modelPath(smollm2), plan, (line: string) => said.push(line));
  expect(said).toHaveLength(2);
  expect(model).toMatchObject({ file: smollm2, architecture: "llama", settings: { contextLength: 73 } });
  expect(model.figures.map(({ name }) => name as string)).toEqual([
    "prompt of 16",
    "decode at depth 8",
    "decode at depth 64",
    "2 streams at depth 64",
    "load",
    "load to first token",
    "peak memory",
  ]);
  for (const { name, engines, ratios } of model.figures) {
    expect(engines.inhouse, name).toMatchObject({ settings: { threads: 1 } });
    expect(engines.inhouse.rounds, name).toHaveLength(2);
    expect(engines.inhouse.share, name).toBeGreaterThan(0);
    expect(ratios).toEqual({});
  }
  expect(modelTable(model).split("\n")).toHaveLength(2 + 7);
});
