"""Who trains and who validates: stratified folds over the training part, from one seed.

The splits are ours rather than scikit-learn's: a stratified deal is one line, it saves an import of
a second in every process, and no release of another package can move a sample to another fold.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruning.errors import PruningError
from pruning.facts import read_json
from pruning.randomness import generator

_FORMAT = "pruning folds 1"


@dataclass(frozen=True, eq=False)
class Fold:
    """Ascending int64 indices into the training part; the two share none."""

    train: Tensor
    validation: Tensor


def folds(
    labels: Tensor, *, folds: int, repeats: int = 1, validation: float = 0.1, seed: int
) -> list[Fold]:
    """Return `repeats` times `folds` folds over `labels` (N,), one repeat after the other.

    With two folds or more each index validates once a repeat, and every class and the folds
    themselves are dealt out within one. A single fold holds out the share `validation` of every
    class. Raises `PruningError` for a class with fewer samples than folds.
    """
    if folds < 1 or repeats < 1:
        raise PruningError(f"folds {folds!r} and repeats {repeats!r} must both be at least 1")
    _check_classes(labels, max(folds, 2), f"folds={folds}" if folds > 1 else "a hold-out needs")
    if folds == 1:
        return [hold_out(labels, fraction=validation, seed=seed, repeat=r) for r in range(repeats)]
    return [fold for repeat in range(repeats) for fold in _dealt(labels, folds, seed, repeat)]


def hold_out(labels: Tensor, *, fraction: float, seed: int, repeat: int = 0) -> Fold:
    """Return one fold whose `validation` is a stratified random `fraction` of `labels` (N,).

    Of every class round(fraction * size) samples, halves up, but at least one and never all.
    """
    if not 0 < fraction < 1:
        raise PruningError(f"held-out fraction {fraction!r} is outside (0, 1)")
    _check_classes(labels, 2, "a hold-out needs")
    order = _shuffled_by_class(labels, generator(seed, "hold-out", repeat))
    held = torch.zeros(len(labels), dtype=torch.bool)
    sizes = torch.unique(labels, return_counts=True)[1].tolist()
    for members in torch.split(order, sizes):
        count = int(fraction * len(members) + 0.5)
        held[members[: min(max(count, 1), len(members) - 1)]] = True
    return _split(held)


def save(folds: Sequence[Fold], path: Path) -> None:
    """Write `folds` as JSON, in bytes that depend on nothing else."""
    rows = [{"train": f.train.tolist(), "validation": f.validation.tolist()} for f in folds]
    text = json.dumps({"format": _FORMAT, "folds": rows}, separators=(",", ":")) + "\n"
    part = path.with_name(path.name + ".part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def read(path: Path) -> list[Fold]:
    """Read what `save` wrote; a missing, truncated or foreign file is a `PruningError`."""
    content = read_json(path)
    try:
        if content["format"] != _FORMAT:
            raise ValueError(f"format {content['format']!r} is not {_FORMAT!r}")
        return [
            Fold(_indices(row["train"]), _indices(row["validation"])) for row in content["folds"]
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise PruningError(
            f"{path} is no file of folds: {type(error).__name__}: {error}"
        ) from error


def _dealt(labels: Tensor, folds: int, seed: int, repeat: int) -> list[Fold]:
    """Deal the samples out like cards, class after class, so that all counts are within one."""
    order = _shuffled_by_class(labels, generator(seed, "folds", repeat))
    fold_of = torch.empty(len(labels), dtype=torch.int64)
    fold_of[order] = torch.arange(len(labels)) % folds
    return [_split(fold_of == fold) for fold in range(folds)]


def _shuffled_by_class(labels: Tensor, source: torch.Generator) -> Tensor:
    shuffled = torch.randperm(len(labels), generator=source)
    return shuffled[torch.argsort(labels[shuffled], stable=True)]


def _split(held: Tensor) -> Fold:
    return Fold((~held).nonzero().flatten(), held.nonzero().flatten())


def _check_classes(labels: Tensor, least: int, why: str) -> None:
    if labels.ndim != 1 or len(labels) == 0:
        raise PruningError(
            f"labels of shape {tuple(labels.shape)} cannot be split: none, or not 1-D"
        )
    classes, counts = torch.unique(labels, return_counts=True)
    rarest = int(counts.argmin())
    if counts[rarest] < least:
        have = f"class {int(classes[rarest])} has {int(counts[rarest])} sample(s)"
        raise PruningError(f"{have}, fewer than the {least} that {why}")


def _indices(values: Any) -> Tensor:
    tensor = torch.tensor(values, dtype=torch.int64)
    if tensor.ndim != 1 or any(type(value) is not int or value < 0 for value in values):
        raise ValueError("indices must be a list of integers, 0 or more")
    return tensor
