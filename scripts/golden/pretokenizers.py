"""Golden splits for the pre-tokenizer tests.

    python scripts/golden/pretokenizers.py

Needs tokenizers 0.23.3. Splits the strings of tokenizer.py with the published patterns, applied by the tokenizers
library, and writes test/golden/pretokenizers.json: for each `tokenizer.ggml.pre` name, FNV-1a hashes over 100 strings each
of the pieces' lengths in UTF-8 bytes.

The patterns are those of the tokenizer.json files of: openai-community/gpt2, meta-llama/Meta-Llama-3-8B, Qwen/Qwen2-7B,
Qwen/Qwen3.5, openai/gpt-oss-20b (o200k), mistralai/Mistral-Nemo (tekken), deepseek-ai/deepseek-llm-7b,
deepseek-coder-6.7b and DeepSeek-V3, HuggingFaceTB/SmolLM2, tiiuae/falcon-7b, bigscience/bloom, LumiOpen/Viking.
"""

import json
import os
import sys

from tokenizers import Regex
from tokenizers import pre_tokenizers as p

import tokenizer as golden

GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
CL100K = CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
QWEN2 = CL100K.replace("{1,3}", "")
QWEN35 = (
    CONTRACTIONS
    + r"|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
UPPER, LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
CASED = r"[^\r\n\p{L}\p{N}]?" + UPPER + "*" + LOWER + "+%s|" + r"[^\r\n\p{L}\p{N}]?" + UPPER + "+" + LOWER + "*%s"
CASED_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"
O200K = CASED.replace("%s", CONTRACTIONS + "?") + r"|\p{N}{1,3}" + CASED_REST
TEKKEN = CASED.replace("%s", "") + r"|\p{N}" + CASED_REST
# In hexadecimal, since NFC would change some.
DEEPSEEK_LETTERS = "".join(
    "-".join(chr(int(c, 16)) for c in r.split("-"))
    for r in """
    41-5a 61-7a b5 c0-d6 d8-f6 f8-1ba 1bc-1bf 1c4-293 295-2af 370-373 376 377 37b-37d 37f 386 388-38a 38c 38e-3a1
    3a3-3f5 3f7-481 48a-52f 531-556 10a0-10c5 13a0-13f5 13f8-13fd 1c90-1cba 1cbd-1cbf 1d00-1d2b 1d6b-1d77 1d79-1d9a
    1e00-1f15 1f18-1f1d 1f20-1f45 1f48-1f4d 1f50-1f57 1f59 1f5b 1f5d 1f5f-1f7d 1f80-1fb4 1fb6-1fbc 1fbe 1fc2-1fc4
    1fc6-1fcc 1fd0-1fd3 1fd6-1fdb 1fe0-1fec 1ff2-1ff4 1ff6-1ffc 2102 2107 210a-2113 2115 2119-211d 2124 2126 2128
    212a-212d 212f-2134 2139 213c-213f 2145-2149 214e 2183 2184 2c00-2c7b 2c7e-2ce4 2ceb-2cee 2cf2 2cf3 a640-a66d
    a680-a69b a722-a76f a771-a787 a78b-a78e ab70-abbf fb00-fb06 fb13-fb17 ff21-ff3a ff41-ff5a 10400-1044f
    104b0-104d3 104d8-104fb 10c80-10cb2 10cc0-10cf2 118a0-118df 1e900-1e943
    """.split()
)
DEEPSEEK_WIDE = "[一-龥ࠀ-一가-퟿]+"
DEEPSEEK_V3 = [
    r"\p{N}{1,3}",
    "[一-龥぀-ゟ゠-ヿ]+",
    r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+""",
]
BLOOM = " ?[^(\\s|.,!?…。，、।۔،)]+"

STAGES = {
    "gpt-2": [GPT2],
    "smollm": [r"\p{N}", GPT2],
    "llama-bpe": [CL100K],
    "minicpm5": [r"\p{N}{1,3}", CL100K.replace("{1,3}", "+")],
    "qwen2": [QWEN2],
    "ufakzeka": [QWEN2.replace(CONTRACTIONS + "|", "")],
    "laguna": [r"[^\n]+|[\n]+", QWEN2],
    "qwen35": [QWEN35],
    "gpt-4o": [O200K],
    "tekken": [TEKKEN],
    "deepseek-llm": [
        r"[\r\n]",
        rf"\s?[{DEEPSEEK_LETTERS}]+",
        r"\s?[!-/:-~！-／：-～‘-‟　-。]+",
        r"\s+$",
        DEEPSEEK_WIDE,
        r"\p{N}+",
    ],
    "deepseek-coder": [r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", DEEPSEEK_WIDE, r"\p{N}"],
    "deepseek-v3": DEEPSEEK_V3,
    "falcon": [r"[\p{P}\$\+<=>\^~\|`]+", GPT2, "[0-9][0-9][0-9]"],
    "bloom": [BLOOM],
    "viking": [BLOOM, r"\p{N}"],
}
PER_HASH = 100


def main():
    every = sys.argv[1:] == ["--every"]  # one hash for each string, to standard output, to find a difference
    texts = [golden.string(i).encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") for i in range(golden.COUNT)]
    result = {}
    for name, patterns in STAGES.items():
        split = p.Sequence([p.Split(Regex(pattern), "isolated") for pattern in patterns])
        lengths = [[len(piece.encode()) for piece, _ in split.pre_tokenize_str(text)] for text in texts]
        step = 1 if every else PER_HASH
        result[name] = [
            golden.fnv([n for row in lengths[i : i + step] for n in row], 4) for i in range(0, len(lengths), step)
        ]
    if every:
        json.dump(result, sys.stdout)
        return
    with open(os.path.join(golden.GOLDEN, "pretokenizers.json"), "w") as f:
        f.write("{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in result.items()) + "\n}\n")


if __name__ == "__main__":
    main()
