"""Find the MLflow runs of an experiment and of its folds by what they hold; make those missing."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from stages.tracking.records import Record, upstream
from stages.tracking.store import Store, lock
from stages.tracking.write import write

PARENT, SUPERSEDED = "mlflow.parentRunId", "superseded"

OWN_RUN = ("export", "gains")
"""The stages of an experiment whose settings are not its own, so that they have another group."""


@dataclass(frozen=True)
class Places:
    """Where a folder belongs: its experiment's run, and a run per fold (itself, without folds)."""

    parent: Any
    runs: Mapping[int | None, Any]


def logged(run: Any, record: Record, digest: str = "") -> bool:
    """Tell whether all of the folder is in `run`, with this DVC hash or else with the same key."""
    tags = run.data.tags
    found = tags.get(f"dvc.md5.{record.place}")
    return found == digest if digest else bool(found) and tags[f"key.{record.place}"] == record.key


def find(store: Store, record: Record, digest: str = "", folds: Iterable[int] = ()) -> Places:
    """Return the runs for a folder (all its folds, or `folds`), made where missing.

    They are in the MLflow experiment of the store's study, whichever study made the folder: those
    side by side share DVC's cache. They hold nothing that contradicts the folder or what it was
    made from. Where the present runs do (the same settings gave other bytes: code or data has
    changed), they are tagged superseded and others take their place: those which held this content
    before, or new ones.
    """
    wanted = _lineage(store, record, digest)
    with lock(store.home):
        query = f"tags.group_key = '{record.group_key}'"
        held = store.client.search_runs(
            [store.experiment_id], query, order_by=["attributes.start_time ASC"]
        )
        held = [run for run in held if run.data.tags["experiment"] == _name(record)]
        parents = [run for run in held if PARENT not in run.data.tags]
        parent = _choose(parents, held, wanted) or _create(store, record)
        known = _folds(parent, held)
        runs: dict[int | None, Any] = {
            fold: known.get(fold) or _create(store, record, fold, parent)
            for fold in folds or record.folds
        }
        _make_current(store, parent, parents)
    return Places(parent, runs or {None: parent})


def finish(store: Store, run: Any) -> None:
    """Set the run's status to FINISHED, where it is another."""
    if store.client.get_run(run.info.run_id).info.status != "FINISHED":
        store.client.set_terminated(run.info.run_id)


def _lineage(store: Store, record: Record, digest: str) -> dict[str, str]:
    """Return the tags that a run holding `record` has, as far as it is complete."""
    group = record.group_key
    sources = [source for source in upstream(record, store.home) if source.group_key == group]
    tags = {f"key.{each.place}": each.key for each in [record, *sources]}
    return tags | ({f"dvc.md5.{record.place}": digest} if digest else {})


def _choose(parents: list[Any], held: list[Any], wanted: Mapping[str, str]) -> Any:
    """Return the parent to use, if any: the current one, or one that held this content before."""
    best, chosen = (0, 0), None
    for parent in parents:
        runs = [parent, *_folds(parent, held).values()]
        shared = [(run.data.tags, name) for run in runs for name in wanted.keys() & run.data.tags]
        agree = [tags[name] == wanted[name] for tags, name in shared]
        rank = (int(SUPERSEDED not in parent.data.tags), len(agree))
        if rank > best and all(agree):
            best, chosen = rank, parent
    return chosen


def _folds(parent: Any, held: list[Any]) -> dict[int, Any]:
    """Return the oldest run of each fold under `parent`."""
    mine = [run for run in held if run.data.tags.get(PARENT) == parent.info.run_id]
    return {int(run.data.tags["fold"]): run for run in reversed(mine)}


def _name(record: Record) -> str:
    return record.experiment or record.stage


def _create(store: Store, record: Record, fold: int | None = None, parent: Any = None) -> Any:
    tags = {
        "study": store.study,
        "experiment": _name(record),
        "group_key": record.group_key,
        "mlflow.user": os.environ.get("USER", ""),
        "mlflow.source.name": f"stages.{record.stage}",
    }
    title = _name(record) + (f" {record.stage}" if record.stage in OWN_RUN else "")
    if parent is not None:
        tags |= {"fold": str(fold), PARENT: parent.info.run_id}
        title += f" fold {fold}"
    run = store.client.create_run(store.experiment_id, tags=tags, run_name=title)
    store.client.set_terminated(run.info.run_id)
    return run


def _make_current(store: Store, parent: Any, parents: list[Any]) -> None:
    if SUPERSEDED in parent.data.tags:
        store.client.delete_tag(parent.info.run_id, SUPERSEDED)
    for other in parents:
        if other.info.run_id != parent.info.run_id and SUPERSEDED not in other.data.tags:
            write(store, other, tags={SUPERSEDED: parent.info.run_id})
