"""Open MLflow's store, embedded in the study's folder or served, and write to it what it takes."""

import fcntl
import json
import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from stages.records import Point

# MLflow's own limits
METRICS, ENTITIES, VALUE, TAG = 1000, 100, 6000, 5000

ENVIRONMENT = {
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_LOGGING_LEVEL": "WARNING",
}


@dataclass(frozen=True)
class Store:
    """An open store: its client, the study's folder, and the MLflow experiments met so far."""

    client: Any
    uri: str
    home: Path
    embedded: bool
    experiments: dict[str, str] = field(default_factory=dict)


def address(home: Path) -> tuple[str, bool]:
    """Return the tracking URI and whether it is the store embedded in the study's folder."""
    named = os.environ.get("MLFLOW_TRACKING_URI")
    return (named, False) if named else (f"sqlite:///{home / 'mlflow.db'}", True)


def public(uri: str) -> str:
    """Return `uri` without the user and password that it may carry."""
    return re.sub(r"//[^/@]*@", "//", uri)


def connect(home: Path, study: str, *, timeout: int, retries: int) -> Store:
    """Open the store and the study in it; processes that do so at once wait for each other."""
    limits = {
        "MLFLOW_HTTP_REQUEST_TIMEOUT": str(timeout),
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": str(retries),
    }
    for name, value in (ENVIRONMENT | limits).items():
        os.environ.setdefault(name, value)
    # each retry would be a line of its own beside our one
    logging.getLogger("urllib3").setLevel(logging.ERROR)
    from mlflow import MlflowClient

    uri, embedded = address(home)
    with lock(home):  # racing to create the tables breaks them
        store = Store(MlflowClient(uri, registry_uri=uri), uri, home, embedded)
        _experiment(store, study)
    return store


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the study's lock: opening the store, and finding or making a run, are one step each."""
    folder = home / ".tracking"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's MLflow experiment, made where missing."""
    if study not in store.experiments:
        with lock(store.home):
            _experiment(store, study)
    return store.experiments[study]


def write(
    store: Store,
    run: Any,
    *,
    metrics: Sequence[Point] = (),
    params: Mapping[str, str] | None = None,
    tags: Mapping[str, str] | None = None,
) -> None:
    """Log in as few requests as MLflow's limits allow.

    A metric's time is the run's start plus its step, not the clock's: MLflow then knows a value
    that it was already given, so that logging again after an interruption adds nothing twice.
    """
    from mlflow.entities import Metric, Param, RunTag

    run_id, start = run.info.run_id, run.info.start_time
    for part in _parts(list(metrics), METRICS):
        values = [Metric(name(key), value, start + step, step) for key, value, step in part]
        store.client.log_batch(run_id, metrics=values)
    for part in _parts(list((params or {}).items()), ENTITIES):
        store.client.log_batch(run_id, params=[Param(k, v) for k, v in part])
    for part in _parts(list((tags or {}).items()), ENTITIES):
        store.client.log_batch(run_id, tags=[RunTag(k, v[:TAG]) for k, v in part])


def write_params(store: Store, run: Any, params: Mapping[str, str], place: str) -> None:
    """Log the params that are new; one that is there with another value goes under its round too.

    MLflow's params never change: what differs from round to round becomes `place.key`, and should
    even that be taken, a tag.
    """
    with lock(store.home):
        known = store.client.get_run(run.info.run_id).data.params
        new, tags = _sorted_out(params, known, place)
        write(store, run, params=new, tags=tags)


def write_file(store: Store, run: Any, path: Path, inside: str) -> None:
    """Log one file as an artifact in the folder `inside`."""
    store.client.log_artifact(run.info.run_id, str(path), inside)


def write_tables(store: Store, run: Any, tables: Mapping[str, list[dict[str, str]]]) -> None:
    """Log tables (path -> rows) so that MLflow shows and `load_table` reads them, once each."""
    if not tables:
        return
    run_id, tag = run.info.run_id, "mlflow.loggedArtifacts"
    for path, rows in tables.items():
        columns = list(rows[0]) if rows else []
        data = [[_cell(row[column]) for column in columns] for row in rows]
        store.client.log_dict(run_id, {"columns": columns, "data": data}, path)
    with lock(store.home):
        listed = json.loads(store.client.get_run(run_id).data.tags.get(tag, "[]"))
        entries = [{"path": path, "type": "table"} for path in tables]
        listed += [entry for entry in entries if entry not in listed]
        store.client.set_tag(run_id, tag, json.dumps(listed))


def name(text: str) -> str:
    """Return `text` as a name that MLflow accepts for a metric, param or tag."""
    return re.sub(r"[^\w\-. :/]", "_", text, flags=re.ASCII)[:250]


def _experiment(store: Store, study: str) -> None:
    from mlflow.exceptions import MlflowException

    found = store.client.get_experiment_by_name(study)
    if found is None:
        location = (store.home / "mlartifacts").as_uri() if store.embedded else None
        try:
            store.experiments[study] = store.client.create_experiment(study, location)
            return
        except MlflowException:  # another machine may have been quicker
            found = store.client.get_experiment_by_name(study)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise PruningError(f"the experiment {study!r} was deleted there; restore it or rename it")
    store.experiments[study] = found.experiment_id


def _sorted_out(
    params: Mapping[str, str], known: Mapping[str, str], place: str
) -> tuple[dict[str, str], dict[str, str]]:
    """Return (params to log, tags to set): a key that is taken gives way to one of its round."""
    new: dict[str, str] = {}
    tags: dict[str, str] = {}
    for key, value in params.items():
        key, value = name(key), value if len(value) <= VALUE else value[: VALUE - 3] + "..."
        own = name(place + key.removeprefix(place.split(".")[0]))
        free = next((each for each in (key, own) if known.get(each, value) == value), None)
        if free is None:
            tags[own] = value
        elif free not in known:
            new[free] = value
    return new, tags


def _cell(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _parts(items: list[Any], size: int) -> Iterable[list[Any]]:
    return (items[start : start + size] for start in range(0, len(items), size))
