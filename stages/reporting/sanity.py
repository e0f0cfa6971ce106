"""Whether a method beats its own controls: shuffled masks, fresh weights, inverted scores."""

import pandas as pd

from stages.params import Params
from stages.reporting.summary import paired


def controls(params: Params) -> dict[str, list[str]]:
    """Return the experiments that are controls of another, by that other's name."""
    found: dict[str, list[str]] = {}
    for name in params.experiments:
        if of := params.lender(name) or params.method(name).control_of:
            found.setdefault(of, []).append(name)
    return found


def differences(params: Params, results: pd.DataFrame) -> pd.DataFrame:
    """Return, for each experiment, control and round, by how much it beats the control.

    `difference` is the mean over folds of test accuracy, paired by fold, with `low` and `high` the
    ends of its 95 % interval.

    Source: Frankle et al. 2021, "Pruning Neural Networks at Initialization: Why Are We Missing the
    Mark?", section 5; Su et al. 2020, "Sanity-Checking Pruning Methods", section 3.
    """
    rows = []
    for experiment, names in controls(params).items():
        for control in names:
            for entry in params.rounds:
                ours = _accuracy(results, experiment, entry.n)
                theirs = _accuracy(results, control, entry.n)
                mean, low, high = paired(ours, theirs)
                sparsity = results.loc[results["experiment"] == experiment]
                sparsity = sparsity.loc[sparsity["round"] == entry.n, "sparsity"].mean()
                rows.append((experiment, control, entry.n, sparsity, mean, low, high))
    columns = ["experiment", "control", "round", "sparsity", "difference", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def words(found: pd.DataFrame) -> str:
    """Return in words whether each experiment beat its controls, a line each."""
    lines = []
    for (experiment, control), rows in found.groupby(["experiment", "control"], sort=False):
        beaten = rows[rows["low"] > 0]
        lost = rows[rows["high"] < 0]
        parts = [f"- **{experiment}** against its control {control}:"]
        if len(beaten):
            parts.append(f"beats it at {_places(beaten)}")
        if len(lost):
            parts.append(f"loses to it at {_places(lost)}")
        open_ = rows.drop(beaten.index).drop(lost.index)
        if len(open_):
            parts.append(f"cannot be told from it at {_places(open_)}")
        lines.append(parts[0] + " " + "; ".join(parts[1:]) + ".")
    return "\n".join(lines)


def _places(rows: pd.DataFrame) -> str:
    return ", ".join(
        f"{100 * row['sparsity']:.4g} % ({100 * row['difference']:+.2f}{_interval(row)})"
        for _, row in rows.iterrows()
    )


def _interval(row: pd.Series) -> str:
    if row["low"] != row["low"]:
        return ", one fold: no interval"
    return f" [{100 * row['low']:+.2f}, {100 * row['high']:+.2f}]"


def _accuracy(results: pd.DataFrame, experiment: str, n: int) -> pd.Series:
    rows = results[(results["experiment"] == experiment) & (results["round"] == n)]
    return rows.set_index("fold")["test_accuracy"]
