"""Filters that go with all that is coupled to them, and the sparsity that reaches a budget."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from pruning.coupling.groups import Groups, channels
from pruning.coupling.scoring import whole
from pruning.group_pruning import joined, prune_groups
from pruning.shrinking.budget import sparsity_for
from pruning.types import Masks
from stages.fold.samples import Samples
from stages.params import Prune
from stages.params.export_params import Budget

TIMED_BATCH = 32
"""Images in a forward that a budget of latency times."""


@dataclass
class Coupled:
    """`prune` for filters that go whole; the groups of the network are looked for once."""

    bound: "partial[Masks]"
    """`prune` with the experiment's axes."""
    choices: Prune
    sample: Samples
    groups: Groups | None = None

    def __call__(
        self,
        model: nn.Module,
        sparsity: float,
        *,
        previous: Masks | None = None,
        allow_regrowth: bool = False,
    ) -> Masks:
        """Return masks that take filters with their biases and norms, and groups in one piece."""
        groups = self.groups_of(model)
        asked = {"previous": previous, "allow_regrowth": allow_regrowth}
        if self.choices.coupled == "whole":
            found = self.bound(model, sparsity, **asked)
            before = {} if allow_regrowth or previous is None else previous
            return joined(whole(joined(found, before), groups), before)
        axes = ("criterion", "granularity", "reduce", "evidence", "only", "skip")
        return prune_groups(
            model,
            sparsity,
            groups,
            coupled=str(self.choices.coupled),
            scope=self.choices.allocation["name"],
            min_keep=self.choices.allocation.get("min_keep", 1),
            round_to=self.choices.round_to,
            **{axis: self.bound.keywords[axis] for axis in axes},
            **asked,
        )

    def groups_of(self, model: nn.Module) -> Groups:
        """Return the groups of the network, which are the same for all its weights."""
        if self.groups is None:
            self.groups = channels(model, self.example(2))
        return self.groups

    def example(self, size: int) -> Tensor:
        """Return a batch of images of the study's shape."""
        return torch.zeros(size, *self.sample.input_shape, device=self.sample.device)


def sparsity_of(
    target: Budget, choose: Coupled, model: nn.Module, previous: Mapping[str, Tensor]
) -> float:
    """Return the sparsity at which the shrunk network meets `target`.

    Whatever the criterion draws at random it draws alike for every sparsity that is tried, and for
    the masks that are made in the end. A latency is measured, on one thread and a batch of 32
    images, so it may come out a little different the next time.
    """
    random = choose.bound.keywords["evidence"].generator
    before = random.get_state()

    def masks_at(sparsity: float) -> Masks:
        random.set_state(before)
        return choose(model, sparsity, previous=dict(previous) or None)

    try:
        return sparsity_for(
            model,
            choose.example(TIMED_BATCH if target.latency else 2),
            masks_at,
            round_to=choose.choices.round_to,
            groups=choose.groups_of(model),
            **target.given,
        )
    finally:
        random.set_state(before)
