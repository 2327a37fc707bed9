import { InhouseError } from "../errors.js";
import type { Ranges, Scanner } from "./scanners.js";
import * as scan from "./scanners.js";
import { LETTER, NUMBER, PUNCTUATION } from "./unicode.js";

/** How one `tokenizer.ggml.pre` name splits and encodes text. */
export interface PreTokenizerRules {
  /** Applied one after the other, each within the pieces of the one before. */
  stages: readonly Scanner[];
  /** A piece that is a token as a whole is that token, whatever the merges give. */
  ignoreMerges?: boolean;
  /** BOS is added where the file does not say (`tokenizer.ggml.add_bos_token`). */
  addBos?: boolean;
  /** Text is brought to Unicode normalization form C first. */
  nfc?: boolean;
}

/** Han, kana and Hangul as DeepSeek writes them: `[一-龥ࠀ-一가-퟿]`. */
const deepseekWide: Ranges = [0x0800, 0x9fa5, 0xac00, 0xd7ff];
/** DeepSeek V3: `[一-龥぀-ゟ゠-ヿ]`. */
const hanKana: Ranges = [0x3040, 0x30ff, 0x4e00, 0x9fa5];
/** DeepSeek LLM: `[!-/:-~！-／：-～‘-‟　-。]`. */
const deepseekPunctuation: Ranges = [
  0x21, 0x2f, 0x3a, 0x7e, 0x2018, 0x201f, 0x3000, 0x3002, 0xff01, 0xff0f, 0xff1a, 0xff5e,
];
/** DeepSeek LLM: the cased letters, as listed in its tokenizer.json (in hexadecimal, since NFC would change some). */
const deepseekLetters: Ranges = hexRanges(
  `41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c
    38e-3a1 3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b
    1d6b-1d77 1d79-1d9a 1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4
    1fb6-1fbc 1fbe 1fc2-1fc4 1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113
    2115 2119-211d 2124 2126 2128 212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b
    2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06
    fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f 104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df
    1e900-1e943`,
);

/** Ranges from text: `first-last` or a single code point, in hexadecimal, separated by blanks. */
function hexRanges(text: string): Ranges {
  return text.split(/\s+/).flatMap((range) => {
    const [first, last = first] = range.split("-");
    return [parseInt(first!, 16), parseInt(last!, 16)];
  });
}

const oneDigit = scan.isolate(scan.classRun(NUMBER, 1));
const threeNumbers = scan.isolate(scan.classRun(NUMBER, 3));
const llama3 = scan.words({ contractions: true, digits: 3 });
const qwen2 = scan.words({ contractions: true, digits: 1 });
const o200k = scan.words({ contractions: true, cased: true, digits: 3, tail: "slashes" });

const gpt2Rules: PreTokenizerRules = { stages: [scan.gpt2] };
const digitsThenGpt2: PreTokenizerRules = { stages: [oneDigit, scan.gpt2] };
const llama3Rules: PreTokenizerRules = { stages: [llama3], ignoreMerges: true, addBos: true };
const qwen2Rules: PreTokenizerRules = { stages: [qwen2], nfc: true };
const deepseekV3Rules: PreTokenizerRules = {
  stages: [threeNumbers, scan.isolate(scan.rangeRun(hanKana)), scan.isolate(scan.deepseekWords)],
};
const bloomRules: PreTokenizerRules = { stages: [scan.isolate(scan.bloom)] };

/** Every known `tokenizer.ggml.pre` name of the byte-level tokenizers. */
const table: Readonly<Record<string, PreTokenizerRules>> = {
  "gpt-2": gpt2Rules,
  "phi-2": gpt2Rules,
  gigachat: gpt2Rules,
  "jina-es": gpt2Rules,
  "jina-de": gpt2Rules,
  "jina-v2-es": gpt2Rules,
  "jina-v2-de": gpt2Rules,
  "a.x-4.0": gpt2Rules,
  mellum: gpt2Rules,
  jais: gpt2Rules,
  trillion: gpt2Rules,
  "granite-docling": gpt2Rules,
  exaone4: gpt2Rules,
  mpt: { ...gpt2Rules, nfc: true },
  olmo: { ...gpt2Rules, nfc: true },
  "modern-bert": { ...gpt2Rules, nfc: true },

  smollm: digitsThenGpt2,
  starcoder: digitsThenGpt2,
  refact: digitsThenGpt2,
  "command-r": { ...digitsThenGpt2, nfc: true },
  codeshell: digitsThenGpt2,
  exaone: { ...digitsThenGpt2, nfc: true },
  "minerva-7b": digitsThenGpt2,
  mellum2: digitsThenGpt2,

  "llama-bpe": llama3Rules,
  llama3: llama3Rules,
  "llama-v3": llama3Rules,
  falcon3: llama3Rules,
  "falcon-h1": llama3Rules,
  pixtral: llama3Rules,
  "midm-2.0": llama3Rules,
  lfm2: llama3Rules,
  "jina-v5-nano": llama3Rules,
  dbrx: { stages: [llama3] },
  "smaug-bpe": { stages: [llama3] },
  glm4: { stages: [llama3] },
  "chatglm-bpe": { stages: [llama3] },
  minicpm5: {
    stages: [threeNumbers, scan.words({ contractions: true, digits: Infinity })],
    ignoreMerges: true,
  },

  qwen2: qwen2Rules,
  "deepseek-r1-qwen": qwen2Rules,
  megrez: qwen2Rules,
  kormo: { stages: [qwen2] },
  f2llmv2: qwen2Rules,
  stablelm2: { stages: [qwen2], nfc: true },
  hunyuan: { stages: [qwen2] },
  "solar-open": { stages: [qwen2] },
  "grok-2": { stages: [qwen2] },
  laguna: { stages: [scan.newlineRuns, qwen2] },
  ufakzeka: { stages: [scan.words({ contractions: false, digits: 1 })] },
  qwen35: { stages: [scan.words({ contractions: true, digits: 1, marks: true })], nfc: true },

  "gpt-4o": { stages: [o200k], ignoreMerges: true },
  llama4: { stages: [o200k], ignoreMerges: true },
  kanana2: { stages: [o200k] },
  talkie: { stages: [o200k] },
  "minimax-m2": { stages: [o200k] },
  "granite-embed-multi-97m": { stages: [o200k], ignoreMerges: true },
  tekken: {
    stages: [scan.words({ contractions: false, cased: true, digits: 1, tail: "slashes" })],
    ignoreMerges: true,
    addBos: true,
  },

  "deepseek-llm": {
    stages: [
      scan.isolate(scan.lineBreak),
      scan.isolate(scan.rangeRun(deepseekLetters, true)),
      scan.isolate(scan.rangeRun(deepseekPunctuation, true)),
      scan.trailingSpace,
      scan.isolate(scan.rangeRun(deepseekWide)),
      scan.isolate(scan.classRun(NUMBER)),
    ],
  },
  "deepseek-coder": {
    stages: [
      scan.isolate(scan.lineBreak),
      scan.isolate(scan.spacedClassRun(LETTER)),
      scan.isolate(scan.spacedClassRun(PUNCTUATION)),
      scan.isolate(scan.rangeRun(deepseekWide)),
      oneDigit,
    ],
  },
  "deepseek-v3": deepseekV3Rules,
  "hunyuan-dense": deepseekV3Rules,
  "joyai-llm": deepseekV3Rules,
  hy_v4: deepseekV3Rules,

  falcon: {
    stages: [scan.isolate(scan.falconPunctuation), scan.gpt2, scan.isolate(scan.threeDigits)],
  },
  bloom: bloomRules,
  "poro-chat": bloomRules,
  "gpt3-finnish": bloomRules,
  viking: { stages: [scan.isolate(scan.bloom), oneDigit] },
};

/** The names that `preTokenizer` knows. */
export const preTokenizerNames: readonly string[] = Object.keys(table);

/**
 * The rules for a `tokenizer.ggml.pre` name. Another name is refused, since a wrong guess would silently degrade
 * every answer.
 * @throws ERR_INHOUSE_UNSUPPORTED_TOKENIZER
 */
export function preTokenizer(name: string | undefined): PreTokenizerRules {
  if (name !== undefined && Object.hasOwn(table, name)) return table[name]!;
  const found = name === undefined ? "is missing" : `is ${JSON.stringify(name.slice(0, 100))}`;
  throw new InhouseError(
    "ERR_INHOUSE_UNSUPPORTED_TOKENIZER",
    `tokenizer.ggml.pre ${found}; expected one of ${preTokenizerNames.join(", ")}`,
  );
}

/** Walks through the pieces of one text. `next` must be called with consecutive positions. */
export class PieceWalker {
  private readonly ends: number[];

  constructor(
    private readonly stages: readonly Scanner[],
    private readonly bytes: Uint8Array,
    private readonly end: number,
  ) {
    this.ends = stages.map(() => 0);
  }

  /** The end of the piece that begins at `at`, the end of the piece before. */
  next(at: number): number {
    const { stages, ends, bytes } = this;
    let stop = this.end;
    for (let level = 0; level < stages.length; level++) {
      if (ends[level]! <= at) ends[level] = stages[level]!(bytes, at, stop);
      stop = ends[level]!;
    }
    return stop;
  }
}
