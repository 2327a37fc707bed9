import { describe, expect, test } from "vitest";
import { createTokenizer, type Tokenizer, TokenKind } from "../lib/tokenizer/tokenizer.js";
import { bytePairData, sentencePieceData } from "./support/tokenizer-data.js";
import { fnv } from "./support/tokenizer-strings.js";

const chat = (): Promise<Tokenizer> =>
  createTokenizer({
    ...bytePairData(
      ["h e", "l l", "he ll", "hell o", "Ġ hello"],
      [
        ["<|im_start|>", 3],
        ["<|im_end|>", 3],
        ["<think>", 4],
        ["<think>ing", 4],
        ["[PAD]", 5],
        ["<s>", 3],
      ],
    ),
    bosTokenId: 266,
    eosTokenId: 262,
    addBos: true,
  });

describe("special tokens", () => {
  test("control tokens in a user's text stay text; with special they are tokens", async () => {
    const tokenizer = await chat();
    const text = "hello<|im_end|>";
    const user = tokenizer.encode(text, { addBos: false });
    expect(user).not.toContain(262);
    expect(user[0]).toBe(259);
    expect(tokenizer.decode(user)).toBe(text);
    expect([...tokenizer.encode(text, { addBos: false, special: true })]).toEqual([259, 262]);
  });

  test("user-defined tokens are recognized either way, the longest first", async () => {
    const tokenizer = await chat();
    for (const special of [false, true]) {
      expect([...tokenizer.encode("<think><think>ing", { addBos: false, special })]).toEqual([263, 264]);
    }
    expect(tokenizer.decode([263])).toBe("<think>");
  });

  test("BOS is added as the file says, and never doubled", async () => {
    const tokenizer = await chat();
    expect([...tokenizer.encode("hello")]).toEqual([266, 259]);
    expect([...tokenizer.encode("<s>hello", { special: true })]).toEqual([266, 259]);
    expect([...tokenizer.encode("<s>hello", { special: true, addBos: false })]).toEqual([266, 259]);
    expect([...tokenizer.encode("hello", { addBos: false })]).toEqual([259]);
    expect([...tokenizer.encode("")]).toEqual([266]);
    // A user who writes <s> does not get out of the real one.
    expect(tokenizer.encode("<s>hello").filter((id) => id === 266)).toHaveLength(1);
    expect(tokenizer.encode("<s>hello")).toHaveLength(5);
  });

  test("EOS is added when asked for, and never doubled", async () => {
    const tokenizer = await chat();
    const options = { special: true, addBos: false, addEos: true };
    expect([...tokenizer.encode("hello", options)]).toEqual([259, 262]);
    expect([...tokenizer.encode("hello<|im_end|>", options)]).toEqual([259, 262]);
  });

  test("stop tokens are known by the file and by name", async () => {
    const names = ["</s>", "<end_of_turn>", "<|end|>", "<|return|>", "<|call|>", "<eos>"];
    const kinds = [4, 3, 3, 3, 3, 3];
    const data = bytePairData(
      [],
      names.map((name, i): [string, number] => [name, kinds[i]]),
    );
    const tokenizer = await createTokenizer({ ...data, eotTokenId: 7 });
    // </s> is a HTML tag here, and <|end|> ends a channel only.
    expect([...tokenizer.stopTokenIds].map((id) => tokenizer.tokenText(id))).toEqual([
      tokenizer.tokenText(7),
      "<end_of_turn>",
      "<|return|>",
      "<|call|>",
      "<eos>",
    ]);
  });
});

describe("decoding", () => {
  test("control tokens are left out, or named with special", async () => {
    const tokenizer = await chat();
    expect(tokenizer.decode([261, 259, 262, 265])).toBe("hello");
    expect(tokenizer.decode([261, 259, 262], { special: true })).toBe("<|im_start|>hello<|im_end|>");
    const detokenizer = tokenizer.detokenizer({ special: true });
    expect([261, 260].map((id) => detokenizer.push(id))).toEqual(["<|im_start|>", " hello"]);
  });

  test("a character over several tokens streams whole", async () => {
    const tokenizer = await chat();
    const detokenizer = tokenizer.detokenizer();
    const ids = tokenizer.encode("a😀", { addBos: false });
    expect(Array.from(ids, (id) => detokenizer.push(id))).toEqual(["a", "", "", "", "😀"]);
    detokenizer.push(0xe2);
    expect(detokenizer.flush()).toBe("\ufffd");
  });

  test.each([-1, 267, 0.5, NaN, 2 ** 32])("id %s is refused", async (id) => {
    const tokenizer = await chat();
    for (const use of [
      () => tokenizer.decode([id]),
      () => tokenizer.tokenBytes(id),
      () => tokenizer.tokenText(id),
      () => tokenizer.tokenKind(id),
      () => tokenizer.detokenizer().push(id),
    ]) {
      expect(use).toThrow(
        expect.objectContaining({
          code: "ERR_INHOUSE_TOKEN_OUT_OF_RANGE",
          message: `token id ${id}: expected an integer from 0 to 266`,
        }),
      );
    }
  });

  test("the table for the native core has output bytes only", async () => {
    const tokenizer = await chat();
    const { bytes, offsets, kinds } = tokenizer.vocabulary();
    const text = (id: number): string => Buffer.from(bytes.subarray(offsets[id], offsets[id + 1])).toString();
    expect(offsets).toHaveLength(tokenizer.size + 1);
    expect([text(260), text(261), text(263), text(265)]).toEqual([" hello", "", "<think>", ""]);
    expect(kinds[261]).toBe(TokenKind.control);
    expect(tokenizer.tokenText(260)).toBe("Ġhello");
    expect(tokenizer.tokenId("Ġhello")).toBe(260);
    expect(tokenizer.tokenId("nothing")).toBeUndefined();
    for (let byte = 0; byte < 256; byte++) expect([...tokenizer.tokenBytes(byte)]).toEqual([byte]);
  });
});

describe("text", () => {
  test("lone surrogates count as U+FFFD", async () => {
    const tokenizer = await chat();
    expect(tokenizer.decode(tokenizer.encode("a\ud800b\udc00"))).toBe("a\ufffdb\ufffd");
    // A pair on the border between two chunks of 65,536 units stays whole.
    const text = "x".repeat(65535) + "😀".repeat(3);
    expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
  });

  test.each([undefined, null, 1, {}, ["a"]])("text that is no string is refused: %s", async (text) => {
    const tokenizer = await chat();
    const error = {
      code: "ERR_INHOUSE_INVALID_ARGUMENT",
      message: expect.stringMatching(/^encode(Async)?: the text is .*; expected a string/),
    };
    expect(() => tokenizer.encode(text as string)).toThrow(expect.objectContaining(error));
    await expect(tokenizer.encodeAsync(text as string)).rejects.toThrow(expect.objectContaining(error));
  });

  test("wrong arguments are refused", async () => {
    const tokenizer = await chat();
    const ranges = /^encode: option 'special' is .*; expected true, false, or a list of ranges/;
    const table: [
      method: "encode" | "decode" | "detokenizer" | "tokenId" | "tokenText",
      unknown[],
      RegExp,
    ][] = [
      ["encode", ["a", null], /^encode: options are null; expected an object/],
      ["encode", ["a", { addbos: true }], /^encode: unknown option 'addbos'; did you mean 'addBos'/],
      ["encode", ["a", { signal: AbortSignal.abort() }], /unknown option 'signal'/],
      ["encode", ["a", { addBos: 1 }], /^encode: option 'addBos' is 1; expected true or false/],
      ["encode", ["a", { special: 1 }], ranges],
      ["encode", ["a", { special: [1, 2] }], ranges],
      ["encode", ["a", { special: [[0]] }], ranges],
      ["encode", ["a", { special: [[0.5, 1]] }], ranges],
      ["encode", ["a", { special: [[1, 0]] }], ranges],
      [
        "encode",
        [
          "ab",
          {
            special: [
              [1, 2],
              [0, 1],
            ],
          },
        ],
        ranges,
      ],
      ["encode", ["ab", { special: [[1, 3]] }], /ends at 3; expected at most 2, the text's length/],
      ["decode", [undefined], /^decode: the tokens are undefined; expected a list of token ids/],
      ["decode", ["12"], /^decode: the tokens are '12'/],
      ["decode", [{ length: -1 }], /^decode: the tokens are/],
      ["decode", [[1, "2"]], /^token id '2': expected an integer/],
      ["decode", [[1], { specials: true }], /^decode: unknown option 'specials'; did you mean 'special'/],
      ["detokenizer", [{ special: 1 }], /^detokenizer: option 'special' is 1; expected true or false/],
      ["tokenId", [5], /^tokenId: the text is 5; expected a string/],
      ["tokenText", [undefined], /^token id undefined: expected an integer/],
    ];
    for (const [method, given, message] of table) {
      const call = (): unknown => (tokenizer[method] as (...all: unknown[]) => unknown)(...given);
      expect(call, String(message)).toThrow(message);
      expect(call).toThrow(expect.objectContaining({ code: "ERR_INHOUSE_INVALID_ARGUMENT" }));
    }
    await expect(tokenizer.encodeAsync("a", { signal: 5 as never })).rejects.toThrow(
      /^encodeAsync: option 'signal' is 5; expected an AbortSignal/,
    );
  });
});

describe("merging", () => {
  const letters = "abcd";
  const merges: string[] = [];
  let state = 7;
  const below = (n: number): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) % n;
  const parts = [...letters];
  while (merges.length < 60) {
    const pair = `${parts[below(parts.length)]} ${parts[below(parts.length)]}`;
    if (merges.includes(pair) || pair.length > 12) continue;
    merges.push(pair);
    parts.push(pair.replace(" ", ""));
  }

  /** The definition: merge the pair of lowest rank, leftmost first, until there is none. */
  function slow(text: string): string[] {
    const symbols = [...text];
    for (;;) {
      let best = Infinity;
      let at = -1;
      for (let i = 0; i + 1 < symbols.length; i++) {
        const rank = merges.indexOf(`${symbols[i]} ${symbols[i + 1]}`);
        if (rank >= 0 && rank < best) [best, at] = [rank, i];
      }
      if (at < 0) return symbols;
      symbols.splice(at, 2, symbols[at] + symbols[at + 1]);
    }
  }

  test("long and short words follow the definition", async () => {
    const tokenizer = await createTokenizer(bytePairData(merges));
    for (let round = 0; round < 300; round++) {
      const text = Array.from({ length: 1 + below(round < 200 ? 40 : 200) }, () => letters[below(4)]).join(
        "",
      );
      expect(Array.from(tokenizer.encode(text), (id) => tokenizer.tokenText(id))).toEqual(slow(text));
    }
  });

  test("SentencePiece: best score first, leftmost among equals; unused pieces are taken apart", async () => {
    const tokenizer = await createTokenizer({
      ...sentencePieceData([
        ["▁", -9],
        ["a", -9],
        ["b", -9],
        ["ab", -1],
        ["ba", -1],
        ["aba", -3, 5],
        ["▁ab", -2],
        ["中", -9],
      ]),
      addBos: false,
    });
    const texts = (text: string): string[] =>
      Array.from(tokenizer.encode(text), (id) => tokenizer.tokenText(id));
    expect(texts("ab")).toEqual(["▁ab"]);
    expect(texts("bab")).toEqual(["▁", "ba", "b"]);
    expect(texts("aba")).toEqual(["▁ab", "a"]);
    expect(texts("baba")).toEqual(["▁", "ba", "ba"]);
    expect(texts("中é")).toEqual(["▁", "中", "<0xC3>", "<0xA9>"]);
    expect(tokenizer.decode(tokenizer.encode("  ab é"))).toBe("  ab é");
    expect(Array.from(tokenizer.tokenBytes(tokenizer.tokenId("▁ab")!))).toEqual([0x20, 0x61, 0x62]);
    expect([...tokenizer.encode("<s>ab", { special: true })].slice(0, 1)).toEqual([1]);
  });

  test("one enormous word is merged in bounded time", async () => {
    for (const data of [
      bytePairData(merges),
      sentencePieceData(["▁", ...parts].map((part, i) => [part, -i])),
    ]) {
      const tokenizer = await createTokenizer(data);
      for (const unit of ["a", "abcdbca", "中"]) {
        const text = unit.repeat(300_000 / unit.length);
        const start = performance.now();
        expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
        expect(performance.now() - start).toBeLessThan(10_000);
      }
    }
  });
});

describe("encodeAsync", () => {
  test("gives what encode gives, in many slices, also with others at the same time", async () => {
    const tokenizer = await chat();
    const texts = ["hello <think>", "a<|im_end|>b ", "xyz".repeat(50) + " "].map((text) =>
      text.repeat(20_000),
    );
    let ticks = 0;
    let running = true;
    const tick = (): void => {
      ticks++;
      if (running) setImmediate(tick);
    };
    tick();
    const results = await Promise.all(texts.map((text) => tokenizer.encodeAsync(text, { special: true })));
    running = false;
    expect(ticks).toBeGreaterThan(5);
    for (const [i, text] of texts.entries()) {
      expect(fnv(results[i], 4), text.slice(0, 20)).toBe(fnv(tokenizer.encode(text, { special: true }), 4));
    }
  });

  test("an abort stops it with the signal's reason, also in the middle of one long word", async () => {
    const tokenizer = await chat();
    const controller = new AbortController();
    const promise = tokenizer.encodeAsync("hello".repeat(400_000), { signal: controller.signal });
    setImmediate(() => controller.abort("stop"));
    await expect(promise).rejects.toBe("stop");
    await expect(tokenizer.encodeAsync("a", { signal: AbortSignal.abort("early") })).rejects.toBe("early");
  });
});
