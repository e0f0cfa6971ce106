"""Which channels carry exactly zero and which influence no output, from what the weights hold.

The trace is a list of steps; each knows when its outputs are zero given that its inputs are, and
which inputs matter given that its outputs do. One pass forward and one back settle both for every
position: a channel may be removed where each tensor that carries it holds zero or does not matter.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from pruning.coupling.tracks import FIXED, Flags, Ids, Weight


@dataclass(frozen=True)
class Holdings:
    """What parameters and buffers hold: `nonzero(name)` is True where a value may differ from 0.

    With `masked_dies` a masked filter is taken to come without its bias and its normalisation's
    shift: the question is then what could go if those were masked too, as `whole` does.
    """

    nonzero: Callable[[str], Tensor]
    masked_dies: bool = False
    _kernels: dict[str, Flags] = field(default_factory=dict)

    def kernels(self, weight: Weight) -> Flags:
        """Return for a weight (A, B, *kernel) which of its (A, B) kernels may be non-zero."""
        name = weight.name
        if name not in self._kernels:
            found = self.nonzero(name)
            self._kernels[name] = (found.flatten(2).any(2) if found.ndim > 2 else found).numpy()
        return self._kernels[name][weight.rows]

    def slices(self, weight: Weight, dim: int) -> Flags:
        """Return which slices along `dim` of a tensor may be non-zero."""
        found = self.nonzero(weight.name)[weight.rows]
        others = [d for d in range(found.ndim) if d != dim]
        return (found.any(dim=others) if others else found).numpy()

    def shift(self, bias: Weight | None, size: int) -> Flags:
        """Return which of `size` biases may be non-zero; without a bias none is."""
        if bias is None or self.masked_dies:
            return np.zeros(size, dtype=bool)
        return self.slices(bias, 0)


@dataclass(frozen=True)
class Flow:
    """Where zero flows forward and need flows back: one flag an id."""

    zero: Flags
    need: Flags
    holdings: Holdings


class Step(Protocol):
    """One operation of the trace."""

    def inputs(self) -> Sequence[Ids]:
        """Return the ids that it reads."""

    def zeros(self, flow: Flow) -> None:
        """Mark the outputs that are zero."""

    def needs(self, flow: Flow) -> None:
        """Mark the inputs that matter."""


def settle(steps: Sequence[Step], count: int, neutral: Sequence[Ids], holdings: Holdings) -> Flow:
    """Return the flow through `steps` over `count` ids; the `neutral` ids carry no activation."""
    flow = Flow(np.zeros(count, dtype=bool), np.zeros(count, dtype=bool), holdings)
    for ids in neutral:
        flow.zero[ids] = True
    flow.zero[FIXED] = False
    flow.need[FIXED] = True
    for step in steps:
        step.zeros(flow)
        flow.zero[FIXED] = False
    for step in reversed(steps):
        step.needs(flow)
    return flow


def kept_values(tensors: Mapping[str, Tensor], masks: Mapping[str, Tensor]) -> Holdings:
    """Return what the masked network holds, value by value."""

    @torch.no_grad()
    def nonzero(name: str) -> Tensor:
        found = tensors[name].detach() != 0
        if name in masks:
            found &= masks[name].to(found.device)
        return found.cpu()

    return Holdings(nonzero)


def kept_masks(shapes: Mapping[str, tuple[int, ...]], masks: Mapping[str, Tensor]) -> Holdings:
    """Return what the masks leave, whatever the values, where biases die with their filters."""

    def nonzero(name: str) -> Tensor:
        if name in masks:
            return masks[name].detach().cpu()
        return torch.ones((), dtype=torch.bool).expand(shapes[name])

    return Holdings(nonzero, masked_dies=True)
