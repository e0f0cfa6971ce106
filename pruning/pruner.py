"""Score, coarsen, allocate: the axes that make a mask, composed."""

import copy
import warnings
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from pruning import masks, semi_structured
from pruning.choices import Choice, name_of, resolve
from pruning.comparing import count
from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.granularity import alive, any_kept, check, coarsen, expand, piece_shape
from pruning.layouts import Layout, layouts
from pruning.probing import no_evidence
from pruning.prunables import prunable
from pruning.scores import AnyScores, check_scores, materialise
from pruning.types import Masks, Params, Scores

__all__ = ["Choice", "LayerCollapse", "prune", "resolve", "score"]


class LayerCollapse(UserWarning):
    """A layer lost all its weights."""


@dataclass(frozen=True)
class _Request:
    """What is asked on each axis, the same in every round."""

    criterion: Choice
    granularity: str
    reduce: str
    allocation: Choice
    evidence: Evidence
    only: Iterable[str] | None
    skip: Iterable[str]

    def params(self, model: nn.Module) -> Params:
        return prunable(model, only=self.only, skip=self.skip)


def score(
    model: nn.Module,
    criterion: Choice = "magnitude",
    *,
    evidence: Evidence | None = None,
    granularity: str = "weight",
    reduce: str = "sum",
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> Scores:
    """Return one score a piece for every prunable layer; higher means keep."""
    check(granularity, reduce)
    request = _Request(
        criterion, granularity, reduce, "global", evidence or no_evidence(), only, skip
    )
    params = request.params(model)
    return materialise(_score(model, params, request, layouts(model, params)))


def prune(
    model: nn.Module,
    sparsity: float | None = None,
    *,
    criterion: Choice = "magnitude",
    granularity: str = "weight",
    reduce: str = "sum",
    allocation: Choice = "global",
    evidence: Evidence | None = None,
    previous: Masks | None = None,
    allow_regrowth: bool = False,
    on_collapse: str = "warn",
    rounds: int = 1,
    schedule: Choice = "geometric",
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> Masks:
    """Return the masks of `model` at `sparsity`; the model itself is left as it is.

    `sparsity` is the fraction of all pieces that go, those pruned in `previous` included; the
    allocations `per_layer` and `threshold` bring their own targets and need none. Without
    `allow_regrowth` a piece that `previous` pruned never competes again, so masks are nested.
    With several `rounds` the scores are taken anew in each, from a copy in which what is pruned so
    far is zero, while `schedule` leads to the target. A layer that loses everything is a
    `LayerCollapse` warning, or with `on_collapse="error"` a `PruningError`.
    """
    if on_collapse not in ("warn", "error"):
        raise unknown("on_collapse", on_collapse, ("warn", "error"))
    check(granularity, reduce)
    chosen = (only if only is None else tuple(only)), tuple(skip)
    request = _Request(
        criterion, granularity, reduce, allocation, evidence or no_evidence(), *chosen
    )
    if previous is not None:
        previous = masks.by_first_name(model, previous, where="previous masks")
    before = None if allow_regrowth else previous
    found = before
    scored = model if rounds == 1 else copy.deepcopy(model)
    for target in _targets(model, sparsity, request, before, rounds, schedule):
        if found is not None and rounds > 1:
            masks.apply(scored, found)
        found = _once(scored, target, request, found)
    _report_collapse(found or {}, sparsity, on_collapse)
    return found or {}


def _once(
    model: nn.Module, sparsity: float | None, request: _Request, previous: Masks | None
) -> Masks:
    params = request.params(model)
    places = layouts(model, params)
    scores = _score(model, params, request, places)
    living = {} if previous is None else alive(previous, scores)
    pattern = semi_structured.parse(request.granularity)
    if pattern is not None:
        _check_pattern(pattern, sparsity, request)
        living = semi_structured.competitors(scores, pattern, places, living)
    try:
        pieces = resolve("allocation", request.allocation)(scores, params, sparsity, living)
    except PruningError as error:
        name = name_of(request.allocation)
        raise PruningError(f"allocation {name!r} at sparsity {sparsity}: {error}") from None
    return _within(previous, expand(pieces, params))


def _score(
    model: nn.Module, params: Params, request: _Request, places: Mapping[str, Layout]
) -> AnyScores:
    scores = resolve("criterion", request.criterion)(model, params, request.evidence.anew())
    name = name_of(request.criterion)
    check_scores(scores, params, name)
    try:
        return coarsen(scores, params, request.granularity, reduce=request.reduce, layouts=places)
    except PruningError as error:
        raise PruningError(f"criterion {name!r}: {error}") from None


def _check_pattern(pattern: tuple[int, int], sparsity: float | None, request: _Request) -> None:
    least = 1 - pattern[0] / pattern[1]
    if sparsity is not None and sparsity < least - 1e-9:
        raise PruningError(
            f"granularity {request.granularity!r} prunes at least {least:.4g} of every layer; "
            f"sparsity {sparsity:.4g} is below that"
        )


def _targets(
    model: nn.Module,
    sparsity: float | None,
    request: _Request,
    previous: Masks | None,
    rounds: int,
    schedule: Choice,
) -> Iterator[float | None]:
    """Yield the sparsity after each round; the last one is `sparsity` itself, not nearly it."""
    if isinstance(rounds, bool) or not isinstance(rounds, int) or rounds < 1:
        raise PruningError(f"rounds {rounds!r} is not a count of at least 1")
    if rounds > 1 and sparsity is None:
        raise PruningError(f"{rounds} rounds need a sparsity to lead to")
    if sparsity is not None and rounds > 1:
        ramp = resolve("schedule", schedule)
        initial = _pruned_share(model, request, previous)
        pattern = semi_structured.parse(request.granularity)
        least = 0.0 if pattern is None else 1 - pattern[0] / pattern[1]
        for step in range(1, rounds):
            yield max(ramp(step / rounds, sparsity, initial=initial), min(least, sparsity))
    yield sparsity


def _pruned_share(model: nn.Module, request: _Request, previous: Masks | None) -> float:
    """Return the fraction of all pieces that `previous` has pruned."""
    params = request.params(model)
    places = layouts(model, params)
    pieces = kept = 0
    for name, weight in params.items():
        shape = piece_shape(tuple(weight.shape), request.granularity, places[name], name=name)
        flags = _flags(previous, name, shape)
        pieces += flags.numel()
        kept += int(flags.sum())
    return 1 - kept / pieces


def _flags(previous: Masks | None, name: str, shape: tuple[int, ...]) -> Tensor:
    if previous is None or name not in previous:
        return torch.ones(shape, dtype=torch.bool)
    return any_kept(previous[name], shape)


def _within(previous: Masks | None, found: Masks) -> Masks:
    """Keep weights pruned that a finer granularity pruned before within a piece that stays."""
    if previous is None:
        return found
    return {
        name: mask & previous[name] if name in previous else mask for name, mask in found.items()
    }


def _report_collapse(found: Masks, sparsity: float | None, on_collapse: str) -> None:
    lost = [name for name, mask in found.items() if not count(mask)]
    if not lost:
        return
    target = "" if sparsity is None else f"at sparsity {sparsity:.4g} "
    message = f"{target}layer {', '.join(lost)} loses every weight"
    if on_collapse == "error":
        raise PruningError(f"{message}; lower the sparsity, set min_keep or on_collapse: warn")
    warnings.warn(LayerCollapse(message), stacklevel=3)
