"""A stage at work: its own command in a process forked from one that has imported everything."""

import os
import signal
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Protocol

from stages.engine.calls import run
from stages.engine.orphans import die_with_parent
from stages.engine.slots import VARIABLE, described

PATIENCE = 5.0
"""Seconds that a stage has to end by itself when it is interrupted."""


@dataclass(frozen=True)
class Task:
    """A stage's command, as DVC would run it."""

    name: str
    command: str
    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)


@dataclass
class Job:
    """A stage at work, and what it has said that is not yet a whole line."""

    task: Task
    process: BaseProcess
    output: Connection
    rest: bytes = b""
    began: float = field(default_factory=time.monotonic)


@dataclass(frozen=True)
class Event:
    """A line that a stage says, or its end with an exit code."""

    name: str
    line: str = ""
    code: int | None = None


class Workers(Protocol):
    """An engine that runs the commands of stages."""

    stages: int
    """How many it wants to have at once, waiting ones included."""

    def start(self, task: Task) -> None:
        """Let a stage run as soon as there is room."""

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield what the stages say and which of them end, within so many seconds."""

    def stop(self) -> None:
        """End all that is at work."""


class Forked:
    """Runs tasks on this machine, `jobs` folds at once; every process dies with this one."""

    def __init__(self, jobs: int, slots: Path, *, tracking: bool) -> None:
        """Start nothing yet: importing takes seconds, MLflow too where there is `tracking`.

        The file `slots` is where the folds share the cores.
        """
        self.stages = jobs + 1  # one more, so that no core waits for a stage to begin or end
        slots.touch()
        self.shared = {VARIABLE: described(slots.resolve(), jobs)}
        self.context: ForkServerContext = get_context("forkserver")
        late = ["stages.engine.preload_store"] if tracking else []
        self.context.set_forkserver_preload(["stages.engine.preload", *late])
        self.jobs: list[Job] = []

    def start(self, task: Task) -> None:
        """Start a stage's process."""
        task = replace(task, environment={**task.environment, **self.shared})
        output, theirs = self.context.Pipe(duplex=False)
        process = self.context.Process(target=work, args=(task, theirs), name=task.name)
        process.start()
        theirs.close()
        self.jobs.append(Job(task, process, output))

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield what the stages say within `timeout` seconds, and which of them end."""
        ready = wait([job.output for job in self.jobs], timeout)
        for job in [job for job in self.jobs if job.output in ready]:
            said = os.read(job.output.fileno(), 65536)
            *lines, job.rest = (job.rest + said).split(b"\n")
            if not said:  # nobody of the stage is left who could write
                lines, job.rest = [job.rest] if job.rest else [], b""
            yield from (Event(job.task.name, line.decode(errors="replace")) for line in lines)
            if not said:
                yield self._ended(job)

    def stop(self) -> None:
        """Interrupt what is at work, and kill what does not end of itself."""
        for job in self.jobs:
            if job.process.pid and job.process.is_alive():
                os.kill(job.process.pid, signal.SIGINT)
        end = time.monotonic() + PATIENCE
        for job in self.jobs:
            job.process.join(max(0.0, end - time.monotonic()))
            job.process.kill()
            job.process.join()
        self.jobs.clear()

    def _ended(self, job: Job) -> Event:
        job.process.join()
        job.output.close()
        self.jobs.remove(job)
        return Event(job.task.name, code=job.process.exitcode)


def work(task: Task, output: Connection) -> None:
    """Run a task in this process, which is new: folder, environment and output are its own."""
    die_with_parent()
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    output.close()
    os.chdir(task.folder)
    os.environ.update(task.environment)
    raise SystemExit(run(task.command))
