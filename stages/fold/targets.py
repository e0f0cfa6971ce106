"""What a round starts from, how sparse it is to be, whether an experiment still goes on in it."""

from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from pruning.rounds import round_sparsities
from stages.files import start_of, tuned
from stages.params import Params
from stages.params.export_params import Budget


def target(params: Params, experiment: str, n: int) -> float | Budget | None:
    """Return the sparsity that round `n` of an experiment reaches, or the budget that it meets.

    A method with a `fraction` follows its own series and stays at its end after it has stopped; one
    whose allocation brings its own targets, or that takes another's masks, has none; every other
    one follows the grid that all experiments share.
    """
    if not params.method(experiment).prune.has_budget or params.lender(experiment):
        return None
    fraction = params.method(experiment).prune.fraction
    if fraction is not None:
        series = round_sparsities(fraction.rate, fraction.until)
        return series[min(n, len(series)) - 1]
    entry = params.round(n)
    aim = entry.sparsity if entry.target is None else entry.target
    if aim is None:
        raise PruningError(f"round {n} names no sparsity and {experiment!r} no fraction")
    return aim


def source(params: Params, experiment: str, n: int) -> Path:
    """Return what round `n` starts from: the dense network, or the round before."""
    return tuned(experiment, n - 1) if experiment in params.iterative else start_of(experiment)


def facts(aim: float | Budget | None) -> dict[str, Any]:
    """Return a round's target as it stands in a manifest."""
    return {"target": aim.given} if isinstance(aim, Budget) else {"target_sparsity": aim}


def stopped(params: Params, experiment: str, n: int) -> bool:
    """Tell whether an experiment's own series has ended before round `n`."""
    fraction = params.method(experiment).prune.fraction
    if params.lender(experiment):
        return False
    return fraction is not None and n > len(round_sparsities(fraction.rate, fraction.until))
