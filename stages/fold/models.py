"""The model that params.yaml names, freshly initialised or put back to a snapshot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.choices import resolve
from pruning.errors import PruningError
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


@torch.no_grad()
def check_fits(model: nn.Module, images: Tensor, classes: int) -> None:
    """Refuse a network that cannot take the `images` (N, C, H, W), or has too few outputs."""
    was_training, shape = model.training, tuple(images.shape[1:])
    try:
        found = model.eval()(images)
    except (RuntimeError, ValueError, TypeError) as error:
        reason = str(error).splitlines()[0]
        raise PruningError(f"model: cannot take images of shape {shape}: {reason}") from None
    finally:
        model.train(was_training)
    if not isinstance(found, Tensor) or found.ndim != 2 or found.shape[1] < classes:
        given = f"shape {tuple(found.shape[1:])}" if isinstance(found, Tensor) else type(found)
        raise PruningError(
            f"model: its output for an image has {given}, the data has {classes} classes; "
            f"set num_classes"
        )


def with_example(folder: Path) -> tuple[nn.Module, Tensor]:
    """Return the network of a folder and a batch of two blank inputs."""
    network = load(folder, foreign=True)
    return network.model, torch.zeros(2, *network.input_shape)


def redraw(model: nn.Module, initialization: Mapping[str, Any], seed: int, step: int = 0) -> None:
    """Give `model` fresh weights by the initialisation; `step` tells one redrawing from another."""
    function = resolve("initialization", dict(initialization))
    reinitialise(model, function, generator=generator(seed, "reinitialise", step))
