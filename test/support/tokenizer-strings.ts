/* The strings of scripts/golden/tokenizer.py, from the same seeded generator: string(i) for i from 0 to 9,999. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const snippetsPath = join(import.meta.dirname, "../../scripts/golden/tokenizer-snippets.json");
const snippets = JSON.parse(readFileSync(snippetsPath, "utf8")) as string[];
const points = (text: string): string[] => [...text];

// prettier-ignore
const spaces = [
  " ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u0085", "\u2028", "\x0b", "\x0c", "\u200b",
];
const joins = ["", "", " ", " ", "\n", "  ", "\t", "\r\n", "\u00a0"];
// prettier-ignore
const specials = [
  "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>",
  "<unused5>", "<unused6241>", "<s>", "</s>", "[multimodal]", "<table>", "</td>", "<h1>", "<0x0A>", "<0xE2>", "\u2581\u2581",
  "<|fim_prefix|>", "<|fim_middle|>", "<tool_call>", "</tool_call>", "<|file_sep|>", "<repo_name>", "<|im_", "|>", "<|",
  "<empty_output>", "<jupyter_text>", "<start_of_image>", "\t\t\t", "\n\n\n", "   ", "[PAD151665]", "<", ">", "im_end",
];
const emoji = points("😀🤣👍👩👧👦🏳❤☺1#🇩🇪🇫🇷🧑🚀🫠⚽🏴");
// prettier-ignore
const joiners = ["", "\u200d", "\ufe0f", "\u20e3", "\u{1f3fb}", "\u{1f3ff}", "\u200d\u2642\ufe0f", " ", "\u{e0067}"];
// prettier-ignore
const scripts = [
  0x00c0, 0x0180, 0x0370, 0x0400, 0x0530, 0x0590, 0x0600, 0x0780, 0x0900, 0x0980, 0x0b80, 0x0c00, 0x0d00, 0x0e00, 0x0f00,
  0x1000, 0x10a0, 0x1200, 0x13a0, 0x1780, 0x1c80, 0x1e00, 0x1f00, 0x2100, 0x2c00, 0x3040, 0x30a0, 0x4e00, 0x9f00, 0xa640,
  0xa720, 0xab30, 0xac00, 0xfb00, 0xff00, 0x10400, 0x1e900, 0x1d400, 0x1f600, 0x20000,
];
const cases = points("aAbBzZ'\u2019sStTrReEvVlLmMdD \u017f-_/\n.\u01c5\u02b0\u4e2d\u0301");
// prettier-ignore
const marks = [
  0x300, 0x301, 0x308, 0x30a, 0x323, 0x327, 0x338, 0x345, 0x93c, 0x3099, 0x309a, 0x1161, 0x11a8, 0x5b0, 0x64b,
];
const bases = points(
  "aAeEoOuUnNcC<=>\u0438\u0439\u03b1\u0915\u304b\u306f\u1100\u1112\uac00\u212b\u1e9b\u0627 ",
);
const digits = points("0123456789\u0660\u0663\u0967\u0e52\uff10\uff19\u00b2\u2167\u00bd\u{1d7d8}.,-+:/ ");
// prettier-ignore
const alphabets = [
  "a", "ab", "abcdefghijklmnopqrstuvwxyz", "etaoinshrdlu", "中文字", "=-", "0123456789", "\u0e01\u0e32\u0e48", " ",
].map(points);
const bytes = [0xe2, 0x82, 0xac, 0xf0, 0x9f, 0x98, 0x80, 0xc3, 0xa9, 0x20, 0x61];

/** xorshift32 */
class Random {
  private state: number;

  constructor(seed: number) {
    this.state = seed >>> 0 || 1;
  }

  below(n: number): number {
    let x = this.state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.state = x >>> 0;
    return this.state % n;
  }

  of<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }

  many(least: number, most: number, make: () => string): string {
    return Array.from({ length: least + this.below(most - least + 1) }, make).join("");
  }
}

function codePoint(r: Random, limit: number): string {
  const c = r.below(limit - 0x800);
  return String.fromCodePoint(c >= 0xd800 ? c + 0x800 : c);
}

function unit(r: Random): number {
  const kind = r.below(4);
  if (kind === 0) return 0xd800 + r.below(0x400);
  if (kind === 1) return 0xdc00 + r.below(0x400);
  return kind === 2 ? 0x20 + r.below(0x5f) : 0x4e00 + r.below(0x100);
}

export function string(i: number): string {
  const r = new Random(0x9e3779b9 ^ Math.imul(i, 0x85ebca6b));
  switch (i % 20) {
    case 0:
    case 1:
    case 2:
    case 3:
      return r.many(1, 6, () => r.of(snippets) + r.of(joins));
    case 4:
      return r.many(1, 40, () => codePoint(r, 0x10000));
    case 5:
      return r.many(1, 40, () => codePoint(r, 0x110000));
    case 6:
      return r.many(1, 80, () => String.fromCharCode(0x20 + r.below(0x5f)));
    case 7:
      return r.many(1, 60, () => String.fromCharCode(r.below(0x80)));
    case 8: {
      const n = 1 + r.below(60);
      return Buffer.from(
        Array.from({ length: n }, () => (r.below(2) ? r.below(256) : r.of(bytes))),
      ).toString();
    }
    case 9:
      return r.many(1, 20, () => (r.below(4) ? r.of(spaces) : r.of(points("aZ1.é中"))));
    case 10:
      return r.many(1, 40, () => r.of(digits));
    case 11:
      return r.many(1, 15, () => r.of(emoji) + r.of(joiners));
    case 12:
      return r.many(1, 12, () =>
        r.below(2) ? r.of(specials) : points(r.of(snippets)).slice(0, r.below(12)).join(""),
      );
    case 13: {
      const n = 1 + r.below(30);
      return String.fromCharCode(...Array.from({ length: n }, () => unit(r)));
    }
    case 14: {
      const alphabet = r.of(alphabets);
      return r.many(100, 1500, () => r.of(alphabet));
    }
    case 15: {
      const start = r.of(scripts);
      return r.many(1, 40, () => (r.below(5) ? String.fromCodePoint(start + r.below(96)) : " "));
    }
    case 16:
      return r.many(1, 40, () => r.of(cases));
    case 17:
      return r.many(1, 25, () => (r.below(2) ? r.of(bases) : String.fromCodePoint(r.of(marks))));
    case 18:
      return r.many(1, 20, () => " " + r.of(r.of(snippets).split(" ")));
    default: {
      const text = points(r.of(snippets));
      const start = r.below(text.length);
      return text.slice(start).join("") + r.of(joins) + text.slice(0, r.below(text.length)).join("");
    }
  }
}

/** FNV-1a over the `width` low bytes of each value. */
export function fnv(values: ArrayLike<number>, width: number): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < values.length; i++) {
    for (let k = 0; k < width; k++) hash = Math.imul(hash ^ ((values[i] >>> (8 * k)) & 255), 0x01000193);
  }
  return hash >>> 0;
}
