"""Find published rows: by names however spelt, by a range of sparsities, and on our own grid."""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pruning.errors import PruningError, unknown

if TYPE_CHECKING:
    import pandas as pd

ALIASES = {
    "lenet5": "LeNet-5-Caffe",
    "conv2": "Conv-2 (LTH)",
    "conv4": "Conv-4 (LTH)",
    "conv6": "Conv-6 (LTH)",
    "vgg19bn": "VGG-19",
}
"""Our names for nets whose rows go by another; the VGG-19 of the rows on CIFAR has BatchNorm."""

ONE_VALUE = 0.0005
NEAR = 1e-9
SAME_SPARSITY = 0.005
SAME_DENSITY = 0.02
FARTHEST = 2.5


@dataclass(frozen=True)
class Bracket:
    """Our two sparsities around a published one and the weight (0 to 1) of the `high` one."""

    low: float
    high: float
    weight: float

    @property
    def interpolated(self) -> bool:
        """Whether the target lies between two of ours rather than at one."""
        return self.low != self.high


def plain(name: str) -> str:
    """Return a name without what its spelling adds.

    >>> plain("LeNet-300-100") == plain("lenet_300_100")
    True
    """
    return re.sub(r"[^a-z0-9]", "", name.lower())


def base(name: str) -> str:
    """Return the plain name without a bracketed variant.

    >>> base("ResNet-32 (double width 32-64-128)")
    'resnet32'
    """
    return plain(name.split("(")[0])


def canonical(name: str, choices: Iterable[str]) -> str:
    """Return the one of `choices` that `name` means, however spelt, or `name` where none does.

    >>> canonical("lenet_5", ["LeNet-300-100", "LeNet-5-Caffe"])
    'LeNet-5-Caffe'
    """
    spellings = {plain(choice): choice for choice in choices}
    alias = ALIASES.get(plain(name), name)
    return spellings.get(plain(name), spellings.get(plain(alias), name))


def sparsities(text: str) -> tuple[float, float]:
    """Read `a:b`, `a:`, `:b` or one value (met to 0.05 points) as an inclusive range.

    >>> sparsities("0.9:0.99"), sparsities(":0.5")
    ((0.9, 0.99), (0.0, 0.5))
    """
    low, colon, high = text.partition(":")
    try:
        ends = (float(low or 0), float(high or 1)) if colon else (float(text), float(text))
    except ValueError:
        ends = (math.nan, math.nan)
    inside = 0 <= ends[0] < 1 and 0 <= ends[1] <= 1 and (ends[1] < 1 or not high)
    if not inside or ends[0] > ends[1]:
        raise PruningError(
            f"sparsity {text!r}: a fraction in [0, 1): one value, a:b with a <= b, a: or :b"
        )
    return ends if colon else (ends[0] - ONE_VALUE, ends[1] + ONE_VALUE)


def search(
    rows: "pd.DataFrame",
    *,
    dataset: str | None = None,
    model: str | None = None,
    method: str | None = None,
    kind: str | None = None,
    sparsity: tuple[float, float] | None = None,
    first_hand: bool = False,
) -> "pd.DataFrame":
    """Narrow the rows down; a name that no remaining row has is refused with the choices.

    Names match however spelt, `method` as a part of the name. `sparsity` is held against the
    row's own amount, whatever its kind; rows without one (mode letters) never match it.
    """
    for column, value in (("dataset", dataset), ("model", model), ("sparsity_kind", kind)):
        if value is not None:
            choices = sorted(set(rows[column]))
            name = canonical(value, choices)
            if name not in choices:
                raise unknown(column, value, choices, _scope(rows, column))
            rows = rows[rows[column] == name]
    if method is not None:
        found = rows["method"].str.contains(method, case=False, regex=False)
        if not found.any():
            raise unknown("method", method, sorted(set(rows["method"])), _scope(rows, "method"))
        rows = rows[found]
    if sparsity is not None:
        rows = rows[rows["sparsity"].between(sparsity[0] - NEAR, sparsity[1] + NEAR)]
    return rows[rows["first_hand"]] if first_hand else rows


def bracket(ours: Iterable[float], target: float) -> Bracket | None:
    """Find where `target` lies among our sparsities, or None where it cannot be placed.

    One of ours is the same when the densities differ by at most 2 % of the target's, and by at
    most 0.005. Otherwise the target must lie between two neighbours whose densities differ by at
    most a factor of 2.5; its place is linear in the logarithm of density, because rounds multiply
    density. Nothing is extrapolated.
    """
    grid = sorted(ours)
    nearest = min(grid, key=lambda sparsity: abs(sparsity - target), default=math.nan)
    if abs(nearest - target) <= min(SAME_DENSITY * (1 - target), SAME_SPARSITY) + NEAR:
        return Bracket(nearest, nearest, 0.0)
    below = max((s for s in grid if s < target), default=None)
    above = min((s for s in grid if s > target), default=None)
    if below is None or above is None or (1 - below) > FARTHEST * (1 - above) + NEAR:
        return None
    whole = math.log((1 - below) / (1 - above))
    return Bracket(below, above, math.log((1 - below) / (1 - target)) / whole)


def _scope(rows: "pd.DataFrame", column: str) -> str:
    """Name what the choices were narrowed down to, for the message."""
    above = {"dataset": (), "model": ("dataset",)}.get(column, ("dataset", "model"))
    named = [set(rows[name]) for name in above]
    return ", ".join(next(iter(names)) for names in named if len(names) == 1)
