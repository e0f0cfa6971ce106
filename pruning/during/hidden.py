"""Weights that the optimizer sees whole and the network through masks."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor

from pruning.during import Training
from pruning.penalties import when_computed
from pruning.types import Masks

_WHOLE = "whole/"


class Hidden:
    """All of the weights, and the masks through which the network sees them."""

    def __init__(self, training: Training) -> None:
        """Begin with the weights and masks of a run, or of the checkpoint that it goes on from."""
        self.weights = training.own_weights()
        self.masks: Masks = training.current()
        saved = training.saved(_WHOLE)
        self.whole = {
            name: saved.get(name, weight).detach().to(weight.device, copy=True)
            for name, weight in self.weights.items()
        }
        self.show(self.masks)

    @torch.no_grad()
    def show(self, masks: Mapping[str, Tensor]) -> None:
        """Let the network see the weights through `masks`."""
        self.masks = dict(masks)
        for name, weight in self.weights.items():
            mask = self.masks[name].to(weight.device)
            torch.where(mask, self.whole[name], weight.new_zeros(()), out=weight.data)

    @contextmanager
    def stepping(
        self,
        optimizer: torch.optim.Optimizer,
        *,
        before: Callable[[], None] | None = None,
        after: Callable[[], None] | None = None,
    ) -> Iterator[None]:
        """Let the optimizer, and it alone, see all of the weights.

        `before` a step may change its gradients; `after` it, with the new weights in `whole`, is to
        show them, where they are else shown through the masks of before.
        """

        def uncover() -> None:
            if before is not None:
                before()
            _copy(self.whole, self.weights)

        def remember() -> None:
            _copy(self.weights, self.whole)
            if after is not None:
                after()
            else:
                self.show(self.masks)

        handles = [
            when_computed(optimizer, lambda _: uncover()),
            optimizer.register_step_post_hook(lambda *_: remember()),
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def state(self) -> dict[str, Tensor]:
        """Return what resuming needs."""
        return {f"{_WHOLE}{name}": weight for name, weight in self.whole.items()}


@torch.no_grad()
def _copy(source: Mapping[str, Tensor], target: Mapping[str, Tensor]) -> None:
    for name, weight in target.items():
        weight.copy_(source[name])
