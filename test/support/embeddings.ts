import { readFileSync } from "node:fs";
import { join } from "node:path";

/** Pooled hidden states as transformers computed them. */
export interface GoldenEmbedding {
  tokens: number[];
  mean: Float32Array;
  last: Float32Array;
}

export function readEmbeddings(name: string): GoldenEmbedding[] {
  const path = join(import.meta.dirname, `../golden/${name}.embeddings.json`);
  const { texts } = JSON.parse(readFileSync(path, "utf8")) as {
    texts: { tokens: number[]; mean: string; last: string }[];
  };
  const floats = (text: string): Float32Array =>
    new Float32Array(new Uint8Array(Buffer.from(text, "base64")).buffer);
  return texts.map(({ tokens, mean, last }) => ({ tokens, mean: floats(mean), last: floats(last) }));
}

/** The length of the difference over that of what was expected. */
export function distanceTo(expected: Float32Array, vector: Float32Array): number {
  const squares = (of: (i: number) => number): number =>
    expected.reduce((sum, _, i) => sum + of(i) * of(i), 0);
  return Math.sqrt(squares((i) => vector[i] - expected[i]) / squares((i) => expected[i]));
}
