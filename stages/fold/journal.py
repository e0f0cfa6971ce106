"""What training leaves behind beside the weights: its history, snapshots and checkpoints."""

import shutil
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning.during import Course
from pruning.errors import PruningError
from pruning.facts import read_json, write_json
from pruning.folders import whole
from pruning.rewind import Snapshot, capture, restore
from pruning.tensors import read_tensors, write_tensors
from stages.files import write_table
from stages.fold import snapshots

COLUMNS = ("step", "epoch", "split", "loss", "accuracy", "learning_rate")

Row = tuple[int, int, str, float, float | None, float]


@dataclass
class Journal:
    """The history of one training run, its best validation accuracy, and snapshots by name."""

    history: list[Row] = field(default_factory=list)
    best_accuracy: float = -1.0
    best_step: int = 0
    kept: dict[str, Snapshot] = field(default_factory=dict)
    masks: Mapping[str, Tensor] = field(default_factory=dict)
    """The masks at the end."""

    @property
    def validation_accuracy(self) -> float:
        """Return the validation accuracy of the last epoch."""
        return float(self.history[-1][4] or 0.0)

    def write_history(self, folder: Path) -> None:
        """Write history.csv."""
        write_table(folder / "history.csv", COLUMNS, self.history)

    def write_snapshots(self, folder: Path) -> None:
        """Write every kept snapshot under its name."""
        folder.mkdir()
        for name, snapshot in self.kept.items():
            snapshots.write(snapshot, folder / f"{name}.safetensors")


class Keeper:
    """Keeps a journal while training goes on, and enough on disk to go on after a kill."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        folder: Path,
        minutes: float,
        keep_at: Mapping[str, int],
        history_in: Path | None = None,
    ) -> None:
        """Keep checkpoints in `folder` every so many `minutes`, snapshots at the given steps.

        The history so far is always in `history_in`, for those who watch.
        """
        self.history_in = history_in
        self.model, self.optimizer = model, optimizer
        self.folder, self.minutes, self.keep_at = folder, minutes, keep_at
        self.journal = Journal()
        self.last_good: Snapshot | None = None
        self.course: Course | None = None
        self.course_state: Mapping[str, Tensor] = {}
        self.written = time.monotonic()

    def begin(self, start: int) -> int:
        """Return the step to go on from: that of a killed stage's checkpoint, or `start`."""
        if (self.folder / "journal.json").is_file():
            return self._resume()
        self.last_good = capture(self.model, self.optimizer, start)
        self.keep_due(start)
        return start

    def keep_due(self, step: int) -> None:
        """Keep the snapshots that are due after `step` steps."""
        for name, at in self.keep_at.items():
            if at == step:
                self.journal.kept[name] = capture(self.model, self.optimizer, step)

    def close_epoch(
        self, step: int, epoch: int, train_loss: float, found: tuple[float, float], rate: float
    ) -> None:
        """Write an epoch's losses and validation accuracy down; checkpoint when it is time."""
        loss, accuracy = found
        self.journal.history.append((step, epoch, "train", train_loss, None, rate))
        self.journal.history.append((step, epoch, "validation", loss, accuracy, rate))
        if self.history_in:
            self.journal.write_history(self.history_in)
        self.last_good = capture(self.model, self.optimizer, step)
        self.course_state = self.course.state() if self.course else {}
        if accuracy > self.journal.best_accuracy:
            self.journal.best_accuracy, self.journal.best_step = accuracy, step
            self.journal.kept["best"] = self.last_good
        if time.monotonic() - self.written >= 60 * self.minutes:
            self.write_checkpoint()

    def write_checkpoint(self) -> None:
        """Put the last good state on disk, whole or not at all."""
        if self.last_good is None:
            return
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        with whole(self.folder) as partial:
            snapshots.write(self.last_good, partial / "last.safetensors")
            write_tensors(partial / "course.safetensors", self.course_state)
            self.journal.write_snapshots(partial / "kept")
            facts = {
                "history": self.journal.history,
                "best_accuracy": self.journal.best_accuracy,
                "best_step": self.journal.best_step,
            }
            write_json(partial / "journal.json", facts)
        self.written = time.monotonic()

    def finish(self, step: int) -> Journal:
        """Return the journal, its final state kept, and drop the checkpoint."""
        self.journal.kept["final"] = capture(self.model, self.optimizer, step)
        shutil.rmtree(self.folder, ignore_errors=True)
        with suppress(OSError):  # another fold's checkpoint is still there
            self.folder.parent.rmdir()
        return self.journal

    def _resume(self) -> int:
        try:
            return self._take_up()
        except PruningError as error:
            raise PruningError(f"{error}; delete {self.folder} to begin anew") from None

    def _take_up(self) -> int:
        path = self.folder / "journal.json"
        facts = read_json(path)
        kept = {
            found.stem: snapshots.read(found) for found in sorted((self.folder / "kept").iterdir())
        }
        try:
            history = [_row(*row) for row in facts["history"]]
            self.journal = Journal(history, facts["best_accuracy"], facts["best_step"], kept)
        except (KeyError, TypeError) as error:
            raise PruningError(f"{path}: no journal of training ({error!r})") from None
        self.last_good = snapshots.read(self.folder / "last.safetensors")
        self.course_state = read_tensors(self.folder / "course.safetensors")
        return restore(self.model, self.last_good, optimizer=self.optimizer)


def _row(
    step: int, epoch: int, split: str, loss: float, accuracy: float | None, rate: float
) -> Row:
    return step, epoch, split, loss, accuracy, rate
