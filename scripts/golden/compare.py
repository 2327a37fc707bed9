"""Compares an engine's log-probabilities with the float32 reference's, over the whole vocabulary.

Usage: python scripts/golden/compare.py MODEL.gguf --logprobs FILE.f32 --tokens IDS.json
           [--json] [--cache DIR] [--threads N]

IDS.json: an array of token ids, or an array of such arrays (one context each).
FILE.f32: float32 little-endian [tokens, vocabulary], all contexts' rows one after the other; row i
holds the log-probabilities of the token after i. `inhouse eval perplexity MODEL --tokens IDS.json
--logprobs FILE.f32` writes it, and so does bench/peers/divergence.mjs.

The reference's rows are computed once per model and ids and kept under the cache folder.
Divergences are KL(reference || engine) in nats. Perplexities are over the tokens of each context
but its first.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np

ROWS = 64


def normalized(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Log-probabilities in float64, freed of their rounding, and log of the sum they had."""
    wide = rows.astype(np.float64)
    top = wide.max(1, keepdims=True)
    sums = top + np.log(np.exp(wide - top).sum(1, keepdims=True))
    return wide - sums, sums[:, 0]


def compare(reference: np.ndarray, ours: np.ndarray, contexts: list[list[int]]) -> dict[str, object]:
    tokens = len(reference)
    kl, excess = np.empty(tokens), np.empty(tokens)
    agree = np.empty(tokens, bool)
    following = np.array([target for ids in contexts for target in [*ids[1:], -1]])
    first = np.array([i == 0 for ids in contexts for i in range(len(ids))])
    nll = np.full((2, tokens), np.nan)
    for start in range(0, tokens, ROWS):
        part = slice(start, start + ROWS)
        ref, _ = normalized(reference[part])
        our, excess[part] = normalized(ours[part])
        if not np.isfinite(our).all():
            raise SystemExit(f"log-probabilities of rows {start} to {start + len(our) - 1} are not all finite")
        kl[part] = (np.exp(ref) * (ref - our)).sum(1)
        agree[part] = ref.argmax(1) == our.argmax(1)
        for row, target in enumerate(following[part]):
            if target >= 0:
                nll[:, start + row] = -ref[row, target], -our[row, target]
    starts = np.cumsum([0] + [len(ids) for ids in contexts])

    def worst(where: np.ndarray) -> dict[str, object]:
        index = int(np.argmax(np.where(where, kl, -1)))
        context = int(np.searchsorted(starts, index, "right")) - 1
        return {"kl": float(kl[index]), "context": context, "position": index - int(starts[context])}

    return {
        "tokens": tokens,
        "contexts": len(contexts),
        "vocabulary": reference.shape[1],
        "meanKl": kl.mean(),
        "meanKlWithoutFirst": kl[~first].mean(),
        "medianKl": np.median(kl),
        "p99Kl": np.quantile(kl, 0.99),
        "maxKl": worst(np.ones(tokens, bool)),
        "maxKlWithoutFirst": worst(~first),
        "top1Agreement": agree.mean(),
        "top1AgreementWithoutFirst": agree[~first].mean(),
        "perplexity": math.exp(np.nanmean(nll[1])),
        "referencePerplexity": math.exp(np.nanmean(nll[0])),
        "maxNormalizationError": np.abs(excess).max(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--logprobs", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True)
    parser.add_argument("--cache", type=Path, default=Path(".cache/golden"))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()

    import torch

    import reference

    torch.set_num_threads(args.threads)
    contexts = reference.read_contexts(args.tokens)
    expected = reference.cached_log_probabilities(args.model, contexts, args.cache)
    size = args.logprobs.stat().st_size
    if size != expected.nbytes:
        raise SystemExit(f"{args.logprobs} has {size} bytes, expected {expected.shape} float32: {expected.nbytes}")
    ours = np.memmap(args.logprobs, dtype="<f4", mode="r").reshape(expected.shape)
    result = {"file": args.model.name, **compare(expected, ours, contexts)}
    if args.json:
        print(json.dumps(result, indent=2, default=float))
        return
    for name, value in result.items():
        print(f"{name:26} {value:.6g}" if isinstance(value, float) else f"{name:26} {value}")


if __name__ == "__main__":
    main()
