"""A character model of tinyshakespeare at 90 % sparsity against the dense one, in bits.

    python -m benchmarks.charlm [TEXT] [--steps 3000] [--hidden 128]

An LSTM trained with Adam on random windows of 64 characters. `dense` trains first. `rnn` then
trains anew from the same initialization under the ramp of Narang et al. 2017, its q read off the
dense network; `gradual` likewise under the cubic ramp of Zhu & Gupta 2017 with one ranking of all
weights; `small` is a dense network with as many weights as they keep. Same steps, same batches.
Bits per character on the test part, in windows of 256 characters; a few minutes on one thread.
"""

import argparse
import time
from functools import partial
from math import cos, pi, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.models import build
from pruning.prunables import prunable
from pruning.text import Text, bits_per_character, next_token_loss, read, windows
from pruning.training import fit

SPARSITY = 0.9
RATE = 4e-3


def main() -> None:
    """Print one line a network."""
    parser = argparse.ArgumentParser(description="a pruned character model against a dense one")
    data = Path(__file__).resolve().parents[2] / "shared" / "data"
    text_path = data / "tinyshakespeare" / "input.txt"
    parser.add_argument("text", nargs="?", type=Path, default=text_path)
    parser.add_argument("--steps", type=int, default=3000)
    parser.add_argument("--hidden", type=int, default=128)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    text = read(arguments.text)
    start = partial(fresh, text)
    print("network    bits/char   weights kept   of  sparsity  largest layer  seconds")
    dense = train("dense", start(arguments.hidden), text, arguments.steps, "none")
    trained = {name: value.detach().clone() for name, value in dense.named_parameters()}
    for method in ("rnn", "gradual"):
        train(method, start(arguments.hidden), text, arguments.steps, method, trained)
    small = start(round(arguments.hidden * sqrt(1 - SPARSITY)))
    train("small", small, text, arguments.steps, "none")


def fresh(text: Text, hidden: int) -> nn.Module:
    """Return the network at its initialization, always the same for a size."""
    torch.manual_seed(0)
    size = {"tokens": len(text.alphabet), "embedding": hidden // 2, "hidden": hidden}
    return build({"factory": "lstm_lm", "layers": 1, **size})


def train(
    name: str,
    model: nn.Module,
    text: Text,
    steps: int,
    method: str,
    trained: dict[str, Tensor] | None = None,
) -> nn.Module:
    """Train under `method` and print the result."""
    begin = time.perf_counter()
    optimizer = torch.optim.Adam(model.parameters(), lr=RATE)
    masks = mask_tools.dense(prunable(model))
    settings: dict[str, Any] = {"frequency": 20} if method != "none" else {}
    training = Training(model, optimizer, masks, SPARSITY, steps, steps // 20, trained=trained)
    with resolve("during", {"name": method, **settings})(training) as course:
        fit(
            model,
            windows(text.tokens, batch_size=32, length=64, seed=0),
            optimizer,
            next_token_loss,
            steps=steps,
            lr=lambda step: RATE * 0.5 * (1 + cos(pi * step / steps)),
            clip=1.0,
            hooks=[course.hook],
        )
    report(name, model, text, course.masks, time.perf_counter() - begin)
    return model


def report(
    name: str, model: nn.Module, text: Text, masks: dict[str, Tensor], seconds: float
) -> None:
    """Print a network's line."""
    bits = bits_per_character(model, text.test)
    layer = max(mask_tools.layers(masks), key=lambda layer: layer.weights)
    total = sum(mask.numel() for mask in masks.values())
    print(
        f"{name:8s} {bits:11.3f} {mask_tools.kept(masks):14d} {total:6d} "
        f"{100 * mask_tools.sparsity(masks):7.2f} % {100 * layer.sparsity:11.2f} % {seconds:8.0f}",
        flush=True,
    )


if __name__ == "__main__":
    main()
