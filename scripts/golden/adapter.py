"""Makes test/golden/random-llama.gguf, a small llama with random weights, and test/golden/random-llama-lora, a
LoRA adapter for it as PEFT saves it. The GGUF file carries, as metadata, random tokens and the logits that
`transformers` and `peft` compute for them in float32: `inhouse.golden.tokens`, `inhouse.golden.logits` without the
adapter and `inhouse.golden.adapted` with it [tokens, vocabulary].

Usage: pip install -r scripts/golden/requirements.txt; python scripts/golden/adapter.py
"""

import numpy as np
import torch
from gguf import GGUFWriter
from peft import LoraConfig, get_peft_model
from random_models import GOLDEN, SHAPE, TOKENS, randomize, tensors
from transformers import LlamaConfig, LlamaForCausalLM

# Every linear layer, with a rank and an alpha that differ for one kind of them.
LORA = {
    "r": 6,
    "lora_alpha": 9,
    "target_modules": ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj", "lm_head"],
    "rank_pattern": {"k_proj": 3},
    "alpha_pattern": {"mlp.down_proj": 5},
    "use_rslora": True,
    "task_type": "CAUSAL_LM",
}


def interleaved(weight: torch.Tensor, heads: int) -> torch.Tensor:
    """Rows of each head from halves to pairs, as in GGUF files of llama."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def write(path: str, model: LlamaForCausalLM, golden: dict[str, list]) -> None:
    config = model.config
    writer = GGUFWriter(path, "llama")
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
    # Just enough of a tokenizer for the file to load: the letters, one merge, then words.
    known = [*"abcdefghijklmnopqrstuvwxyz", "ab"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list([*known, *(f"word{i}" for i in range(len(known), config.vocab_size))])
    writer.add_array("tokenizer.ggml.merges", ["a b"])
    writer.add_eos_token_id(config.vocab_size - 1)
    for name, values in golden.items():
        writer.add_array(f"inhouse.golden.{name}", values)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    for name, weight in tensors(model).items():
        if (count := heads.get(name.split(".")[-2])) is not None:
            weight = interleaved(weight, count)
        writer.add_tensor(name, weight.numpy().astype(np.float32 if weight.ndim == 1 else np.float16))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@torch.inference_mode()
def main() -> None:
    base = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))
    randomize(base.eval())
    generator = torch.Generator().manual_seed(5)
    tokens = torch.randint(SHAPE["vocab_size"], (TOKENS,), generator=generator)
    golden = {"tokens": tokens.tolist(), "logits": base(tokens[None]).logits.flatten().tolist()}
    plain = {name: weight.clone() for name, weight in base.state_dict().items()}

    adapted = get_peft_model(base, LoraConfig(**LORA)).eval()
    for name, weight in adapted.named_parameters():
        if "lora_" in name:  # B begins as zeros otherwise
            weight.data = torch.randn(weight.shape, generator=generator) * 0.4 / weight.shape[-1] ** 0.5
    golden["adapted"] = adapted(tokens[None]).logits.flatten().tolist()
    folder = GOLDEN / "random-llama-lora"
    adapted.save_pretrained(folder)  # with a copy of lm_head's own weight, as an adapter of that has
    (folder / "README.md").unlink(missing_ok=True)  # a card for a hub
    (folder / "adapter_model.safetensors").chmod(0o644)

    model = LlamaForCausalLM(LlamaConfig(**SHAPE, tie_word_embeddings=False))
    model.load_state_dict(plain)
    write(str(GOLDEN / "random-llama.gguf"), model.eval(), golden)


if __name__ == "__main__":
    main()
