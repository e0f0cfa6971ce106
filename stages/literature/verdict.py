"""What a comparison with a published figure may claim: the rule, once, and its arithmetic."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pruning.errors import PruningError, unknown
from stages.literature.lookup import base, plain

REPRODUCED, BETTER, WORSE = "reproduced", "better", "worse"
NOT_COMPARABLE = "not comparable"

MARGIN = 0.3
"""Accuracy points allowed on either side of a figure that comes without a standard deviation."""

CONFIDENCE = 0.95
EDGE = 1e-9

RULE = f"""\
Ours is the mean over folds or seeds with its {CONFIDENCE:.0%} interval (Student's t, n - 1 degrees
of freedom). The band around a published figure is 2 of its standard deviations to either side,
or {MARGIN} points where it comes with none (a printed deviation of zero counts as none).

* *reproduced*: our whole interval lies within the band;
* *better*, *worse*: our interval leaves the band, and all of it lies above (below) their figure;
* *not comparable*: nothing can be claimed, and the reason is given. Either the figures do not
  measure the same (best epoch against last, 8,000 of 10,000 test images, another net of the same
  name, another kind or amount of sparsity, a figure that is second-hand), or our interval both
  leaves the band and covers their figure, or a single run has no interval.

Accuracies are compared at the level, but where our pixels differ from theirs (CIFAR-10 as JPEG)
only the changes from each side's own dense net are, with the same band. Our accuracy at their
sparsity is that of our own network where the densities differ by at most 2 % (and 0.5 points),
else it is interpolated, mean and deviation, linearly in the logarithm of density, fold by fold,
between two of our networks whose densities differ by at most a factor of 2.5; it is never
extrapolated. The band is a tolerance and no test: the spread of their dense net and their number
of runs do not enter."""
"""The rule that `judge` and `obstacles` apply, as reports print it."""

SELECTIONS = {
    "last": "our last epoch",
    "best": "our best epoch on validation",
    "test": "our best epoch on the test set",
}
"""How a network of ours may have been chosen."""

BEST_EPOCH = re.compile(r"best-epoch accuracy on the test set|BEST test accuracy")
CAVEATS = (
    (re.compile(r"8,000-image split"), "theirs is on 8,000 of the 10,000 test images"),
    (re.compile(r"best of a hyper-parameter sweep"), "theirs is the best of a sweep"),
)


@dataclass(frozen=True)
class Sample:
    """Mean, sample sd and interval of n values in their unit; sd and ends are NaN for one."""

    n: int
    mean: float
    sd: float
    low: float
    high: float


def summarise(values: Sequence[float]) -> Sample:
    """Return mean, sample sd (n - 1) and the 95 % t interval of values over folds or seeds.

    >>> sample = summarise([98.0, 98.2, 98.4])  # 98.2 +- 4.3027 * 0.2 / sqrt(3)
    >>> round(sample.low, 3), round(sample.high, 3)
    (97.703, 98.697)
    """
    n = len(values)
    if not n or not all(map(math.isfinite, values)):
        raise PruningError(f"values {list(values)}: at least one, all finite, make a mean")
    mean = math.fsum(values) / n
    if n == 1:
        return Sample(1, mean, math.nan, math.nan, math.nan)
    return _sample(n, mean, math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1)))


def between(lows: Sequence[float], highs: Sequence[float], *, weights: Sequence[float]) -> Sample:
    """Return the sample of folds interpolated between two networks each, `weights` to the second.

    The sd is interpolated as well: that of the interpolated values would be too small, because
    averaging two networks cancels part of their noise.
    """
    pairs = list(zip(lows, highs, weights, strict=True))
    mean = summarise([(1 - weight) * low + weight * high for low, high, weight in pairs])
    if mean.n == 1:
        return mean
    share = math.fsum(weights) / len(weights)
    return _sample(
        mean.n, mean.mean, (1 - share) * summarise(lows).sd + share * summarise(highs).sd
    )


def band(sd: float) -> float:
    """Return the half-width in points allowed around a figure with this sd (NaN: none given)."""
    return 2 * sd if sd > 0 else MARGIN


def judge(ours: Sample, theirs: float, sd: float = math.nan) -> tuple[str, str]:
    """Apply `RULE` to the numbers alone, all in points with more meaning better: (verdict, why)."""
    if ours.n < 2:
        return NOT_COMPARABLE, "a single run has no interval"
    allowed = band(sd)
    if ours.low >= theirs - allowed - EDGE and ours.high <= theirs + allowed + EDGE:
        return REPRODUCED, ""
    if ours.low > theirs + EDGE:
        return BETTER, ""
    if ours.high < theirs - EDGE:
        return WORSE, ""
    return NOT_COMPARABLE, (
        f"our interval [{ours.low:.2f}, {ours.high:.2f}] leaves their band "
        f"{theirs:.2f} ± {allowed:.2f} and covers their figure: more folds or seeds are needed"
    )


def obstacles(row: Any, *, model: str, kind: str, selection: str) -> list[str]:
    """Say why a published row and a result of ours do not measure the same; empty where they do.

    `row` is a row of `published.load()`; `model`, `kind` and `selection` (a key of `SELECTIONS`)
    are ours, `model` in the spelling of the rows.
    """
    if selection not in SELECTIONS:
        raise unknown("selection", selection, SELECTIONS, "results")
    reasons = []
    if plain(row.model) != plain(model):
        namesake = "another net of the same name" if base(row.model) == base(model) else "other net"
        reasons.append(f"{namesake}: theirs is {row.model}, ours {model}")
    if row.sparsity_kind != kind:
        reasons.append(f"theirs counts {row.sparsity_kind}, ours {kind}")
    if math.isnan(row.pruned_acc):
        reasons.append("theirs gives no accuracy")
    reasons += _chosen(row, selection)
    reasons += [reason for pattern, reason in CAVEATS if pattern.search(row.note)]
    if not row.first_hand:
        reasons.append(f"their figure is second-hand: {_handed(row)}")
    return reasons


def _sample(n: int, mean: float, sd: float) -> Sample:
    from scipy.special import stdtrit  # type: ignore[import-untyped, unused-ignore]

    half = float(stdtrit(n - 1, (1 + CONFIDENCE) / 2)) * sd / math.sqrt(n)
    return Sample(n, mean, sd, mean - half, mean + half)


def _handed(row: Any) -> str:
    read_there = row.family.startswith(("author-", "primary-"))
    return f"quoted by {row.paper.split(' (')[0]}" if read_there else row.evidence


def _chosen(row: Any, selection: str) -> list[str]:
    theirs_best = bool(BEST_EPOCH.search(row.note))
    if theirs_best and selection != "test":
        return [f"their best epoch on the test set against {SELECTIONS[selection]}"]
    if selection == "test" and not theirs_best:
        return [f"{SELECTIONS[selection]} against an epoch they did not choose by the test set"]
    return []
