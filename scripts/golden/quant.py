"""Writes test/golden/quant.bin: what the Python gguf package makes of random blocks of every tensor type.

For each type: a few blocks with their values (scales include zero, subnormals, infinities and NaN), and a checksum
over the values of many more blocks, which the test makes anew with the same generator. Also checksums of the
encoders for binary16, bfloat16 and Q8_0.

Usage: pip install -r scripts/golden/requirements.txt; python scripts/golden/quant.py
"""

import struct
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T

TYPES = [
    T.F32, T.F16, T.BF16, T.Q4_0, T.Q4_1, T.Q5_0, T.Q5_1, T.Q8_0, T.Q2_K, T.Q3_K, T.Q4_K, T.Q5_K, T.Q6_K,
    T.IQ1_S, T.IQ1_M, T.IQ2_XXS, T.IQ2_XS, T.IQ2_S, T.IQ3_XXS, T.IQ3_S, T.IQ4_NL, T.IQ4_XS, T.TQ1_0, T.TQ2_0,
    T.MXFP4, T.NVFP4,
]  # fmt: skip
SHOWN = 16
HASHED = 2048
HASHED_SMALL = 65536  # F32, F16, BF16
ENCODERS = {0x1001: "f16", 0x1002: "bf16", 0x1003: "q8_0"}

# Where the binary16 scales of a block stand, to try the values that random bits seldom give.
HALVES = {
    T.Q4_0: [0], T.Q4_1: [0, 2], T.Q5_0: [0], T.Q5_1: [0, 2], T.Q8_0: [0], T.Q2_K: [80, 82], T.Q3_K: [108],
    T.Q4_K: [0, 2], T.Q5_K: [0, 2], T.Q6_K: [208], T.IQ1_S: [0], T.IQ2_XXS: [0], T.IQ2_XS: [0], T.IQ2_S: [0],
    T.IQ3_XXS: [0], T.IQ3_S: [0], T.IQ4_NL: [0], T.IQ4_XS: [0], T.TQ1_0: [52], T.TQ2_0: [64], T.F16: [0],
}  # fmt: skip
SPECIAL = [0x0000, 0x8000, 0x0001, 0x83FF, 0x0400, 0x7BFF, 0x7C00, 0xFC00, 0x7E00]


def mix(index):
    """The splitmix64 output at a position: a generator that can start anywhere."""
    with np.errstate(over="ignore"):
        z = (index.astype(np.uint64) + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def random_bytes(seed, count):
    words = mix(np.arange((count + 7) // 8, dtype=np.uint64) + np.uint64(seed << 32))
    return words.view(np.uint8)[:count].copy()


def checksum(words):
    """Of 32-bit words in order; the test computes the same."""
    with np.errstate(over="ignore"):
        return int((words.astype(np.uint64) * mix(np.arange(words.size, dtype=np.uint64))).sum(dtype=np.uint64))


def bits(values):
    """As 32-bit words, every NaN alike: its bits depend on the processor."""
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), values.view(np.uint32))


def dequantize(blocks, kind):
    with np.errstate(all="ignore"):
        return bits(gguf.quants.dequantize(blocks, kind))


def encoded(name):
    words = random_bytes(ord(name[0]), 4 << 20).view(np.uint32)
    with np.errstate(all="ignore"):
        if name == "q8_0":
            # Moderate exponents, as activations have them.
            x = (words & 0x8007FFFF) | (112 + (words >> 23) % 24 << 23)
            blocks = gguf.quants.quantize(x.view(np.float32).reshape(-1, 32), T.Q8_0)
            return np.ascontiguousarray(blocks).view(np.uint16).astype(np.uint32).reshape(-1)
        values = words.view(np.float32)
        if name == "f16":
            halves = values.astype(np.float16).view(np.uint16)
        else:
            halves = gguf.quants.quantize(values.reshape(1, -1), T.BF16).view(np.uint16).reshape(-1)
        nan = 0x7E00 if name == "f16" else 0x7FC0
        return np.where(np.isnan(values), np.uint32(nan), halves.astype(np.uint32))


def main():
    out = [b"IHQG", struct.pack("<I", len(TYPES) + len(ENCODERS))]
    for kind in TYPES:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        shown = random_bytes(int(kind), SHOWN * size).reshape(SHOWN, size)
        for i, half in enumerate(SPECIAL):
            for k, at in enumerate(HALVES.get(kind, [])):
                value = SPECIAL[(i + 2 * k) % len(SPECIAL)]
                shown[i, at : at + 2] = [value & 255, value >> 8]
        if kind == T.MXFP4:
            shown[:6, 0] = [0, 1, 2, 127, 254, 255]
        if kind == T.NVFP4:
            shown[:3, :4] = [[0, 1, 7, 8], [0x7E, 0x7F, 0x80, 0x81], [0xFE, 0xFF, 0x38, 0x40]]
        many = HASHED if elements > 1 else HASHED_SMALL
        hashed = random_bytes(int(kind) + 100, many * size).reshape(many, size)
        if kind == T.F16:
            hashed = np.arange(65536, dtype=np.uint16).view(np.uint8).reshape(many, size)
        values = dequantize(shown, kind)
        out.append(struct.pack("<IIIIQ", kind, SHOWN, many, 0, checksum(dequantize(hashed, kind))))
        out += [shown.tobytes(), values.tobytes()]
    for number, name in ENCODERS.items():
        words = encoded(name)
        out.append(struct.pack("<IIIIQ", number, 0, 0, 0, checksum(words)))
    path = Path(__file__).parents[2] / "test/golden/quant.bin"
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"".join(out))
    print(f"{path.name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
