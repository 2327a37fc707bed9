import { readFileSync } from "node:fs";
import { join } from "node:path";
import { createTokenizer, type Tokenizer } from "../../lib/tokenizer/tokenizer.js";
import { readTokenizerData } from "./gguf-metadata.js";
import { modelPath } from "./models.js";
import { fnv, string } from "./tokenizer-strings.js";

export async function modelTokenizer(file: string): Promise<Tokenizer> {
  return createTokenizer(readTokenizerData(modelPath(file)));
}

/** What differs from the golden file of a model: strings, with and without control tokens. */
export function compare(name: string, tokenizer: Tokenizer): { strings: number; different: string[] } {
  const golden = readFileSync(join(import.meta.dirname, `../golden/tokenizer-${name}.bin`));
  const strings = golden.length / 12;
  const different: string[] = [];
  for (let i = 0; i < strings; i++) {
    const text = string(i);
    if (fnv(new TextEncoder().encode(text), 1) !== golden.readUInt32LE(12 * i)) {
      throw new Error(`string ${i} is not the one of scripts/golden/tokenizer.py`);
    }
    for (const special of [false, true]) {
      const ids = tokenizer.encode(text, { special, addBos: false, addEos: false });
      if (fnv(ids, 4) !== golden.readUInt32LE(12 * i + (special ? 8 : 4))) {
        different.push(
          `${i} special ${special} ${JSON.stringify(text.slice(0, 200))} [${ids.slice(0, 50).join(" ")}]`,
        );
      }
    }
  }
  return { strings, different };
}
