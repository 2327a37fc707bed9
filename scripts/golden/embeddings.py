"""Makes test/golden/NAME.embeddings.json: pooled hidden states of the first prompts (format: test/golden/README.md).

Usage: python scripts/golden/embeddings.py MODEL.gguf...
"""

import base64
import json
import sys
from pathlib import Path

import torch

import make
import reference

PROMPTS = 3


def packed(vector: torch.Tensor) -> str:
    return base64.b64encode(vector.float().numpy().astype("<f4").tobytes()).decode()


@torch.inference_mode()
def main() -> None:
    for path in map(Path, sys.argv[1:]):
        name, _ = make.MODELS[path.name]
        greedy = json.loads((make.GOLDEN / f"{name}.greedy.json").read_text())
        reference.expect("the file's hash", reference.sha256(path), greedy["sha256"])
        model = reference.load(path)
        texts = []
        for prompt in greedy["prompts"][:PROMPTS]:
            ids = prompt["promptTokens"]
            hidden = model.model(input_ids=torch.tensor([ids]), use_cache=False).last_hidden_state[0]
            texts.append({"tokens": ids, "mean": packed(hidden.double().mean(0)), "last": packed(hidden[-1])})
        make.write_json(make.GOLDEN / f"{name}.embeddings.json", {"sha256": greedy["sha256"], "texts": texts})


if __name__ == "__main__":
    main()
