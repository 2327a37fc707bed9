"""Makes test/golden/random-ARCHITECTURE.gguf: small models with random weights, for families of which no small
model is at hand. Each file carries, as metadata, random tokens and the logits that `transformers` computes for
them in float32 from the very same weights: `inhouse.golden.tokens` and `inhouse.golden.logits`
[tokens, vocabulary].

Usage: pip install -r scripts/golden/requirements.txt; python scripts/golden/random_models.py
"""

from pathlib import Path

import numpy as np
import torch
from gguf import GGUFWriter
from reference import NAMES, NAMES_TOP
from transformers import PreTrainedModel, Qwen3Config, Qwen3ForCausalLM, Qwen3MoeConfig, Qwen3MoeForCausalLM

GOLDEN = Path(__file__).resolve().parents[2] / "test" / "golden"
TOKENS = 70  # more than two blocks of the cache

# The head size is not width / heads, and the experts' width no multiple of 16.
SHAPE = {
    "vocab_size": 80,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "max_position_embeddings": 256,
    "rms_norm_eps": 1e-6,
    "rope_parameters": {"rope_type": "default", "rope_theta": 1e6},
    "attn_implementation": "eager",
}
EXPERTS = {"num_experts": 7, "num_experts_per_tok": 3, "moe_intermediate_size": 24, "norm_topk_prob": True}


def randomize(model: PreTrainedModel) -> None:
    """Weights that binary16 holds exactly, in sizes that keep a product at the size of its input."""
    generator = torch.Generator().manual_seed(3)
    for name, weight in model.named_parameters():
        normal = torch.randn(weight.shape, generator=generator)
        if not name.endswith("norm.weight"):
            weight.data = (normal * 1.5 / weight.shape[-1] ** 0.5).half().float()
        else:
            weight.data = 1 + normal / 10


def tensors(model: PreTrainedModel) -> dict[str, torch.Tensor]:
    """The weights by their names in GGUF."""
    state = model.state_dict()
    names = {f"{name}.weight": f"{theirs}.weight" for name, theirs in NAMES_TOP.items()}
    for layer in range(model.config.num_hidden_layers):
        ours, theirs = f"blk.{layer}.ffn_", f"model.layers.{layer}."
        names |= {f"blk.{layer}.{name}.weight": f"{theirs}{part}.weight" for name, part in NAMES.items()}
        if (gate_up := state.get(f"{theirs}mlp.experts.gate_up_proj")) is None:
            continue
        for part, weight in zip(("gate", "up"), gate_up.chunk(2, dim=1)):
            name = f"{ours}{part}_exps.weight"
            names[name], state[name] = name, weight
        names[f"{ours}down_exps.weight"] = f"{theirs}mlp.experts.down_proj"
        names[f"{ours}gate_inp.weight"] = f"{theirs}mlp.gate.weight"
    return {name: state[theirs] for name, theirs in names.items() if theirs in state}


@torch.inference_mode()
def make(architecture: str, model: PreTrainedModel) -> None:
    config = model.config
    randomize(model.eval())
    tokens = torch.randint(config.vocab_size, (TOKENS,), generator=torch.Generator().manual_seed(4))
    logits = model(tokens[None]).logits[0]

    path = GOLDEN / f"random-{architecture}.gguf"
    writer = GGUFWriter(path, architecture)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    if hasattr(config, "num_experts"):
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    writer.add_array("inhouse.golden.tokens", tokens.tolist())
    writer.add_array("inhouse.golden.logits", logits.flatten().tolist())
    for name, weight in tensors(model).items():
        exact = weight.ndim == 1 or "ffn_gate_inp" in name
        writer.add_tensor(name, weight.numpy().astype(np.float32 if exact else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main() -> None:
    make("qwen3", Qwen3ForCausalLM(Qwen3Config(**SHAPE, tie_word_embeddings=True)))
    make("qwen3moe", Qwen3MoeForCausalLM(Qwen3MoeConfig(**SHAPE, **EXPERTS, tie_word_embeddings=False)))


if __name__ == "__main__":
    main()
