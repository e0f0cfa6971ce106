"""List the MLflow runs that hold a study's present results."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from stages.tracking.records import read
from stages.tracking.runs import SUPERSEDED
from stages.tracking.store import DATABASE, Store, address, connect, experiment_id

PAUSE = 300
"""Seconds without a logged point from which on a study is taken to have rested."""


@dataclass(frozen=True)
class Run:
    """The run of an experiment (`fold` None) or of one of its folds; times in seconds."""

    experiment: str
    fold: int | None
    run_id: str
    times: tuple[float, ...]
    """When something of it was logged: its start, its end, its training losses."""


def runs(home: Path, study: str, folders: Iterable[Path]) -> list[Run]:
    """Return the runs that hold `folders`, each the output of one experiment in the study `home`.

    Raises `PruningError` where there is no store, or it lacks an experiment.
    """
    if address(home)[1] and not (home / DATABASE).is_file():
        raise PruningError(f"{home / DATABASE}: no MLflow store here; run `python -m stages.sync`")
    store = connect(home, study, timeout=10, retries=1)
    return [run for folder in folders for run in _of(store, study, home / folder)]


def active(times: Iterable[float]) -> float:
    """Return the seconds between the first and the last of `times` without the long pauses.

    >>> active([0, 100, 200, 5000, 5010])
    210
    """
    ordered = sorted(times)
    gaps = [after - before for before, after in pairwise(ordered)]
    return sum(gap for gap in gaps if gap <= PAUSE)


def _of(store: Store, study: str, folder: Path) -> list[Run]:
    record = read(folder)
    query = f"tags.group_key = '{record.group_key}'"
    held = store.client.search_runs([experiment_id(store, study)], query)
    name = record.experiment or record.stage
    mine = [run for run in held if run.data.tags["experiment"] == name]
    parents = {run.info.run_id for run in mine if SUPERSEDED not in run.data.tags}
    found = [run for run in mine if _parent(run) in parents]
    if not found:
        raise PruningError(f"MLflow holds no run of {name}; run `python -m stages.sync`")
    listed = [Run(name, _fold(run), run.info.run_id, tuple(_times(store, run))) for run in found]
    return sorted(listed, key=lambda run: -1 if run.fold is None else run.fold)


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", run.info.run_id))


def _fold(run: Any) -> int | None:
    fold = run.data.tags.get("fold")
    return None if fold is None else int(fold)


def _times(store: Store, run: Any) -> Iterable[float]:
    yield run.info.start_time / 1000
    if run.info.end_time:
        yield run.info.end_time / 1000
    for name in run.data.metrics:
        if name.endswith("/train_loss"):
            for point in store.client.get_metric_history(run.info.run_id, name):
                yield point.timestamp / 1000
