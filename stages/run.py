"""Run a study as `dvc repro` does, its stages side by side in workers that are warm."""

import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TextIO

import typer

from pruning.errors import PruningError, unknown
from stages.command import PARAMS, application, one_line_errors

if TYPE_CHECKING:
    from stages.engine.ledger import Ledger
    from stages.engine.pool import Event, Task, Workers
    from stages.params import Params

ENGINES = ("forked", "ray")

Jobs = Annotated[
    int | None,
    typer.Option(min=1, help="Folds at work at once (default: the cores; on an accelerator 1)."),
]
Engine = Annotated[str, typer.Option(help="forked (this machine's cores) or ray (a cluster too).")]
Address = Annotated[str | None, typer.Option(help="Of a Ray cluster (default: start Ray here).")]
Targets = Annotated[list[str] | None, typer.Argument(help="As for `dvc repro`; default: all.")]


def run(
    targets: Targets = None,
    jobs: Jobs = None,
    engine: Engine = "forked",
    address: Address = None,
) -> None:
    """Bring the study of this folder up to date on all cores; DVC then knows its results."""
    with one_line_errors():
        from stages.engine.ledger import open_ledger
        from stages.params import read

        study = read(PARAMS)
        with open_ledger(targets or []) as ledger:
            slots = Path(ledger.repo.tmp_dir) / "slots"
            cores = os.cpu_count() or 1
            # How many networks an accelerator has room for is not known here.
            jobs = jobs or (cores if study.training.device == "cpu" else 1)
            workers = engine_of(study, engine, address, jobs, slots)
            failed = Run(ledger, workers).go()
        if failed:
            print(f"error: {failed}", file=sys.stderr)
            raise SystemExit(2)


def engine_of(study: "Params", name: str, address: str | None, jobs: int, slots: Path) -> "Workers":
    """Return what runs the stages."""
    if name not in ENGINES:
        raise unknown("engine", name, ENGINES)
    if name == "forked":
        from stages.engine.pool import Forked

        return Forked(jobs, slots, tracking=study.tracking)
    from stages.engine.ray_workers import OnRay

    folds = study.cross_validation.replicates
    return OnRay(address, jobs, folds=folds, tracking=study.tracking)


class Run:
    """One run of a study: which stages wait, which are at work, how they ended."""

    def __init__(self, ledger: "Ledger", workers: "Workers") -> None:
        """Let all stages of the ledger wait."""
        from tqdm import tqdm

        self.ledger, self.workers = ledger, workers
        self.waiting: list[Any] = sorted(ledger.plan, key=lambda stage: -ledger.height[stage])
        self.settled: set[Any] = set()
        self.running: dict[str, Any] = {}
        self.failed: list[str] = []
        self.began: dict[str, float] = {}
        # rate and time left where there is a terminal
        self.bar: Any = tqdm(total=len(ledger.plan), unit="stage", disable=None, dynamic_ncols=True)

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
            self.bar.close()
        return self._outcome()

    def _start_ready(self) -> None:
        """Start what needs nothing that is still to be made, the longest chain first."""
        while len(self.running) < self.workers.stages and (stage := self._next()):
            self.waiting.remove(stage)
            try:
                if self.ledger.settle(stage):
                    self._up_to_date(stage)
                    continue
            except Exception as error:  # DVC's: a dependency that is not there
                self._fail(stage.addressing, error)
                continue
            self.running[stage.addressing] = stage
            self.began[stage.addressing] = time.monotonic()
            self.workers.start(self._task(stage))

    def _next(self) -> Any:
        needs = self.ledger.needs
        return next((stage for stage in self.waiting if needs[stage] <= self.settled), None)

    def _task(self, stage: Any) -> "Task":
        from stages.engine.pool import Task

        command = stage.cmd if isinstance(stage.cmd, str) else " && ".join(stage.cmd)
        named = {"DVC_STAGE": stage.addressing}
        return Task(stage.addressing, command, Path(stage.wdir), named)

    def _hear(self, event: "Event") -> None:
        if event.code is None:
            self._say(f"{event.name}: {event.line}")
            return
        stage = self.running.pop(event.name)
        try:
            if event.code:
                raise PruningError(f"ended with exit code {event.code}")
            self.ledger.enter(stage)
        except Exception as error:  # DVC's too: the other stages go on
            self._fail(event.name, error)
            return
        self._up_to_date(stage)
        seconds = time.monotonic() - self.began[event.name]
        self._say(f"{event.name}: done in {seconds:.1f} s, {self._left()}")

    def _fail(self, name: str, error: Exception) -> None:
        self.failed.append(name)
        self._say(f"{name}: error: {' '.join(str(error).split())}", sys.stderr)

    def _up_to_date(self, stage: Any) -> None:
        self.settled.add(stage)
        self.bar.update()

    def _say(self, line: str, stream: TextIO = sys.stdout) -> None:
        self.bar.write(line, file=stream)  # above the bar
        stream.flush()

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
