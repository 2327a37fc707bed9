import { describe, expect, test } from "vitest";
import { createTokenizer, type TokenizerData } from "../lib/tokenizer/tokenizer.js";
import { bytePairData, sentencePieceData, stringTable } from "./support/tokenizer-data.js";

const invalid = "ERR_INHOUSE_TOKENIZER_INVALID";
const unsupported = "ERR_INHOUSE_UNSUPPORTED_TOKENIZER";
const bpe = (change: object): unknown => ({ ...bytePairData(["a b"]), ...change });
const spm = (change: object): unknown => ({ ...sentencePieceData([["a", -1]]), ...change });
const offsets = (...values: number[]): object => ({
  data: new Uint8Array(10),
  offsets: Uint32Array.from(values),
});

// prettier-ignore
const cases: [name: string, data: unknown, code: string, message: RegExp][] = [
  ["nothing", undefined, invalid, /expected an object/],
  ["null", null, invalid, /expected an object/],
  ["no model", bpe({ model: undefined }), unsupported, /tokenizer\.ggml\.model is undefined; expected "gpt2" or "llama"/],
  ["unknown model", bpe({ model: "rwkv" }), unsupported, /model is "rwkv"/],
  ["a model name of 1 MB", bpe({ model: "x".repeat(1e6) }), unsupported, /^.{100,400}$/],
  ["unknown pre", bpe({ pre: "new-thing" }), unsupported, /pre is "new-thing"; expected one of/],
  ["no pre", bpe({ pre: undefined }), unsupported, /pre is missing/],
  ["no tokens", bpe({ tokens: undefined }), invalid, /tokens: expected \{ data/],
  ["tokens as strings", bpe({ tokens: ["a"] }), invalid, /tokens: expected \{ data/],
  ["empty vocabulary", bpe({ tokens: stringTable([]) }), invalid, /tokens: 0 strings; expected 1 to 4194304/],
  ["empty offsets", bpe({ tokens: offsets() }), invalid, /tokens: 0 strings/],
  ["huge vocabulary", bpe({ tokens: { data: new Uint8Array(0), offsets: new Uint32Array((1 << 22) + 2) } }), invalid, /4194305 strings/],
  ["offsets that begin late", bpe({ tokens: offsets(1, 10) }), invalid, /offsets from 1 to 10; expected 0 to 10/],
  ["offsets past the end", bpe({ tokens: offsets(0, 11) }), invalid, /offsets from 0 to 11/],
  ["offsets that end early", bpe({ tokens: offsets(0, 9) }), invalid, /offsets from 0 to 9/],
  ["falling offsets", bpe({ tokens: offsets(0, 7, 5, 10) }), invalid, /tokens\[1\]: length -2/],
  ["offsets near 2^32", bpe({ tokens: offsets(0, 0xffffffff, 10) }), invalid, /tokens\[0\]/],
  ["a token of 5,000 bytes", bpe({ tokens: stringTable(["a".repeat(5000)]) }), invalid, /tokens\[0\]: 5000 bytes; expected at most 4096/],
  ["token types of wrong length", bpe({ tokenTypes: new Int32Array(3) }), invalid, /token_type: 3 entries; expected 257/],
  ["token types of wrong type", bpe({ tokenTypes: [1] }), invalid, /token_type: expected an Int32Array/],
  ["token type 7", bpe({ tokenTypes: new Int32Array(257).fill(7) }), invalid, /token_type\[0\]: 7; expected 1 to 6/],
  ["negative token type", bpe({ tokenTypes: new Int32Array(257).fill(-1) }), invalid, /token_type\[0\]: -1/],
  ["no scores", spm({ scores: undefined }), invalid, /scores: missing/],
  ["scores of wrong length", spm({ scores: new Float32Array(9) }), invalid, /scores: 9 entries; expected 260/],
  ["scores of wrong type", spm({ scores: new Int32Array(260) }), invalid, /scores: expected a Float32Array/],
  ["NaN score", spm({ scores: new Float32Array(260).fill(NaN) }), invalid, /scores\[0\]: NaN/],
  ["infinite score", spm({ scores: new Float32Array(260).fill(-Infinity) }), invalid, /scores\[0\]: -Infinity/],
  ["no merges", bpe({ merges: undefined }), invalid, /merges: missing/],
  ["merges of wrong type", bpe({ merges: ["a b"] }), invalid, /merges: expected \{ data/],
  ["merge without space", bpe({ merges: stringTable(["ab"]) }), invalid, /merges\[0\]: no two tokens/],
  ["empty merge", bpe({ merges: stringTable([""]) }), invalid, /merges\[0\]: no two tokens/],
  ["merge of nothing", bpe({ merges: stringTable([" b"]) }), invalid, /merges\[0\]/],
  ["merge with nothing", bpe({ merges: stringTable(["a "]) }), invalid, /merges\[0\]/],
  ["merge of three", bpe({ merges: stringTable(["a b c"]) }), invalid, /merges\[0\]: a character that stands for no byte/],
  ["merge that takes its space from the next", bpe({ merges: stringTable(["ab", "a b"]) }), invalid, /merges\[0\]: no two tokens/],
  ["merge of an unknown first", bpe({ merges: stringTable(["zz b"]) }), invalid, /merges\[0\]: its first part is not among the tokens/],
  ["merge of an unknown second", bpe({ merges: stringTable(["a zz"]) }), invalid, /merges\[0\]: its second part/],
  ["merge to an unknown token", bpe({ merges: stringTable(["a b", "b a"]) }), invalid, /merges\[1\]: the merged text/],
  ["merge that is not byte-level text", bpe({ merges: stringTable(["a 中"]) }), invalid, /stands for no byte/],
  ["merge that is not UTF-8", bpe({ merges: stringTable([Uint8Array.of(0x61, 0x20, 0xff)]) }), invalid, /stands for no byte/],
  ["BOS out of range", bpe({ bosTokenId: 257 }), invalid, /bos_token_id: 257; expected an integer from 0 to 256/],
  ["negative EOS", bpe({ eosTokenId: -1 }), invalid, /eos_token_id: -1/],
  ["fractional padding id", bpe({ paddingTokenId: 0.5 }), invalid, /padding_token_id: 0.5/],
  ["EOT as text", bpe({ eotTokenId: "1" }), invalid, /eot_token_id: 1/],
  ["unknown id of 2^63", bpe({ unknownTokenId: 2 ** 63 }), invalid, /unknown_token_id/],
  ["add_bos as number", bpe({ addBos: 1 }), invalid, /add_bos_token: number; expected a boolean/],
  ["add_bos without BOS", bpe({ addBos: true }), invalid, /add_bos_token: true, but bos_token_id is missing/],
  ["add_eos without EOS", bpe({ addEos: true }), invalid, /add_eos_token: true, but eos_token_id is missing/],
  ["byte token of another form", spm({ tokenTypes: new Int32Array(260).fill(6) }), invalid, /tokens\[0\]: is a byte token, but not of the form/],
];

describe("hostile tokenizer metadata is refused with the field and what was expected", () => {
  test.each(cases)("%s", async (_name, data, code, message) => {
    await expect(createTokenizer(data as TokenizerData)).rejects.toThrow(
      expect.objectContaining({ name: "InhouseError", code, message: expect.stringMatching(message) }),
    );
  });

  test("special tokens of too many bytes", async () => {
    const special = Array.from({ length: 400 }, (_, i): [string, number] => [`${i}`.repeat(1000), 3]);
    await expect(createTokenizer(bytePairData([], special))).rejects.toThrow(
      /are too long; expected 1048576 bytes/,
    );
  });

  test("odd but harmless: empty tokens, duplicates, tokens that are not UTF-8, no types", async () => {
    const data = bytePairData([]);
    const tokens = Array.from({ length: 256 }, (_, i) =>
      data.tokens.data.slice(data.tokens.offsets[i], data.tokens.offsets[i + 1]),
    );
    const odd = stringTable([...tokens, "", "a", Uint8Array.of(0xff, 0xfe)]);
    const tokenizer = await createTokenizer({ ...data, tokens: odd, tokenTypes: undefined });
    expect([...tokenizer.encode("a")]).toEqual([257]);
    expect(tokenizer.decode([256, 257, 258])).toBe("a\ufffd\ufffd");
  });

  test("an aborted signal rejects with its reason", async () => {
    const reason = new Error("enough");
    await expect(createTokenizer(bytePairData(), { signal: AbortSignal.abort(reason) })).rejects.toBe(reason);
  });
});
