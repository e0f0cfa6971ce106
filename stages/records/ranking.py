"""The order of methods at our sparsities beside the order that a published table gives."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from pruning.errors import PruningError
from stages.literature.lookup import bracket, canonical
from stages.literature.ours import called
from stages.params.protocol import Ranking
from stages.reporting.summary import DENSE, paired

if TYPE_CHECKING:
    import pandas as pd

_Figures = tuple[float, float]


@dataclass(frozen=True)
class Standing:
    """One method at one sparsity: ranks from 1 by accuracy, drops in points from the dense net."""

    their_rank: int
    their_accuracy: float
    their_drop: float
    """NaN where the table has no dense net."""
    our_rank: int
    our_drop: float


@dataclass(frozen=True)
class Order:
    """The methods at one sparsity, by experiment of ours."""

    sparsity: float
    standings: Mapping[str, Standing]
    agreeing: int
    """Pairs of methods that both put in the same order."""
    against: tuple[tuple[str, str], ...]
    """Pairs in the other order in ours, with a 95 % interval clear of zero: the better first."""

    @property
    def pairs(self) -> int:
        """Return how many pairs of methods there are."""
        return math.comb(len(self.standings), 2)


def orders(ranking: Ranking, networks: "pd.DataFrame", rows: "pd.DataFrame") -> list[Order]:
    """Return both orders at each sparsity of ours where the table has at least two methods.

    `networks` has the columns `recorded.COLUMNS`, `rows` come from `published.load()`; their
    figures at our sparsity are interpolated as `lookup.bracket` says.
    """
    published = _published(ranking, rows)
    dense = networks[networks["experiment"] == DENSE].set_index("fold")["test_accuracy"]
    mine = networks[networks["experiment"].isin(ranking.methods)]
    found = []
    for sparsity, group in mine.groupby("target_sparsity"):
        here = float(str(sparsity))
        theirs = {name: _at(published[name], here) for name in dict.fromkeys(group["experiment"])}
        known = {name: figures for name, figures in theirs.items() if figures}
        if len(known) >= 2:
            found.append(_order(here, known, group, dense))
    return found


def _order(
    sparsity: float, theirs: dict[str, _Figures], group: "pd.DataFrame", dense: "pd.Series[float]"
) -> Order:
    ours = {
        name: group[group["experiment"] == name].set_index("fold")["test_accuracy"]
        for name in theirs
    }
    drops = {name: 100 * float((dense - values).mean()) for name, values in ours.items()}
    their_order = sorted(theirs, key=lambda name: -theirs[name][0])
    our_order = sorted(drops, key=drops.__getitem__)
    agreeing, against = 0, []
    for better, worse in combinations(their_order, 2):
        agreeing += drops[better] < drops[worse]
        if paired(ours[better], ours[worse])[2] < 0:
            against.append((worse, better))
    standings = {
        name: Standing(rank, *theirs[name], our_order.index(name) + 1, drops[name])
        for rank, name in enumerate(their_order, 1)
    }
    return Order(sparsity, standings, agreeing, tuple(against))


def _published(ranking: Ranking, rows: "pd.DataFrame") -> dict[str, dict[float, _Figures]]:
    """Return by experiment the (accuracy in %, drop in points) of its method by sparsity."""
    model = canonical(ranking.model, set(rows["model"]))
    own = rows[(rows["arxiv"] == ranking.arxiv) & (rows["dataset"] == ranking.dataset)]
    own = own[(own["model"] == model) & own["pruned_acc"].notna() & own["sparsity"].notna()]
    found = {}
    for name, method in ranking.methods.items():
        points = own[called(own["method"], method)] if len(own) else own
        if not len(points):
            raise PruningError(
                f"papers.rankings: {ranking.arxiv} has no {method!r} for {ranking.model} on "
                f"{ranking.dataset}; see `python -m stages.papers --dataset {ranking.dataset}`"
            )
        figures = zip(
            points["pruned_acc"], points["baseline_acc"] - points["pruned_acc"], strict=True
        )
        found[name] = dict(zip(points["sparsity"], figures, strict=True))
    return found


def _at(points: dict[float, _Figures], sparsity: float) -> _Figures | None:
    place = bracket(points, sparsity)
    if place is None:
        return None
    low, high = points[place.low], points[place.high]
    accuracy, drop = (
        (1 - place.weight) * a + place.weight * b for a, b in zip(low, high, strict=True)
    )
    return accuracy, drop
