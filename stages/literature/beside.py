"""Set our results beside published rows: one line of a tidy table for each pair."""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from pruning.errors import PruningError
from stages.literature.lookup import base, canonical, plain
from stages.literature.places import Networks, Place, at, by_fold
from stages.literature.verdict import NOT_COMPARABLE, band, between, judge, obstacles

if TYPE_CHECKING:
    import pandas as pd

RESULTS = (
    "experiment",
    "method",
    "dataset",
    "model",
    "sparsity",
    "sparsity_kind",
    "fold",
    "accuracy",
    "dense_accuracy",
    "selection",
)
"""The columns our results need: one line a network; sparsity and accuracies are fractions."""

SERIES = ["experiment", "method", "dataset", "model", "sparsity_kind", "selection"]
"""What tells one series of our results from another."""

RECODED = "jpeg"
"""What our dataset's name adds where the pixels are not the published ones."""

TABLE = (
    *("experiment", "our_method", "dataset", "model", "sparsity_kind", "selection"),
    *("method", "paper", "arxiv", "year", "source", "evidence", "first_hand", "line", "sparsity"),
    *("their_dense", "their_accuracy", "their_sd", "their_drop"),
    *("our_low", "our_high", "interpolated", "our_dense", "our_accuracy", "our_sd", "n"),
    *("low", "high", "our_drop", "drop_sd", "drop_low", "drop_high"),
    *("judged", "band", "verdict", "reason", "by_numbers"),
)
"""The columns of `beside`: sparsities are fractions; accuracies, drops and bands are points."""


def check(results: "pd.DataFrame") -> None:
    """Refuse results that lack a column, hold an impossible number, or hold a network twice."""
    missing = [name for name in RESULTS if name not in results]
    if missing:
        raise PruningError(f"results lack {', '.join(missing)}; needed: {', '.join(RESULTS)}")
    for name in ("sparsity", "accuracy", "dense_accuracy"):
        bad = results[~results[name].between(0, 1)]
        if len(bad):
            raise PruningError(
                f"results of {bad['experiment'].iloc[0]}: {name} {bad[name].iloc[0]!r}; "
                "allowed: a fraction from 0 to 1"
            )
    twice = results[results.duplicated([*SERIES, "fold", "sparsity"])]
    if len(twice):
        first = twice.iloc[0]
        raise PruningError(
            f"results of {first.experiment}: fold {first.fold} twice at sparsity {first.sparsity}"
        )


def beside(results: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
    """Compare every experiment with every row of its dataset and of a net of its name.

    `results` has the columns `RESULTS`, `rows` come from `published.load()`; names match however
    spelt. Returns the columns `TABLE`, judged by `verdict.RULE`.
    """
    import pandas as pd

    check(results)
    theirs: list[Any] = list(rows.itertuples())
    lines: list[dict[str, Any]] = []
    for _, group in results.groupby(SERIES, sort=False):
        first, folds = group.iloc[0], by_fold(group)
        dataset, model = first["dataset"], first["model"]
        lines += [_line(first, folds, row) for row in theirs if alike(dataset, model, row)]
    return pd.DataFrame(lines, columns=list(TABLE))


def reached(results: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
    """Keep the rows that give an accuracy at a kind and amount of sparsity some result reaches."""
    import pandas as pd

    check(results)
    groups = [(g.iloc[0], by_fold(g)) for _, g in results.groupby(SERIES, sort=False)]
    lines: Iterable[Any] = rows.itertuples()
    kept = [
        not math.isnan(row.pruned_acc)
        and any(
            alike(first["dataset"], first["model"], row)
            and first["sparsity_kind"] == row.sparsity_kind
            and at(folds, row.sparsity)
            for first, folds in groups
        )
        for row in lines
    ]
    return rows[pd.Series(kept, index=rows.index, dtype=bool)]


def alike(dataset: str, model: str, row: Any) -> bool:
    """Whether a row has our dataset (or its published pixels) and a net of our net's name."""
    ours, theirs = plain(dataset), plain(row.dataset)
    same_data = ours in (theirs, theirs + RECODED)
    return same_data and base(canonical(model, [row.model])) == base(row.model)


def _line(first: Any, networks: list[Networks], row: Any) -> dict[str, Any]:
    model = canonical(first["model"], [row.model])
    line = {
        "experiment": first["experiment"],
        "our_method": first["method"],
        "dataset": first["dataset"],
        "model": model,
        "selection": first["selection"],
        "their_dense": row.baseline_acc,
        "their_accuracy": row.pruned_acc,
        "their_sd": row.acc_std,
        "their_drop": row.baseline_acc - row.pruned_acc,
        "band": band(row.acc_std),
        "judged": "accuracy" if plain(first["dataset"]) == plain(row.dataset) else "drop",
    }
    for name in ("method", "paper", "arxiv", "year", "source", "evidence", "first_hand", "line"):
        line[name] = getattr(row, name)
    line |= {"sparsity": row.sparsity, "sparsity_kind": row.sparsity_kind}
    line |= {"n": 0, "interpolated": False}
    reasons = obstacles(row, model=model, kind=first["sparsity_kind"], selection=first["selection"])
    same_kind = first["sparsity_kind"] == row.sparsity_kind
    folds = at(networks, row.sparsity) if same_kind else []
    if same_kind and not folds:
        reasons.append(_out_of_reach([s for fold in networks for s in fold], row))
    word, why = _ours(line, folds) if folds else ("", "")
    reasons += [why] if why else []
    verdict = NOT_COMPARABLE if reasons else word
    return line | {"verdict": verdict, "reason": "; ".join(reasons), "by_numbers": word}


def _ours(line: dict[str, Any], places: list[Place]) -> tuple[str, str]:
    """Add our side to a line and judge it by the numbers: (verdict, why)."""
    weights = [place.bracket.weight for place in places]
    level, dense, change = (
        between(*zip(*(getattr(place, name) for place in places), strict=True), weights=weights)
        for name in ("accuracy", "dense", "change")
    )
    line |= {
        "our_low": min(place.bracket.low for place in places),
        "our_high": max(place.bracket.high for place in places),
        "interpolated": any(place.bracket.interpolated for place in places),
        "our_dense": dense.mean,
        "our_accuracy": level.mean,
        "our_sd": level.sd,
        "n": level.n,
        "low": level.low,
        "high": level.high,
        "our_drop": -change.mean,
        "drop_sd": change.sd,
        "drop_low": -change.high,
        "drop_high": -change.low,
    }
    if math.isnan(line["their_accuracy"]):
        return "", ""
    if line["judged"] == "accuracy":
        return judge(level, line["their_accuracy"], line["their_sd"])
    if math.isnan(line["their_dense"]):
        return "", "only drops compare, and theirs gives no dense accuracy"
    return judge(change, -line["their_drop"], line["their_sd"])


def _out_of_reach(ours: Iterable[float], row: Any) -> str:
    if math.isnan(row.sparsity):
        given = row.sparsity_or_ratio or "none"
        return f"theirs gives no amount of sparsity (printed: {given})"
    grid = sorted({f"{100 * value:.4g}" for value in ours}, key=float)
    return f"{100 * row.sparsity:.4g} % is not within reach of ours ({', '.join(grid)} %)"
