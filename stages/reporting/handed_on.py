"""Which network an experiment hands on: a round and a fold, chosen by validation alone."""

from dataclasses import dataclass
from pathlib import Path

from stages.files import fold_of, result, tuned
from stages.params import Params
from stages.reporting import summary


@dataclass(frozen=True)
class Place:
    """One network of an experiment."""

    experiment: str
    round: int
    fold: int

    @property
    def network(self) -> Path:
        """Return its folder."""
        return fold_of(tuned(self.experiment, self.round), self.fold)

    @property
    def measures(self) -> Path:
        """Return the folder of what evaluate measured of it."""
        return fold_of(result(self.experiment, self.round), self.fold)


def place(study: Params, experiment: str, n: int | None = None, fold: int | None = None) -> Place:
    """Return the network that is named, and of what is not named the one that is handed on.

    The round as compare chooses it, the fold of best validation accuracy in it.
    """
    study.method(experiment)
    alone = study.model_copy(update={"experiments": [experiment]})
    if n is None:
        n = summary.chosen(summary.summarise(summary.collect(alone), None), experiment)
    entry = study.round(n)
    if fold is None:
        results = summary.collect(alone.model_copy(update={"rounds": [entry]}))
        best = summary.chosen_fold(results, experiment, n)
        fold = int(best.name.removeprefix("fold-"))
    return Place(experiment, n, fold)
