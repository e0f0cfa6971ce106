"""List the MLflow runs that hold a study's present results."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from stages.tracking.records import read
from stages.tracking.runs import SUPERSEDED
from stages.tracking.store import DATABASE, Store, address, connect


@dataclass(frozen=True)
class Run:
    """The run of an experiment (`fold` None) or of one of its folds; times in seconds."""

    experiment: str
    fold: int | None
    run_id: str
    times: tuple[float, ...]
    """When it started and ended."""


def runs(home: Path, study: str, folders: Iterable[Path]) -> list[Run]:
    """Return the runs that hold `folders`, each the output of one experiment in the study `home`.

    Raises `PruningError` where there is no store, or it lacks an experiment.
    """
    if address(home)[1] and not (home / DATABASE).is_file():
        raise PruningError(f"{home / DATABASE}: no MLflow store here; run `python -m stages.sync`")
    store = connect(home, study, timeout=10, retries=1)
    return [run for folder in folders for run in _of(store, home / folder)]


def _of(store: Store, folder: Path) -> list[Run]:
    record = read(folder)
    query = f"tags.group_key = '{record.group_key}'"
    held = store.client.search_runs([store.experiment_id], query)
    name = record.experiment or record.stage
    mine = [run for run in held if run.data.tags["experiment"] == name]
    parents = {run.info.run_id for run in mine if SUPERSEDED not in run.data.tags}
    found = [run for run in mine if _parent(run) in parents]
    if not found:
        raise PruningError(f"MLflow holds no run of {name}; run `python -m stages.sync`")
    listed = [Run(name, _fold(run), run.info.run_id, tuple(_times(run))) for run in found]
    return sorted(listed, key=lambda run: -1 if run.fold is None else run.fold)


def _parent(run: Any) -> str:
    return str(run.data.tags.get("mlflow.parentRunId", run.info.run_id))


def _fold(run: Any) -> int | None:
    fold = run.data.tags.get("fold")
    return None if fold is None else int(fold)


def _times(run: Any) -> Iterable[float]:
    return (time / 1000 for time in (run.info.start_time, run.info.end_time) if time)
