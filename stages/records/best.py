"""Our best network at each published sparsity against the best published row there."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from stages.literature.lookup import NEAR, SAME_DENSITY, SAME_SPARSITY, base, canonical, plain
from stages.literature.verdict import EDGE, MARGIN, Sample, summarise

if TYPE_CHECKING:
    import pandas as pd

BEATS, MEETS, BELOW, NOTHING = "beats", "meets", "below", "no network"
VERDICTS = (BEATS, MEETS, BELOW, NOTHING)

SAME = f"densities to {100 * SAME_DENSITY:g} %"
RULE = f"""\
Ours is the one experiment and round, of all studies on this net and of those at least as sparse as
the row ({SAME}), whose mean *validation* accuracy is highest; nothing is
interpolated, and the test set chooses nothing. *Beats*: its whole 95 % interval of test accuracy is
above the figure; *meets*: its mean is not below the figure, or its whole interval is within
{MARGIN} points of it; *below*: neither. Second-hand figures count here too."""


@dataclass(frozen=True)
class Point:
    """One published sparsity of one net: its rows' best figure, and the best network of ours."""

    model: str
    sparsity: float
    rows: int
    met: int
    """Rows, of those with this sparsity, whose figure ours meets or beats."""
    theirs: float
    method: str
    experiment: str
    """`study / experiment` of ours; "" where none is as sparse."""
    our_sparsity: float
    ours: Sample | None
    verdict: str


def judge(ours: Sample, theirs: float) -> str:
    """Apply `RULE` to a figure and a sample of ours in percent."""
    if ours.n > 1 and ours.low > theirs + EDGE:
        return BEATS
    near = ours.n > 1 and max(theirs - ours.low, ours.high - theirs) <= MARGIN + EDGE
    return MEETS if ours.mean >= theirs - EDGE or near else BELOW


def points(networks: "pd.DataFrame", rows: "pd.DataFrame", *, dataset: str) -> list[Point]:
    """Return a point for each net and sparsity of weights that the rows of a dataset give.

    `networks` has a line a network: study, experiment, round, fold, dataset, model, sparsity_kind,
    sparsity, accuracy, validation_accuracy (fractions).
    """
    rows = rows[(rows["dataset"] == dataset) & (rows["sparsity_kind"] == "weights")]
    rows = rows[rows["pruned_acc"].notna() & rows["sparsity"].notna()]
    own = networks[[plain(name) == plain(dataset) for name in networks["dataset"]]]
    own = own[own["sparsity_kind"] == "weights"]
    found = []
    for model, theirs in rows.groupby("model", sort=False):
        same = [base(canonical(name, [str(model)])) == base(str(model)) for name in own["model"]]
        candidates = _candidates(own[same])
        for sparsity, group in theirs.groupby("sparsity"):
            found.append(_point(str(model), float(str(sparsity)), group, candidates))
    return found


def _candidates(own: "pd.DataFrame") -> "list[dict[str, Any]]":
    return [
        {
            "name": f"{study} / {experiment}",
            "sparsity": float(group["sparsity"].mean()),
            "validation": float(group["validation_accuracy"].mean()),
            "sample": summarise(list(100 * group["accuracy"])),
        }
        for (study, experiment, _), group in own.groupby(
            ["study", "experiment", "round"], sort=False
        )
    ]


def _point(
    model: str, sparsity: float, group: "pd.DataFrame", candidates: Sequence[dict[str, Any]]
) -> Point:
    slack = min(SAME_DENSITY * (1 - sparsity), SAME_SPARSITY) + NEAR
    fit = [one for one in candidates if one["sparsity"] >= sparsity - slack]
    top = group.loc[group["pruned_acc"].idxmax()]
    figure, method = float(top["pruned_acc"]), f"{top['method']} [{top['evidence']}]"
    if not fit:
        return Point(model, sparsity, len(group), 0, figure, method, "", math.nan, None, NOTHING)
    best = max(fit, key=lambda one: one["validation"])
    sample = best["sample"]
    met = sum(judge(sample, value) != BELOW for value in group["pruned_acc"])
    verdict = judge(sample, figure)
    return Point(
        *(model, sparsity, len(group), met, figure, method),
        *(best["name"], best["sparsity"], sample, verdict),
    )
