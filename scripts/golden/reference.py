"""The independent reference: a GGUF file run by `transformers` in float32.

`load` refuses a model whose hyperparameters or weights are not what the file says, because
transformers fills gaps of a GGUF file with defaults of its own.
"""

import hashlib
import json
import math
import os
from collections.abc import Callable, Iterator
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import torch
from gguf import GGUFReader, ReaderTensor
from gguf.quants import dequantize
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel

# The text for measurements is four contexts of 1,024 tokens: longer than Gemma's window of 512, so
# that the sliding window is measured too. Every engine gets the same contexts.
CONTEXT_TOKENS = 1024
CONTEXTS = 4

# Gemma 3 files do not carry these two; llama.cpp has them as constants of the family.
GEMMA3_FULL_ATTENTION_EVERY = 6
GEMMA3_LOCAL_ROPE_BASE = 10000.0

ROWS = 64  # positions whose logits are held at a time

Metadata = dict[str, object]


def sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_contexts(path: Path) -> list[list[int]]:
    """An array of token ids is one context; an array of arrays, one context each."""
    ids = json.loads(path.read_text())
    return ids if isinstance(ids[0], list) else [ids]


def metadata(reader: GGUFReader) -> Metadata:
    """Scalar metadata with the architecture's prefix cut off ("block_count")."""
    arch = reader.fields["general.architecture"].contents()
    skip = ("tokenizer.ggml.tokens", "tokenizer.ggml.scores", "tokenizer.ggml.merges", "tokenizer.ggml.token_type")
    return {key.removeprefix(f"{arch}."): field.contents() for key, field in reader.fields.items() if key not in skip}


def encoder(path: Path) -> Callable[[str], list[int]]:
    """Text to token ids, after BOS where the file asks for one."""
    tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    meta = metadata(GGUFReader(path))
    if meta.get("tokenizer.ggml.pre") == "smollm":
        # transformers ignores the file's pre-tokenizer and takes GPT-2's, which keeps numbers whole
        # and splits line breaks before a digit.
        tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
        )
    bos = [int(meta["tokenizer.ggml.bos_token_id"])] if meta.get("tokenizer.ggml.add_bos_token") else []
    return lambda text: bos + tokenizer.encode(text, add_special_tokens=False)


def load(path: Path) -> PreTrainedModel:
    model = AutoModelForCausalLM.from_pretrained(
        path.parent, gguf_file=path.name, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    reader = GGUFReader(path)
    check_hyperparameters(model, reader)
    check_weights(model, reader)
    return model


def expect(what: str, actual: object, expected: object) -> None:
    if actual != expected:
        raise SystemExit(f"{what}: transformers has {actual!r}, the file says {expected!r}")


def check_hyperparameters(model: PreTrainedModel, reader: GGUFReader) -> None:
    meta, config = metadata(reader), model.config
    tensors = {tensor.name: tensor for tensor in reader.tensors}
    gemma = meta["general.architecture"] == "gemma3"
    if meta["general.architecture"] not in ("llama", "qwen2", "gemma3"):
        raise SystemExit(f"unknown architecture {meta['general.architecture']}: say here what it must be")
    scaled = [key for key in (*meta, *tensors) if key.startswith(("rope.scaling", "rope_freqs"))]
    expect("scaled rope", scaled, [])

    heads = int(meta["attention.head_count"])
    head_dim = int(meta.get("attention.key_length", int(meta["embedding_length"]) // heads))
    for name, expected in {
        "num_hidden_layers": meta["block_count"],
        "hidden_size": meta["embedding_length"],
        "intermediate_size": meta["feed_forward_length"],
        "num_attention_heads": heads,
        "num_key_value_heads": meta.get("attention.head_count_kv", heads),
        "max_position_embeddings": meta["context_length"],
        "rms_norm_eps": meta["attention.layer_norm_rms_epsilon"],
        "vocab_size": int(tensors["token_embd.weight"].shape[1]),
        "tie_word_embeddings": "output.weight" not in tensors,
        "hidden_activation" if gemma else "hidden_act": "gelu_pytorch_tanh" if gemma else "silu",
        "sliding_window": meta.get("attention.sliding_window"),
        "_attn_implementation": "eager",
    }.items():
        expect(name, getattr(config, name, None), expected)
    tied = model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    expect("tied output", tied, "output.weight" not in tensors)
    expect("dtypes", {p.dtype for p in model.parameters()}, {torch.float32})

    # What the modules compute with, whatever the configuration says.
    def frequencies(base: float) -> torch.Tensor:
        return 1.0 / base ** (torch.arange(0, head_dim, 2, dtype=torch.float64) / head_dim)

    rope, base = model.model.rotary_emb, float(meta["rope.freq_base"])
    pairs = {"inv_freq": base}
    if gemma:
        pairs = {"full_attention_inv_freq": base, "sliding_attention_inv_freq": GEMMA3_LOCAL_ROPE_BASE}
        expect("soft caps", (config.attn_logit_softcapping, config.final_logit_softcapping), (None, None))
        scale = model.model.embed_tokens.embed_scale.item()
        expect("embedding scale", scale, torch.tensor(math.sqrt(config.hidden_size)).item())
    for name, rope_base in pairs.items():
        same = torch.allclose(getattr(rope, name).double(), frequencies(rope_base), rtol=1e-6, atol=0)
        expect(f"rope {name}", same, True)
    for index, layer in enumerate(model.model.layers):
        attention = layer.self_attn
        expect(f"layer {index} query scale", attention.scaling, head_dim**-0.5)
        full = not gemma or (index + 1) % GEMMA3_FULL_ATTENTION_EVERY == 0
        window = None if full else meta["attention.sliding_window"]
        expect(f"layer {index} window", getattr(attention, "sliding_window", None), window)
    for name, module in model.named_modules():
        if name.endswith("norm"):
            eps = getattr(module, "variance_epsilon", getattr(module, "eps", None))
            expect(f"{name} epsilon", eps, meta["attention.layer_norm_rms_epsilon"])


NAMES = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
}
NAMES_GEMMA3 = NAMES | {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
NAMES_TOP = {"token_embd": "model.embed_tokens", "output": "lm_head", "output_norm": "model.norm"}


def check_weights(model: PreTrainedModel, reader: GGUFReader) -> None:
    """Bit for bit: the first and last block, the norms, the first 1,024 rows of the vocabulary."""
    meta, state = metadata(reader), model.state_dict()
    gemma = meta["general.architecture"] == "gemma3"
    names = NAMES_GEMMA3 if gemma else NAMES
    blocks = (0, int(meta["block_count"]) - 1)
    for tensor in reader.tensors:
        parts = tensor.name.split(".")
        if parts[0] == "blk":
            if int(parts[1]) not in blocks:
                continue
            name = f"model.layers.{parts[1]}.{names[parts[2]]}.{parts[3]}"
        else:
            name = f"{NAMES_TOP[parts[0]]}.{parts[1]}"
        weight = state[name][:1024].numpy() if parts[0] != "blk" else state[name].numpy()
        expected = dequantize(tensor.data[: len(weight)], tensor.tensor_type).reshape(weight.shape)
        if gemma and parts[-2].endswith("norm"):
            weight = weight + np.float32(1)  # transformers keeps the weight less one
        if meta["general.architecture"] == "llama" and parts[-2] in ("attn_q", "attn_k"):
            expected = halves(expected, tensor, meta)
        if not np.array_equal(weight, expected):
            raise SystemExit(f"{tensor.name}: transformers' weights differ from the file's")


def halves(weight: np.ndarray, tensor: ReaderTensor, meta: Metadata) -> np.ndarray:
    """Rows of each head from interleaved rope pairs (llama in GGUF) to split halves (transformers)."""
    kind = "attention.head_count" if "attn_q" in tensor.name else "attention.head_count_kv"
    heads = int(meta[kind])
    return weight.reshape(heads, -1, 2, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


@torch.inference_mode()
def log_probabilities(model: PreTrainedModel, ids: list[int]) -> Iterator[np.ndarray]:
    """Blocks of rows float32 [≤ ROWS, vocabulary]; row i for the token after i."""
    hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
    for start in range(0, len(ids), ROWS):
        logits = model.lm_head(hidden[start : start + ROWS])
        yield logits.double().log_softmax(-1).float().numpy()


@torch.inference_mode()
def greedy(model: PreTrainedModel, ids: list[int], count: int) -> tuple[list[int], list[float]]:
    """The most probable tokens and, for each, its logit's lead over the second."""
    tokens: list[int] = []
    leads: list[float] = []
    step, past = torch.tensor([ids]), None
    for _ in range(count):
        out = model(input_ids=step, past_key_values=past, use_cache=True, logits_to_keep=1)
        top = out.logits[0, -1].topk(2)
        tokens.append(int(top.indices[0]))
        leads.append(round(float(top.values[0] - top.values[1]), 4))
        step, past = top.indices[:1].view(1, 1), out.past_key_values
    return tokens, leads


def cached_log_probabilities(path: Path, contexts: list[list[int]], cache: Path) -> np.ndarray:
    """All rows of all contexts, float32 [tokens, vocabulary], mapped from a file made once."""
    tokens = sum(map(len, contexts))
    key = hashlib.sha256(json.dumps(contexts).encode()).hexdigest()[:12]
    target = cache / f"{path.stem}-{sha256(path)[:12]}-{key}.f32"
    if not target.exists():
        cache.mkdir(parents=True, exist_ok=True)
        model = load(path)
        part = target.with_suffix(".part")
        with part.open("wb") as file:
            for ids in contexts:
                for rows in log_probabilities(model, ids):
                    file.write(rows.tobytes())
        part.rename(target)
    return np.memmap(target, dtype="<f4", mode="r").reshape(tokens, -1)
