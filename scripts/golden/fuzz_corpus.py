"""Writes test/native/fuzz/corpus/: small GGUF files, made by the Python gguf package, as seeds for the fuzz target
and to check that files written by others open.

Usage: pip install -r scripts/golden/requirements.txt; python scripts/golden/fuzz_corpus.py
"""

import struct
from pathlib import Path

import gguf
import numpy as np
from gguf import GGMLQuantizationType as T
from gguf import GGUFValueType as V
from quant import TYPES, random_bytes

FOLDER = Path(__file__).parents[2] / "test/native/fuzz/corpus"


def writer(name, arch="llama", **options):
    return gguf.GGUFWriter(FOLDER / name, arch, **options)


def finish(w):
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


def all_values(w):
    w.add_uint8("v.u8", 255)
    w.add_int8("v.i8", -128)
    w.add_uint16("v.u16", 65535)
    w.add_int16("v.i16", -32768)
    w.add_uint32("v.u32", 2**32 - 1)
    w.add_int32("v.i32", -(2**31))
    w.add_uint64("v.u64", 2**64 - 1)
    w.add_int64("v.i64", -(2**63))
    w.add_float32("v.f32", 1.5)
    w.add_float64("v.f64", 0.1)
    w.add_bool("v.bool", True)
    w.add_string("v.text", "tëxt\n")
    w.add_array("v.texts", ["one", "", "three"])
    w.add_array("v.ints", [1, -2, 3])
    w.add_array("v.floats", [0.5, 1e30])
    w.add_array("v.bools", [True, False])
    w.add_key_value("v.nested", [["a", "b"], ["c"]], V.ARRAY, V.ARRAY)


def all_types(w):
    for kind in TYPES:
        elements, size = gguf.GGML_QUANT_SIZES[kind]
        data = random_bytes(int(kind), 2 * size).reshape(2, size)
        w.add_tensor(f"t.{kind.name}", data, raw_dtype=kind)


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    for old in FOLDER.glob("*.gguf"):
        old.unlink()
    w = writer("values.gguf")
    all_values(w)
    finish(w)
    w = writer("types.gguf")
    all_types(w)
    finish(w)
    w = writer("aligned.gguf", "gemma3")
    w.add_custom_alignment(64)
    w.add_tensor("blk.0.attn_norm.weight", np.ones(5, np.float32))
    w.add_tensor("token_embd.weight", np.ones((3, 2, 2), np.float16))
    finish(w)
    w = writer("model.gguf", "qwen2")
    w.add_block_count(2)
    w.add_context_length(128)
    w.add_head_count_kv([1, 2])
    w.add_rope_freq_base(1e6)
    w.add_tokenizer_model("gpt2")
    w.add_token_list([b"<s>", b"a", b"\xff\xfe", "é".encode()])
    w.add_token_scores([0.0, -1.0, -2.0, -3.0])
    w.add_token_types([3, 1, 6, 1])
    w.add_token_merges(["a b", "ab c"])
    w.add_chat_template("{{ messages[0].content }}")
    w.add_tensor("output.weight", random_bytes(1, 3 * 144).reshape(3, 144), raw_dtype=T.Q4_K)
    finish(w)
    # A file of version 2 has the same layout.
    bytes_ = bytearray((FOLDER / "model.gguf").read_bytes())
    bytes_[4:8] = struct.pack("<I", 2)
    (FOLDER / "version2.gguf").write_bytes(bytes_)
    w = writer("part.gguf", split_max_tensors=1)
    w.add_tensor("a", np.zeros(4, np.float32))
    w.add_tensor("b", np.ones(4, np.float32))
    finish(w)
    total = sum(f.stat().st_size for f in FOLDER.iterdir())
    print(f"{sorted(f.name for f in FOLDER.iterdir())}: {total} bytes")


if __name__ == "__main__":
    main()
