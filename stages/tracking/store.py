"""Open MLflow's store, embedded in the study's folder or served."""

import fcntl
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from pruning.errors import PruningError

DATABASE = "mlflow.db"
PATIENCE = 120  # seconds to wait for other processes; making a store takes some

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
    return (named, False) if named else (f"sqlite:///{home / DATABASE}", True)


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
        if embedded:
            _check_database(home / DATABASE)
        store = Store(MlflowClient(uri, registry_uri=uri), uri, home, embedded)
        _experiment(store, study)
    return store


@contextmanager
def lock(home: Path) -> Iterator[None]:
    """Hold the study's lock: opening the store, and finding or making a run, are one step each.

    Raises TimeoutError where another process, stopped or hanging, keeps it for too long.
    """
    folder = home / ".tracking"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("w") as file:
        _wait(file)
        yield


def experiment_id(store: Store, study: str) -> str:
    """Return the id of the study's MLflow experiment, made where missing."""
    if study not in store.experiments:
        with lock(store.home):
            _experiment(store, study)
    return store.experiments[study]


def _check_database(path: Path) -> None:
    """Raise at once where `path` cannot be a database: MLflow would try for two minutes."""
    if set("%?") & set(str(path)):  # MLflow reads these as its address's own
        raise PruningError("its address cannot hold % or ?; rename the folder")
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("pragma schema_version")


def _wait(file: IO[str]) -> None:
    end = time.monotonic() + PATIENCE
    while True:
        try:
            return fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() > end:
                raise TimeoutError(f"another process keeps {file.name} locked") from None
            time.sleep(0.02)


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
