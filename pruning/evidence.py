"""What a criterion may see of the data: the only code that knows how a batch is laid out."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True)
class Evidence:
    """A few batches with the loss and the model inputs that they stand for.

    `loss(model, batch)` returns a scalar; `inputs(batch)` returns the positional arguments of the
    model as a tuple, or its keyword arguments as a mapping. `generator` is the only randomness, and
    every scoring begins at its seed: scores never depend on how many were taken before, so that a
    run that was stopped draws what one that was not would have drawn.
    """

    batches: Sequence[Any]
    loss: Callable[[nn.Module, Any], Tensor]
    inputs: Callable[[Any], tuple[Any, ...] | Mapping[str, Any]]
    generator: torch.Generator = field(default_factory=lambda: torch.Generator().manual_seed(0))

    def anew(self) -> "Evidence":
        """Return the same evidence, its generator at the beginning."""
        seed = self.generator.initial_seed()
        return replace(self, generator=torch.Generator().manual_seed(seed))

    def run(self, model: nn.Module, batch: Any) -> Any:
        """Return the model's output on one batch."""
        inputs = self.inputs(batch)
        return model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)


def cross_entropy(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean cross entropy of `model` on a batch of (images, labels)."""
    images, labels = batch
    return functional.cross_entropy(model(images), labels)


def classification(batches: Sequence[tuple[Tensor, Tensor]], *, seed: int = 0) -> Evidence:
    """Return the evidence of (images, labels) batches under cross entropy."""
    generator = torch.Generator().manual_seed(seed)
    return Evidence(batches, cross_entropy, lambda batch: (batch[0],), generator)
