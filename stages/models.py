"""The model that params.yaml names, freshly initialised or put back to a snapshot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.choices import resolve
from pruning.models import build
from pruning.network import load
from pruning.randomness import generator
from pruning.reinitialisation import reinitialise
from stages.params import ModelSpec


def fresh(spec: ModelSpec, initialization: Mapping[str, Any], seed: int, device: str) -> nn.Module:
    """Return a new model whose weights depend on `seed` and the initialisation alone."""
    torch.manual_seed(seed)
    model = build(spec.model_dump(), foreign=True)
    if initialization["name"] != "own":
        redraw(model, initialization, seed)
    return model.to(device)


def with_example(folder: Path) -> tuple[nn.Module, Tensor]:
    """Return the network of a folder and a batch of two blank inputs."""
    network = load(folder, foreign=True)
    return network.model, torch.zeros(2, *network.input_shape)


def redraw(model: nn.Module, initialization: Mapping[str, Any], seed: int, step: int = 0) -> None:
    """Give `model` fresh weights by the initialisation; `step` tells one redrawing from another."""
    function = resolve("initialization", dict(initialization))
    reinitialise(model, function, generator=generator(seed, "reinitialise", step))
