"""Golden token ids for the tokenizer tests.

    python scripts/golden/tokenizer.py MODELS_FOLDER [MODEL ...]

Needs transformers 5.23.0, tokenizers 0.23.3, gguf 0.19.0, sentencepiece 0.2.3 and protobuf. For each model it encodes
the strings of a seeded generator (test/support/tokenizer-strings.ts has the same one) and writes
test/golden/tokenizer-NAME.bin: for each string three little-endian 32-bit numbers, the FNV-1a hashes of the string's
UTF-8 bytes, of its token ids as user text, and of its token ids with control tokens recognized.

The references are the tokenizers as their authors published them:
- SmolLM2: transformers' conversion of the GGUF file, which lacks the published pre-tokenizer's first stage
  (Digits, individual); it is put back here.
- Qwen2.5: transformers' conversion, which lacks the published normalizer (NFC); it is put back here.
- Gemma 3: the sentencepiece library on the pieces, scores and types of the file, which is how the model was published
  (with control tokens: these made user-defined). transformers' conversion of the file gives other ids for runs of more
  than 31 spaces (it merges them pairwise, where SentencePiece takes the longest run that is a token); the script prints
  how often.
"""

import json
import os
import struct
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
HERE = os.path.dirname(os.path.abspath(__file__))
GOLDEN = os.path.join(HERE, "..", "..", "test", "golden")
COUNT = 10_000
REPORTS = []

FILES = {
    "smollm2": "SmolLM2-135M-Instruct.Q4_1.gguf",
    "gemma3": "gemma-3-270m-q4_k_m.gguf",
    "qwen2": "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf",
}

SNIPPETS = json.load(open(os.path.join(HERE, "tokenizer-snippets.json"), encoding="utf-8"))
SPACES = [" ", "  ", "    ", "\t", "\n", "\r\n", "\r", "\n\n", "\u00a0", "\u3000", "\u2003", "\u0085", "\u2028", "\x0b", "\x0c", "\u200b"]
JOINS = ["", "", " ", " ", "\n", "  ", "\t", "\r\n", "\u00a0"]
SPECIALS = [
    "<|im_start|>", "<|im_end|>", "<|endoftext|>", "<bos>", "<eos>", "<pad>", "<unk>", "<start_of_turn>", "<end_of_turn>",
    "<unused5>", "<unused6241>", "<s>", "</s>", "[multimodal]", "<table>", "</td>", "<h1>", "<0x0A>", "<0xE2>", "\u2581\u2581",
    "<|fim_prefix|>", "<|fim_middle|>", "<tool_call>", "</tool_call>", "<|file_sep|>", "<repo_name>", "<|im_", "|>", "<|",
    "<empty_output>", "<jupyter_text>", "<start_of_image>", "\t\t\t", "\n\n\n", "   ", "[PAD151665]", "<", ">", "im_end",
]
EMOJI = ["😀", "🤣", "👍", "👩", "👧", "👦", "🏳", "❤", "☺", "1", "#", "🇩", "🇪", "🇫", "🇷", "🧑", "🚀", "🫠", "⚽", "🏴"]
JOINERS = ["", "\u200d", "\ufe0f", "\u20e3", "\U0001f3fb", "\U0001f3ff", "\u200d\u2642\ufe0f", " ", "\U000e0067"]
SCRIPTS = [
    0x00C0, 0x0180, 0x0370, 0x0400, 0x0530, 0x0590, 0x0600, 0x0780, 0x0900, 0x0980, 0x0B80, 0x0C00, 0x0D00, 0x0E00, 0x0F00,
    0x1000, 0x10A0, 0x1200, 0x13A0, 0x1780, 0x1C80, 0x1E00, 0x1F00, 0x2100, 0x2C00, 0x3040, 0x30A0, 0x4E00, 0x9F00, 0xA640,
    0xA720, 0xAB30, 0xAC00, 0xFB00, 0xFF00, 0x10400, 0x1E900, 0x1D400, 0x1F600, 0x20000,
]
CASES = "aAbBzZ'\u2019sStTrReEvVlLmMdD \u017f-_/\n.\u01c5\u02b0\u4e2d\u0301"
MARKS = [0x300, 0x301, 0x308, 0x30A, 0x323, 0x327, 0x338, 0x345, 0x93C, 0x3099, 0x309A, 0x1161, 0x11A8, 0x5B0, 0x64B]
BASES = "aAeEoOuUnNcC<=>\u0438\u0439\u03b1\u0915\u304b\u306f\u1100\u1112\uac00\u212b\u1e9b\u0627 "
DIGITS = "0123456789\u0660\u0663\u0967\u0e52\uff10\uff19\u00b2\u2167\u00bd\U0001d7d8.,-+:/ "
MASK = 0xFFFFFFFF


class Random:
    """xorshift32"""

    def __init__(self, seed):
        self.state = seed & MASK or 1

    def below(self, n):
        x = self.state
        x ^= (x << 13) & MASK
        x ^= x >> 17
        x ^= (x << 5) & MASK
        self.state = x
        return x % n

    def of(self, items):
        return items[self.below(len(items))]


def many(r, least, most, make):
    return "".join([make() for _ in range(least + r.below(most - least + 1))])


def code_point(r, limit):
    c = r.below(limit - 0x800)
    return chr(c + 0x800 if c >= 0xD800 else c)


def unit(r):
    """A UTF-16 unit, often a surrogate."""
    kind = r.below(4)
    if kind == 0:
        return 0xD800 + r.below(0x400)
    if kind == 1:
        return 0xDC00 + r.below(0x400)
    return 0x20 + r.below(0x5F) if kind == 2 else 0x4E00 + r.below(0x100)


def byte(r):
    return r.below(256) if r.below(2) else r.of([0xE2, 0x82, 0xAC, 0xF0, 0x9F, 0x98, 0x80, 0xC3, 0xA9, 0x20, 0x61])


def string(i):
    r = Random(0x9E3779B9 ^ ((i * 0x85EBCA6B) & MASK))
    kind = i % 20
    if kind < 4:
        return many(r, 1, 6, lambda: r.of(SNIPPETS) + r.of(JOINS))
    if kind == 4:
        return many(r, 1, 40, lambda: code_point(r, 0x10000))
    if kind == 5:
        return many(r, 1, 40, lambda: code_point(r, 0x110000))
    if kind == 6:
        return many(r, 1, 80, lambda: chr(0x20 + r.below(0x5F)))
    if kind == 7:
        return many(r, 1, 60, lambda: chr(r.below(0x80)))
    if kind == 8:
        n = 1 + r.below(60)
        return bytes([byte(r) for _ in range(n)]).decode("utf-8", "replace")
    if kind == 9:
        return many(r, 1, 20, lambda: r.of(SPACES) if r.below(4) else r.of("aZ1.é中"))
    if kind == 10:
        return many(r, 1, 40, lambda: r.of(DIGITS))
    if kind == 11:
        return many(r, 1, 15, lambda: r.of(EMOJI) + r.of(JOINERS))
    if kind == 12:
        return many(r, 1, 12, lambda: r.of(SPECIALS) if r.below(2) else r.of(SNIPPETS)[: r.below(12)])
    if kind == 13:
        n = 1 + r.below(30)
        units = [unit(r) for _ in range(n)]
        return struct.pack(f"<{n}H", *units).decode("utf-16-le", "replace")
    if kind == 14:
        alphabet = r.of(["a", "ab", "abcdefghijklmnopqrstuvwxyz", "etaoinshrdlu", "中文字", "=-", "0123456789", "\u0e01\u0e32\u0e48", " "])
        return many(r, 100, 1500, lambda: r.of(alphabet))
    if kind == 15:
        start = r.of(SCRIPTS)
        return many(r, 1, 40, lambda: chr(start + r.below(96)) if r.below(5) else " ")
    if kind == 16:
        return many(r, 1, 40, lambda: r.of(CASES))
    if kind == 17:
        return many(r, 1, 25, lambda: r.of(BASES) if r.below(2) else chr(r.of(MARKS)))
    if kind == 18:
        return many(r, 1, 20, lambda: " " + r.of(r.of(SNIPPETS).split(" ")))
    text = r.of(SNIPPETS)
    start = r.below(len(text))
    return text[start:] + r.of(JOINS) + text[: r.below(len(text))]


def fnv(values, width):
    h = 0x811C9DC5
    for v in values:
        for k in range(width):
            h = ((h ^ ((v >> (8 * k)) & 255)) * 0x01000193) & MASK
    return h


def converted(folder, name):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(folder, gguf_file=FILES[name]).backend_tokenizer


def both(tokenizer):
    """Encoders for user text and for text with control tokens."""

    def encode(text, special):
        tokenizer.encode_special_tokens = not special
        return tokenizer.encode(text, add_special_tokens=False).ids

    return encode


def smollm2(folder):
    from tokenizers import pre_tokenizers as p

    t = converted(folder, "smollm2")
    t.pre_tokenizer = p.Sequence([p.Digits(individual_digits=True), p.ByteLevel(add_prefix_space=False, use_regex=True)])
    return both(t)


def qwen2(folder):
    from tokenizers import normalizers

    t = converted(folder, "qwen2")
    t.normalizer = normalizers.NFC()
    return both(t)


def gemma3(folder):
    import gguf
    import sentencepiece
    from sentencepiece import sentencepiece_model_pb2 as pb

    reader = gguf.GGUFReader(os.path.join(folder, FILES["gemma3"]))
    field = lambda key: reader.fields[f"tokenizer.ggml.{key}"]
    tokens, scores, types = field("tokens"), field("scores"), field("token_type")

    def processor(special):
        proto = pb.ModelProto()
        for t, s, k in zip(tokens.data, scores.data, types.data):
            text = bytes(tokens.parts[t]).decode("utf-8")
            kind = int(types.parts[k][0])
            if special and kind == 3 and text != "<unk>":
                kind = 4
            # The file has the runs of spaces as they appear in text, SentencePiece as they appear after escaping.
            if kind == 4:
                text = text.replace(" ", "\u2581")
            proto.pieces.add(piece=text, score=float(scores.parts[s][0]), type=2 if text == "<unk>" else kind)
        trainer = proto.trainer_spec
        trainer.model_type = pb.TrainerSpec.BPE
        trainer.byte_fallback = True
        trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 3, 2, 1, 0
        trainer.unk_piece, trainer.pad_piece, trainer.bos_piece, trainer.eos_piece = "<unk>", "<pad>", "<bos>", "<eos>"
        trainer.vocab_size = len(proto.pieces)
        proto.normalizer_spec.name = "identity"
        proto.normalizer_spec.add_dummy_prefix = False
        proto.normalizer_spec.remove_extra_whitespaces = False
        proto.normalizer_spec.escape_whitespaces = True
        return sentencepiece.SentencePieceProcessor(model_proto=proto.SerializeToString())

    plain, control = processor(False), processor(True)
    hf = both(converted(folder, "gemma3"))
    odd = []

    def encode(text, special):
        if not special:
            return plain.encode(text)
        ids = []
        for i, part in enumerate(text.split("<unk>")):
            ids += ([3] if i else []) + control.encode(part)
        if ids != hf(text, True):
            odd.append(text)
        return ids

    def report():
        runs = sum(" " * 32 in text for text in odd)
        print(f"gemma3: transformers differs on {len(odd)} strings, {runs} of them with more than 31 spaces in a row")

    REPORTS.append(report)
    return encode


def main():
    folder, names = sys.argv[1], sys.argv[2:] or list(FILES)
    strings = [string(i).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for i in range(COUNT)]
    for name in names:
        encode = globals()[name](folder)
        rows = []
        for s in strings:
            rows.append(struct.pack("<3I", fnv(s.encode(), 1), fnv(encode(s, False), 4), fnv(encode(s, True), 4)))
        with open(os.path.join(GOLDEN, f"tokenizer-{name}.bin"), "wb") as f:
            f.write(b"".join(rows))
        print(name, len(rows), "strings,", sum(len(s.encode()) for s in strings), "bytes")
    for report in REPORTS:
        report()


if __name__ == "__main__":
    main()
