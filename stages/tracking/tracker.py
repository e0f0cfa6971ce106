"""MLflow as a view of the output folders: whatever becomes of it, the stage goes on."""

import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from pruning.errors import PruningError
from stages.environment import TRACKING, is_off
from stages.tracking import log, records
from stages.tracking.live import Training, bury
from stages.tracking.store import Store, address, connect, public

if TYPE_CHECKING:
    from torch import Tensor, nn

T = TypeVar("T")

LATER = "results are in files; `python -m stages.sync` will log them later"


class TrackingError(PruningError):
    """MLflow cannot be reached or refuses, told in one line."""


class Live:
    """A fold in training, seen in MLflow; says nothing where tracking is off."""

    def __init__(self, tracker: "Tracker", training: Training | None) -> None:
        """Wrap the run of a fold; None where there is no MLflow to show it in."""
        self.tracker, self.training = tracker, training

    def progress(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Log what is new; `history` is all rows of the fold's history.csv so far."""
        if training := self.training:
            self.tracker._try(lambda _: training.progress(history), None)

    def failed(self, message: str) -> None:
        """Mark the run FAILED with `message` as its tag `error`."""
        self.end("FAILED", message)

    def end(self, status: str, error: str = "") -> None:
        """Leave the run with this status; once."""
        if training := self.training:
            self.training = None
            self.tracker._try(lambda _: training.end(status, error), None)
            training.release()


class Tracker:
    """What stages log through; after the first failure of MLflow it warns once and is silent.

    As a context it ends the runs shown live: FAILED with the error that left the context, KILLED
    where the process was told to stop or the fold was never logged.
    """

    def __init__(self, store: Store | None, *, strict: bool = False) -> None:
        """Log to `store`, or nowhere if None; a strict tracker raises a TrackingError instead."""
        self.store, self.strict, self.lives = store, strict, list[Live]()

    def log(self, folder: Path, *, restored: bool = False) -> bool:
        """Log an output folder unless MLflow holds it already; tell whether anything was logged.

        What it was made from and MLflow lacks is logged as well, unless the folder is `restored`:
        then all folders are being gone through.
        """

        def work(store: Store) -> bool:
            return log.log_folder(store, folder, restored=restored, sources=not restored)

        done = self._try(work, False)
        for live in self.lives:
            if live.training and live.training.record.folder.resolve() == folder.resolve():
                live.end("FINISHED")
        return done

    def live(self, folder: Path, manifest: Mapping[str, Any], fold: int) -> Live:
        """Show the fold in training that `folder` will hold, from the manifest it will have."""

        def start(store: Store) -> Training:
            return Training(store, records.from_manifest(folder, manifest), fold)

        self.lives.append(Live(self, self._try(start, None)))
        return self.lives[-1]

    def log_model(
        self, fold_folder: Path, build: "Callable[[], tuple[nn.Module, Tensor]]"
    ) -> str | None:
        """Log the network of a fold as its experiment's MLflow model, once; return the model's id.

        `build` gives (model, example batch) and is called only if it is not there yet.
        """
        return self._try(lambda store: log.log_model(store, fold_folder, build), None)

    def __enter__(self) -> "Tracker":
        """Return the tracker itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what is still shown as running."""
        for live in self.lives:
            if isinstance(error, Exception):
                live.failed(str(error) or kind.__name__ if kind else "")
            else:
                live.end("KILLED")

    def _try(self, work: Callable[[Store], T], otherwise: T) -> T:
        if self.store is None:
            return otherwise
        try:
            return work(self.store)
        except PruningError as error:  # the folder's fault, not MLflow's
            if self.strict:
                raise
            _warn(f"not logged: {error}")
        except Exception as error:
            message = _told(error, self.store.uri)
            if self.strict:
                raise TrackingError(message) from error
            _warn(f"{message}; {LATER}")
            self.store = None  # one wait for a dead server is enough
        return otherwise


def open(
    *,
    study: str = "pruning",
    enabled: bool = True,
    folder: Path | None = None,
    strict: bool = False,
) -> Tracker:
    """Open MLflow's store for the study in `folder` (the current one); takes seconds, never raises.

    Without MLflow, or with `enabled` false or PRUNING_TRACKING=off in the environment, the tracker
    does nothing. A strict one raises a TrackingError and is patient: for `stages.sync`.
    """
    if not enabled or is_off(TRACKING):
        return Tracker(None)
    home = Path(folder or ".").resolve()
    timeout, retries = (60, 3) if strict else (10, 1)
    try:
        store = connect(home, study, timeout=timeout, retries=retries)
        bury(store)
        return Tracker(store, strict=strict)
    except Exception as error:
        message = _told(error, address(home)[0])
        if strict:
            raise TrackingError(message) from error
        _warn(f"{message}; {LATER}")
    return Tracker(None)


def _told(error: Exception, uri: str) -> str:
    """Return one line: where MLflow is and what is wrong; no password that the address may hold."""
    if isinstance(error, ImportError):
        return f"MLflow is not installed ({error})"
    place, reason = public(uri), str(error).replace(uri, public(uri)) or type(error).__name__
    absent = "API request to" in reason
    told = f"{place} does not answer" if absent else f"{place} failed: {reason[:300]}"
    return " ".join(f"MLflow at {told}".split())


def _warn(message: str) -> None:
    print(f"warning: {message}", file=sys.stderr, flush=True)
