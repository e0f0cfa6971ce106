"""Our results as `beside` reads them, and which published rows each experiment answers."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from pruning.errors import PruningError
from stages.literature.beside import RESULTS, beside
from stages.literature.lookup import plain
from stages.params.protocol import Protocol, Row
from stages.reporting.summary import DENSE

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Params


def results(study: "Params", folds: "pd.DataFrame") -> "pd.DataFrame":
    """Return the networks of `summary.collect` with the columns `beside.RESULTS`.

    A round that changes nothing of a fold's sparsity (its target was reached) adds no network.
    """
    papers = _papers(study)
    dense = folds[folds["experiment"] == DENSE].set_index("fold")["test_accuracy"]
    mine = folds[folds["experiment"] != DENSE]
    mine = mine.drop_duplicates(["experiment", "fold", "sparsity"])
    names = mine["experiment"]
    frame = mine[["experiment", "fold", "sparsity"]].assign(
        method=[papers.methods.get(name, name) for name in names],
        dataset=papers.dataset or study.data.name,
        model=papers.model or _model(study),
        sparsity_kind=[papers.sparsity_kind or _kind(study, name) for name in names],
        accuracy=mine["test_accuracy"],
        dense_accuracy=mine["fold"].map(dense),
        selection=[study.method(name).finetune.keep for name in names],
    )
    return frame[list(RESULTS)].reset_index(drop=True)


def answered(study: "Params", table: "pd.DataFrame", rows: "pd.DataFrame") -> "pd.DataFrame":
    """Keep of a table of `beside` the lines that each experiment answers.

    Those that the study names for it; without a name all first-hand accuracies within reach, or
    none where the study answers with rankings.
    """
    import pandas as pd

    papers, kept = _papers(study), []
    for name in study.experiments:
        own = table[table["experiment"] == name]
        if name in papers.rows:
            kept.append(own[own["line"].isin(named(rows, papers.rows[name])["line"])])
        elif not papers.rankings:
            reached = (own["n"] > 0) & own["their_accuracy"].notna()
            kept.append(own[reached & own["first_hand"]])
    return pd.concat(kept or [table[:0]]).sort_index()


def named(rows: "pd.DataFrame", choices: Iterable[Row]) -> "pd.DataFrame":
    """Return the published rows that at least one of `choices` names; each must name some."""
    import pandas as pd

    found = pd.Series(False, index=rows.index)
    for choice in choices:
        one = pd.Series(True, index=rows.index)
        for name in ("arxiv", "model"):
            if getattr(choice, name) is not None:
                one &= rows[name] == getattr(choice, name)
        if choice.sparsity is not None:
            one &= (rows["sparsity"] - choice.sparsity).abs() < 5e-4
        if choice.method is not None and one.any():
            one[one] = called(rows["method"][one], choice.method)
        if not one.any():
            told = choice.model_dump(exclude_none=True)
            raise PruningError(f"papers.rows: no published row has {told}; see `stages.papers`")
        found |= one
    return rows[found]


def compare(
    study: "Params", folds: "pd.DataFrame", rows: "pd.DataFrame"
) -> tuple["pd.DataFrame", "pd.DataFrame", "pd.DataFrame"]:
    """Return our results, all of them beside all rows of their net, and the lines they answer."""
    mine = results(study, folds)
    table = beside(mine, rows)
    for name, choices in _papers(study).rows.items():
        for choice in choices:
            if choice.round is not None:
                table = _as_counted(study, folds, table, named(rows, [choice]), name, choice.round)
    return mine, table, answered(study, table, rows)


def _as_counted(
    study: "Params",
    folds: "pd.DataFrame",
    table: "pd.DataFrame",
    rows: "pd.DataFrame",
    name: str,
    n: int,
) -> "pd.DataFrame":
    """Replace an experiment's lines for `rows` by its round `n`, counted as each row counts."""
    import pandas as pd

    of_round = (folds["experiment"] == name) & (folds["round"] == n)
    mine = results(study, folds[of_round | (folds["experiment"] == DENSE)])
    lines = [
        beside(
            mine.assign(sparsity=row["sparsity"], sparsity_kind=row["sparsity_kind"]),
            rows[rows["line"] == row["line"]],
        )
        for row in rows.to_dict("records")
    ]
    replaced = (table["experiment"] == name) & table["line"].isin(rows["line"])
    return pd.concat([table[~replaced], *lines], ignore_index=True)


def called(methods: "pd.Series[str]", name: str) -> "pd.Series[bool]":
    """Tell which methods bear the name; where none does, which names begin with it."""
    plainly = methods.map(plain)
    exact = plainly == plain(name)
    return exact if exact.any() else plainly.str.startswith(plain(name))


def _papers(study: "Params") -> Protocol:
    return study.papers or Protocol()


def _model(study: "Params") -> str:
    """Name the net by its factory; with settings of its own it is another of the same name."""
    factory = study.model.factory.rpartition(":")[2].rpartition(".")[2]
    settings = ", ".join(
        f"{name} {value}" for name, value in (study.model.model_extra or {}).items()
    )
    return f"{factory} ({settings})" if settings else factory


def _kind(study: "Params", name: str) -> str:
    granularity = study.method(name).prune.granularity
    return {"filter": "filters", "channel": "channels"}.get(granularity, "weights")
