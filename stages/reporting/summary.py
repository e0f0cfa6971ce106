"""Results as tables: one row a fold, then means with paired differences and their intervals."""

from pathlib import Path

import numpy as np
import pandas as pd
from scipy.special import stdtrit

from pruning.errors import PruningError
from pruning.facts import read_json
from stages.files import fold_of, read_manifest, result
from stages.params import Params

CONFIDENCE = 0.95
DENSE = "dense"


def collect(params: Params) -> pd.DataFrame:
    """Return one row for each experiment, round and fold, the dense network as round 0 of each.

    Columns: experiment, round, fold, target_sparsity and all measures of metrics.json.
    """
    places = [(DENSE, 0)]
    places += [(name, entry.n) for name in params.experiments for entry in params.rounds]
    rows = []
    for experiment, n in places:
        folder = result(experiment, n)
        for fold in read_manifest(folder)["folds"]:
            facts = read_json(fold_of(folder, fold) / "metrics.json")
            rows.append({"experiment": experiment, "round": n, "fold": fold, **facts})
    table = pd.DataFrame(rows)
    return table.fillna({"target_sparsity": 0.0})


def collect_layers(params: Params) -> pd.DataFrame:
    """Return one row for each experiment, round, fold and layer: weights, kept, sparsity."""
    tables = []
    for experiment in params.experiments:
        for entry in params.rounds:
            folder = result(experiment, entry.n)
            for fold in read_manifest(folder)["folds"]:
                table = pd.read_csv(fold_of(folder, fold) / "layers.csv")
                tables.append(table.assign(experiment=experiment, round=entry.n, fold=fold))
    return pd.concat(tables, ignore_index=True)


def summarise(results: pd.DataFrame, control: str | None) -> pd.DataFrame:
    """Return one row for each experiment and round: mean and standard deviation over the folds.

    `to_dense` and `to_control` are the mean differences in test accuracy, paired by fold, with the
    ends of their 95 % t intervals (NaN with a single fold).
    """
    rows = []
    for (experiment, n), group in results.groupby(["experiment", "round"], sort=False):
        accuracy = group.set_index("fold")["test_accuracy"]
        row = {
            "experiment": experiment,
            "round": n,
            "folds": len(group),
            "target_sparsity": group["target_sparsity"].mean(),
            "sparsity": group["sparsity"].mean(),
            "validation_accuracy": group["validation_accuracy"].mean(),
            "test_accuracy": accuracy.mean(),
            "test_accuracy_sd": accuracy.std(ddof=1),
            "before_recovery": _mean(group, "validation_accuracy_before_recovery"),
        }
        row |= _against("to_dense", accuracy, _accuracies(results, DENSE, 0))
        row |= _against("to_control", accuracy, _accuracies(results, control, n))
        rows.append(row)
    return pd.DataFrame(rows)


def curves(summary: pd.DataFrame) -> pd.DataFrame:
    """Return mean test accuracy by target sparsity, a column each experiment."""
    rows = summary[summary["experiment"] != DENSE]
    wide = rows.pivot_table("test_accuracy", "target_sparsity", "experiment")
    return wide[list(rows["experiment"].unique())].rename_axis("sparsity").reset_index()


def paired(ours: pd.Series, theirs: pd.Series) -> tuple[float, float, float]:
    """Return the mean difference of two results paired by fold, and its 95 % t interval.

    Raises `PruningError` where the folds differ: unpaired results cannot be compared this way.
    """
    if set(ours.index) != set(theirs.index):
        raise PruningError(
            f"folds {sorted(ours.index)} and {sorted(theirs.index)} differ and cannot be paired"
        )
    difference = ours - theirs.reindex(ours.index)
    mean, count = float(difference.mean()), len(difference)
    if count < 2:
        return mean, float("nan"), float("nan")
    half = float(stdtrit(count - 1, (1 + CONFIDENCE) / 2) * difference.std(ddof=1) / np.sqrt(count))
    return mean, mean - half, mean + half


def chosen(summary: pd.DataFrame, experiment: str) -> int:
    """Return the round whose network an experiment hands on, chosen by validation alone.

    The sparsest round whose mean validation accuracy is within one point of the dense network's;
    where there is none, the round with the best validation accuracy.
    """
    dense = float(summary.loc[summary["experiment"] == DENSE, "validation_accuracy"].iloc[0])
    own = summary[summary["experiment"] == experiment]
    good = own[own["validation_accuracy"] >= dense - 0.01]
    if len(good):
        return int(good.loc[good["sparsity"].idxmax(), "round"])
    return int(own.loc[own["validation_accuracy"].idxmax(), "round"])


def chosen_fold(results: pd.DataFrame, experiment: str, n: int) -> Path:
    """Return the result folder of the fold with the best validation accuracy of a round."""
    rows = results[(results["experiment"] == experiment) & (results["round"] == n)]
    return fold_of(
        result(experiment, n), int(rows.loc[rows["validation_accuracy"].idxmax(), "fold"])
    )


def _accuracies(results: pd.DataFrame, experiment: str | None, n: int) -> pd.Series | None:
    rows = results[(results["experiment"] == experiment) & (results["round"] == n)]
    return rows.set_index("fold")["test_accuracy"] if len(rows) else None


def _against(name: str, ours: pd.Series, theirs: pd.Series | None) -> dict[str, float]:
    nothing = (float("nan"),) * 3
    mean, low, high = nothing if theirs is None else paired(ours, theirs)
    return {name: mean, f"{name}_low": low, f"{name}_high": high}


def _mean(group: pd.DataFrame, column: str) -> float:
    return float(group[column].mean()) if column in group else float("nan")
