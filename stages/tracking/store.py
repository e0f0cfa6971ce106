"""Open MLflow's store, embedded in the study's folder or served."""

import fcntl
import logging
import os
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
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
    """An open store: its client, the study's folder, and the study with its MLflow experiment."""

    client: Any
    uri: str
    home: Path
    study: str
    experiment_id: str


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
        client = MlflowClient(uri, registry_uri=uri)
        location = (home / "mlartifacts").as_uri() if embedded else None
        return Store(client, uri, home, study, _experiment(client, study, location))


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


def _experiment(client: Any, study: str, location: str | None) -> str:
    """Return the id of the study's MLflow experiment, made where missing."""
    from mlflow.exceptions import MlflowException

    found = client.get_experiment_by_name(study)
    if found is None:
        try:
            return str(client.create_experiment(study, location))
        except MlflowException:  # another machine may have been quicker
            found = client.get_experiment_by_name(study)
            if found is None:
                raise
    if found.lifecycle_stage != "active":
        raise PruningError(f"the experiment {study!r} was deleted there; restore it or rename it")
    return str(found.experiment_id)
