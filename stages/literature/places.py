"""Where the networks of our folds lie around a published sparsity."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.literature.lookup import Bracket, bracket

if TYPE_CHECKING:
    import pandas as pd

ENDS = ("accuracy", "dense_accuracy")

Networks = Mapping[float, tuple[float, ...]]
"""One fold's networks: by sparsity their accuracies (`ENDS`) in percent."""


@dataclass(frozen=True)
class Place:
    """One fold at a published sparsity: its two networks' accuracies in percent."""

    bracket: Bracket
    accuracy: tuple[float, ...]
    dense: tuple[float, ...]

    @property
    def change(self) -> tuple[float, ...]:
        """Return by how much each of the two is above its dense network."""
        return tuple(p - d for p, d in zip(self.accuracy, self.dense, strict=True))


def by_fold(group: "pd.DataFrame") -> list[Networks]:
    """Return the networks of each fold of one series of results (columns `beside.RESULTS`)."""
    numbers = group[["fold", "sparsity", *ENDS]].itertuples(index=False)
    folds: dict[Any, dict[float, tuple[float, ...]]] = {}
    for fold, sparsity, *ends in sorted(numbers):
        folds.setdefault(fold, {})[sparsity] = tuple(100 * end for end in ends)
    return list(folds.values())


def at(folds: list[Networks], sparsity: float) -> list[Place]:
    """Return where each fold that reaches a sparsity does so."""
    found = []
    for networks in folds:
        place = None if math.isnan(sparsity) else bracket(networks, sparsity)
        if place is not None:
            two = zip(networks[place.low], networks[place.high], strict=True)
            found.append(Place(place, *two))
    return found
