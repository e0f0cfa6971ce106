"""How sparse a round is to be, and whether an experiment still goes on in it."""

from pruning.errors import PruningError
from pruning.rounds import round_sparsities
from stages.params import Params


def target(params: Params, experiment: str, n: int) -> float:
    """Return the sparsity that round `n` of an experiment reaches.

    A method with a `fraction` follows its own series and stays at its end after it has stopped;
    every other one follows the grid that all experiments share.
    """
    fraction = params.method(experiment).prune.fraction
    if fraction is not None:
        series = round_sparsities(fraction.rate, fraction.until)
        return series[min(n, len(series)) - 1]
    sparsity = params.round(n).sparsity
    if sparsity is None:
        raise PruningError(f"round {n} names no sparsity and {experiment!r} no fraction")
    return sparsity


def stopped(params: Params, experiment: str, n: int) -> bool:
    """Tell whether an experiment's own series has ended before round `n`."""
    fraction = params.method(experiment).prune.fraction
    return fraction is not None and n > len(round_sparsities(fraction.rate, fraction.until))
