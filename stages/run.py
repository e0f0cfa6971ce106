"""Run a study as `dvc repro` does, its stages side by side in workers that are warm."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from stages.command import application, one_line_errors

if TYPE_CHECKING:
    from stages.run_dvc import Ledger
    from stages.run_pool import Event, Forked, Task

Jobs = Annotated[
    int | None, typer.Option(min=1, help="Folds at work at once (default: the cores).")
]
Targets = Annotated[list[str] | None, typer.Argument(help="As for `dvc repro`; default: all.")]


def run(targets: Targets = None, jobs: Jobs = None) -> None:
    """Bring the study of this folder up to date on all cores; DVC then knows its results."""
    with one_line_errors():
        from stages.run_dvc import open_ledger
        from stages.run_pool import Forked

        with open_ledger(targets or []) as ledger:
            failed = Run(ledger, Forked(), jobs or os.cpu_count() or 1).go()
        if failed:
            print(f"error: {failed}", file=sys.stderr)
            raise SystemExit(2)


class Run:
    """One run of a study: which stages wait, which are at work, how they ended."""

    def __init__(self, ledger: "Ledger", workers: "Forked", jobs: int) -> None:
        """Let all stages of the ledger wait."""
        self.ledger, self.workers, self.jobs = ledger, workers, jobs
        self.waiting: list[Any] = sorted(ledger.plan, key=lambda stage: -ledger.height[stage])
        self.settled: set[Any] = set()
        self.running: dict[str, Any] = {}
        self.failed: list[str] = []
        self.began: dict[str, float] = {}

    def go(self) -> str:
        """Run all that can be run; return what went wrong in one line, or nothing."""
        try:
            self._start_ready()
            while self.running:
                for event in self.workers.events(timeout=1.0):
                    self._hear(event)
                self._start_ready()
        finally:
            self.workers.stop()
        return self._outcome()

    def _start_ready(self) -> None:
        """Start what needs nothing that is still to be made, the longest chain first."""
        while len(self.running) <= self.jobs and (stage := self._next()):
            self.waiting.remove(stage)
            if self.ledger.settle(stage):
                self.settled.add(stage)
            else:
                self.running[stage.addressing] = stage
                self.began[stage.addressing] = time.monotonic()
                self.workers.start(self._task(stage))

    def _next(self) -> Any:
        needs = self.ledger.needs
        return next((stage for stage in self.waiting if needs[stage] <= self.settled), None)

    def _task(self, stage: Any) -> "Task":
        from stages.run_pool import Task
        from stages.slots import VARIABLE, described

        slots = Path(self.ledger.repo.tmp_dir) / "slots"
        slots.touch()
        shared = {VARIABLE: described(slots, self.jobs), "DVC_STAGE": stage.addressing}
        return Task(stage.addressing, stage.cmd, Path(stage.wdir), shared)

    def _hear(self, event: "Event") -> None:
        from pruning.errors import PruningError

        if event.code is None:
            print(f"{event.name}: {event.line}", flush=True)
            return
        stage = self.running.pop(event.name)
        try:
            if event.code:
                raise PruningError(f"ended with exit code {event.code}")
            self.ledger.enter(stage)
        except Exception as error:  # DVC's too: the other stages go on
            self.failed.append(event.name)
            print(f"{event.name}: error: {error}", file=sys.stderr, flush=True)
            return
        self.settled.add(stage)
        seconds = time.monotonic() - self.began[event.name]
        print(f"{event.name}: done in {seconds:.1f} s, {self._left()}", flush=True)

    def _left(self) -> str:
        total = len(self.ledger.plan)
        return f"{len(self.settled)} of {total} stages up to date"

    def _outcome(self) -> str:
        if not self.failed:
            print(self._left())
            return ""
        left = f"; {len(self.waiting)} that need them were not run" if self.waiting else ""
        return f"failed: {', '.join(self.failed)}{left}"


app = application(run)

if __name__ == "__main__":
    app()
