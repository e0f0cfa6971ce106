"""Score, coarsen, allocate: the three axes that make a mask, composed."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeAlias

from torch import Tensor, nn

from pruning import catalogue, masks
from pruning.errors import PruningError, unknown
from pruning.evidence import Evidence
from pruning.granularity import alive, coarsen, expand
from pruning.prunable import prunable
from pruning.scores import AnyScores, check_scores, materialise
from pruning.types import Masks, Params, Scores

Choice: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]
"""A name, a mapping {"name": ..., **settings}, or the function itself."""


class LayerCollapse(UserWarning):
    """A layer lost all its weights while others keep some."""


def resolve(axis: str, choice: Choice, *, where: str = "") -> Callable[..., Any]:
    """Return the function that `choice` means on `axis`, its settings bound."""
    if callable(choice):
        return choice
    if isinstance(choice, str):
        return catalogue.find(axis, choice, where=where)
    settings = dict(choice)
    name = settings.pop("name")
    catalogue.check(axis, name, settings, where=where)
    return partial(catalogue.find(axis, name, where=where), **settings)


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
    params = prunable(model, only=only, skip=skip)
    return materialise(_score(model, params, criterion, evidence, granularity, reduce))


def prune(
    model: nn.Module,
    sparsity: float,
    *,
    criterion: Choice = "magnitude",
    granularity: str = "weight",
    reduce: str = "sum",
    allocation: Choice = "global",
    evidence: Evidence | None = None,
    previous: Masks | None = None,
    allow_regrowth: bool = False,
    on_collapse: str = "warn",
    only: Iterable[str] | None = None,
    skip: Iterable[str] = (),
) -> Masks:
    """Return the masks of `model` at `sparsity`; the model itself is left as it is.

    `sparsity` is the fraction of all pieces that go, those pruned in `previous` included. Without
    `allow_regrowth` a piece that `previous` pruned never competes again, so masks are nested. A
    layer that loses everything is a `LayerCollapse` warning, or with `on_collapse="error"` a
    `PruningError`.
    """
    if on_collapse not in ("warn", "error"):
        raise unknown("on_collapse", on_collapse, ("warn", "error"))
    params = prunable(model, only=only, skip=skip)
    scores = _score(model, params, criterion, evidence, granularity, reduce)
    living = _alive(model, previous, scores, allow_regrowth)
    pieces = resolve("allocation", allocation)(scores, params, sparsity, living)
    result = _within(previous, expand(pieces, params), allow_regrowth)
    _report_collapse(result, sparsity, on_collapse)
    return result


def _score(
    model: nn.Module,
    params: Params,
    criterion: Choice,
    evidence: Evidence | None,
    granularity: str,
    reduce: str,
) -> AnyScores:
    function = resolve("criterion", criterion)
    scores = function(model, params, evidence or Evidence((), _no_loss, _no_inputs))
    check_scores(scores, params, _name(criterion))
    return coarsen(scores, params, granularity, reduce=reduce)


def _alive(
    model: nn.Module, previous: Masks | None, scores: AnyScores, allow_regrowth: bool
) -> dict[str, Tensor]:
    if previous is None or allow_regrowth:
        return {}
    masks.check(previous, model, where="previous masks")
    return alive(previous, scores)


def _within(previous: Masks | None, found: Masks, allow_regrowth: bool) -> Masks:
    """Keep weights pruned that a finer granularity pruned before within a piece that stays."""
    if previous is None or allow_regrowth:
        return found
    return {
        name: mask & previous[name] if name in previous else mask for name, mask in found.items()
    }


def _report_collapse(found: Masks, sparsity: float, on_collapse: str) -> None:
    lost = masks.collapsed(found)
    if not lost:
        return
    message = f"at sparsity {sparsity:.4g} layer {', '.join(lost)} loses every weight"
    if on_collapse == "error":
        raise PruningError(f"{message}; lower the sparsity, set min_keep or on_collapse: warn")
    warnings.warn(LayerCollapse(message), stacklevel=3)


def _name(criterion: Choice) -> str:
    if isinstance(criterion, Mapping):
        return str(criterion["name"])
    return criterion if isinstance(criterion, str) else getattr(criterion, "__name__", "criterion")


def _no_loss(model: nn.Module, batch: Any) -> Tensor:  # noqa: ARG001
    raise PruningError(f"this criterion needs data: give `evidence` for {type(model).__name__}")


def _no_inputs(batch: Any) -> tuple[Any, ...]:  # noqa: ARG001
    raise PruningError("this criterion needs data: give `evidence`")
