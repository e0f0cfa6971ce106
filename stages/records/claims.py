"""Published statements without a table, as data, and whether a record of ours bears them out."""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field, TypeAdapter, ValidationError

from pruning.errors import PruningError
from stages.literature.lookup import NEAR, bracket
from stages.literature.verdict import MARGIN, Sample, summarise
from stages.params.protocol import Fraction, Part

if TYPE_CHECKING:
    import pandas as pd

DENSE = "dense"
HOLDS, LESS, FAILS, UNDECIDED = "holds", "holds, by less", "fails", "undecided"
NOT_REACHED = "not reached by ours"

RULE = f"""\
Differences are taken network by network, each pair from the same fold or seed, with the 95 % t
interval of their mean. *Above* holds where the interval lies above zero and reaches the amount
claimed ("by less" where it does not reach it), fails where it lies below zero. *Level* holds where
the interval stays above -{MARGIN} points and fails where it lies below. *Slower* is *above* for the
ratio of the steps to the lowest validation loss (an epoch's end), on a logarithmic scale. Anything
else is undecided. A statement on a range holds where it does at each of our sparsities within."""


class Claim(Part):
    """One statement: that `experiment` is above, level with or slower than another."""

    text: str
    source: str
    claim: Literal["above", "level", "slower"]
    experiment: str
    than: str = DENSE
    sparsity: Fraction | Annotated[list[Fraction], Field(min_length=2, max_length=2)]
    amount: Annotated[float, Field(ge=0)] = 0.0
    """Points of accuracy above; for `slower` by which factor."""


@dataclass(frozen=True)
class Finding:
    """What our networks say of a claim at one sparsity: the difference in points or the factor."""

    sparsity: float
    difference: Sample
    verdict: str


def read(path: Path) -> list[Claim]:
    """Return the claims of a YAML file, none where there is no file."""
    import yaml

    if not path.is_file():
        return []
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        return TypeAdapter(list[Claim]).validate_python(content)
    except (OSError, yaml.YAMLError) as error:
        raise PruningError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise PruningError(f"{path}: {key}: {first['msg']}") from None


def evaluate(claim: Claim, networks: "pd.DataFrame") -> list[Finding]:
    """Return what networks (`recorded.COLUMNS`) say of a claim at each sparsity that it is about.

    Empty where ours has no network there: nothing is interpolated.
    """
    choices = sorted({DENSE, *networks["experiment"]})
    for name in (claim.experiment, claim.than):
        if name not in choices:
            raise PruningError(f"claim {claim.text!r}: {name!r}; choose from {', '.join(choices)}")
    judge, value = _MEASURES[claim.claim]
    mine = _by_round(networks, claim.experiment, value)
    findings = []
    for n in _rounds(networks, claim):
        other = _by_round(networks, claim.than, value)
        theirs = other[0] if claim.than == DENSE else other.get(n, {})
        pairs = [mine[n][fold] - theirs[fold] for fold in sorted(mine[n].keys() & theirs.keys())]
        if pairs and all(map(math.isfinite, pairs)):
            sparsity = float(_of(networks, claim.experiment, n)["sparsity"].mean())
            found = summarise(pairs)
            findings.append(Finding(sparsity, found, judge(found, claim.amount)))
    return findings


def conclusion(findings: Iterable[Finding]) -> str:
    """Return the verdict over all sparsities of a claim: its weakest one."""
    verdicts = {finding.verdict for finding in findings}
    order = (FAILS, UNDECIDED, LESS, HOLDS)
    return next((verdict for verdict in order if verdict in verdicts), NOT_REACHED)


def since(networks: "pd.DataFrame", experiment: str, than: str) -> list[Finding]:
    """Return by how many points `experiment` is above `than` at each sparsity of both."""
    grid = [0.0, float(networks["sparsity"].max())]
    claim = Claim(
        text="", source="", claim="above", experiment=experiment, than=than, sparsity=grid
    )
    return evaluate(claim, networks)


def _rounds(networks: "pd.DataFrame", claim: Claim) -> list[int]:
    """Return the rounds whose mean sparsity the claim is about: no interpolation."""
    own = networks[networks["experiment"] == claim.experiment]
    means = own[own["round"] > 0].groupby("round")["sparsity"].mean()
    if isinstance(claim.sparsity, list):
        low, high = claim.sparsity
        return [int(str(n)) for n, s in means.items() if low - NEAR <= s <= high + NEAR]
    place = bracket(means, claim.sparsity)
    if place is None or place.interpolated:
        return []
    return [int(str(n)) for n, s in means.items() if s == place.low][:1]


def _of(networks: "pd.DataFrame", experiment: str, n: int) -> "pd.DataFrame":
    return networks[(networks["experiment"] == experiment) & (networks["round"] == n)]


def _by_round(
    networks: "pd.DataFrame", experiment: str, value: Callable[["pd.Series[float]"], list[float]]
) -> dict[int, dict[int, float]]:
    own = networks[networks["experiment"] == experiment]
    return {
        int(str(n)): dict(zip(group["fold"], value(group), strict=True))
        for n, group in own.groupby("round")
    }


def _points(group: "pd.DataFrame") -> list[float]:
    return list(100 * group["test_accuracy"])


def _logarithms(group: "pd.DataFrame") -> list[float]:
    if "lowest_loss_step" not in group:
        return [math.nan] * len(group)
    return [
        math.log(step) if step > 0 else math.nan for step in group["lowest_loss_step"].astype(float)
    ]


def _above(found: Sample, amount: float) -> str:
    if found.n < 2 or not (found.low > 0 or found.high < 0):
        return UNDECIDED
    if found.high < 0:
        return FAILS
    return HOLDS if found.high >= amount else LESS


def _level(found: Sample, amount: float) -> str:  # noqa: ARG001 - one signature
    if found.n < 2 or found.low <= -MARGIN <= found.high:
        return UNDECIDED
    return HOLDS if found.low > -MARGIN else FAILS


def _slower(found: Sample, amount: float) -> str:
    return _above(found, math.log(amount) if amount else 0.0)


_MEASURES = {
    "above": (_above, _points),
    "level": (_level, _points),
    "slower": (_slower, _logarithms),
}
