"""Makes the golden data under test/golden (formats: test/golden/README.md).

Usage: python scripts/golden/make.py MODEL.gguf... [--threads N]
"""

import argparse
import gzip
import json
from pathlib import Path

import numpy as np
import torch

import reference

HERE = Path(__file__).resolve().parent
GOLDEN = HERE.parent.parent / "test" / "golden"
TOP = 256
GREEDY_TOKENS = 64

# File → name of its golden data, tokens of the tight comparison (Gemma's pass its window of 512).
MODELS = {
    "SmolLM2-135M-Instruct.Q4_1.gguf": ("smollm2-135m", 512),
    "gemma-3-270m-q4_k_m.gguf": ("gemma-3-270m", 768),
    "Qwen2.5-Coder-1.5B-Instruct-Q4_K_M.gguf": ("qwen2.5-coder-1.5b", 512),
}


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False) + "\n")


def write_top(path: Path, rows: list[np.ndarray]) -> None:
    """gzip of, little-endian: "IHGOLD1\\0"; u32 positions, k, vocabulary, 0; u32 ids [positions, k],
    most probable first; f32 log-probabilities [positions, k]; f32 tail mass [positions]."""
    log_p = np.concatenate(rows)
    ids = np.argsort(-log_p, axis=1, kind="stable")[:, :TOP]
    tail = np.exp(log_p.astype(np.float64))
    np.put_along_axis(tail, ids, 0, axis=1)
    header = np.array([*ids.shape, log_p.shape[1], 0], "<u4")
    content = b"IHGOLD1\0" + header.tobytes() + ids.astype("<u4").tobytes()
    content += np.take_along_axis(log_p, ids, 1).astype("<f4").tobytes() + tail.sum(1).astype("<f4").tobytes()
    path.write_bytes(gzip.compress(content, 9, mtime=0))


def make(path: Path) -> None:
    name, tight = MODELS[path.name]
    text = (HERE / "corpus" / "mixed.txt").read_text()
    encode = reference.encoder(path)
    ids, bos = encode(text), encode("")
    size = reference.CONTEXT_TOKENS - len(bos)
    body = ids[len(bos) :]
    contexts = [bos + body[i * size : (i + 1) * size] for i in range(reference.CONTEXTS)]
    if len(contexts[-1]) < reference.CONTEXT_TOKENS:
        raise SystemExit(f"the text has only {len(body)} tokens")
    write_json(GOLDEN / f"{name}.tokens.json", ids[:tight])
    write_json(GOLDEN / f"{name}.contexts.json", contexts)

    model = reference.load(path)
    write_top(GOLDEN / f"{name}.top256.gz", list(reference.log_probabilities(model, ids[:tight])))
    prompts = []
    for prompt in json.loads((HERE / "corpus" / "prompts.json").read_text()):
        prompt_ids = encode(prompt)
        tokens, leads = reference.greedy(model, prompt_ids, GREEDY_TOKENS)
        prompts.append({"text": prompt, "promptTokens": prompt_ids, "tokens": tokens, "leads": leads})
    write_json(
        GOLDEN / f"{name}.greedy.json", {"file": path.name, "sha256": reference.sha256(path), "prompts": prompts}
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", type=Path)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    GOLDEN.mkdir(parents=True, exist_ok=True)
    for path in args.models:
        make(path)


if __name__ == "__main__":
    main()
