"""Show a fold in MLflow while it trains, and tell a run that failed from one that was killed."""

import fcntl
import os
import socket
from collections.abc import Mapping, Sequence
from typing import IO, Any

from stages.tracking.records import Record, curves
from stages.tracking.runs import find, logged
from stages.tracking.store import Store
from stages.tracking.write import write

LIVE = "live"


class Training:
    """One fold's run while its stage works; a lock file that dies with the process says so."""

    def __init__(self, store: Store, record: Record, fold: int) -> None:
        """Mark the fold's run RUNNING."""
        places = find(store, record, folds=[fold])
        self.store, self.record, self.sent = store, record, 0
        self.parent, self.run = places.parent, places.runs[fold]
        # rows of a content that may differ from what is logged would mix with it
        self.silent = logged(self.run, record)
        self.lock = _take(store, self.run)
        if self.lock:
            tags = {LIVE: _owner(), "stage": record.place, f"key.{record.place}": record.key}
            write(store, self.run, tags=tags)
            if "error" in self.run.data.tags:
                store.client.delete_tag(self.run.info.run_id, "error")
            store.client.update_run(self.run.info.run_id, "RUNNING")

    def progress(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Log what is new in the fold's history: all its rows so far."""
        if not self.silent and len(history) > self.sent:
            points = curves(history[self.sent :], self.record.level)
            write(self.store, self.run, metrics=points)
            self.sent = len(history)

    def end(self, status: str, error: str = "") -> None:
        """Leave the run with this status and, if it failed, the reason as its tag `error`."""
        if error:
            write(self.store, self.run, tags={"error": error})
            self.store.client.set_terminated(self.parent.info.run_id, status)
        self.store.client.set_terminated(self.run.info.run_id, status)
        self.release()

    def release(self) -> None:
        """Give up the lock: the run is no longer this process's."""
        if self.lock:
            self.lock.close()
            self.lock = None


def bury(store: Store) -> None:
    """Mark KILLED every run that a process of this machine left RUNNING and is not there to end."""
    query = "attributes.status = 'RUNNING'"
    for run in store.client.search_runs([store.experiment_id], query):
        owner = run.data.tags.get(LIVE, "")
        if owner.split(":")[0] != socket.gethostname():
            continue
        if lock := _take(store, run):
            place = run.data.tags.get("stage", "")
            write(store, run, tags={f"killed.{place}": f"process {owner} ended without a word"})
            store.client.set_terminated(run.info.run_id, "KILLED")
            lock.close()


def _owner() -> str:
    return f"{socket.gethostname()}:{os.getpid()}"


def _take(store: Store, run: Any) -> IO[str] | None:
    """Return the run's lock, held from now on; None where another living process holds it."""
    file = (store.home / ".tracking" / f"live-{run.info.run_id}").open("w")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file
