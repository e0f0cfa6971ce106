"""The stages of `stages.run` as Ray tasks, here or on a cluster whose machines share a folder."""

import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pruning.errors import PruningError
from stages.engine.pool import Event, Forked, Task

FORWARDED = ("MLFLOW_", "PRUNING_", "OMP_")
"""What the variables begin with that reach the stages on other machines."""

RETRIES = 2
"""How often a stage is tried again elsewhere when its machine is lost; outputs are whole or not."""


@dataclass(frozen=True)
class Share:
    """What one stage takes of a machine."""

    folds: int
    tracking: bool


class OnRay:
    """Runs tasks on Ray, with as many cores for a stage as it has folds, where a machine has them.

    Every machine sees the study's folder under the same path and can import this package.
    """

    def __init__(self, address: str | None, jobs: int, *, folds: int, tracking: bool) -> None:
        """Join the cluster at `address`, or start Ray here with `jobs` cores for this run."""
        try:
            import ray
        except ImportError:
            raise PruningError(
                "the engine ray is not installed; run `pip install 'pruning[ray]'`"
            ) from None
        self.ray = ray
        _join(ray, address, jobs)
        largest = max(int(node["Resources"].get("CPU", 0)) for node in ray.nodes() if node["Alive"])
        self.stages = int(ray.cluster_resources().get("CPU", 1))
        self.share = Share(max(1, min(folds, largest)), tracking)
        self.tasks: dict[Any, str] = {}

    def start(self, task: Task) -> None:
        """Queue a stage."""
        found = {k: v for k, v in os.environ.items() if k.startswith(FORWARDED)}
        remote = self.ray.remote(num_cpus=self.share.folds, max_retries=RETRIES)(on_worker)
        task = replace(task, environment={**found, **task.environment})
        reference = remote.remote(task, self.share)
        self.tasks[reference] = task.name

    def events(self, timeout: float) -> Iterator[Event]:
        """Yield what the stages that have ended within `timeout` seconds said, and their codes."""
        done, _ = self.ray.wait(list(self.tasks), num_returns=1, timeout=timeout)
        for reference in done:
            name = self.tasks.pop(reference)
            try:
                lines, code = self.ray.get(reference)
            except self.ray.exceptions.RayError as error:
                lines, code = [" ".join(str(error).split())[:500]], 1
            yield from (Event(name, line) for line in lines)
            yield Event(name, code=code)

    def stop(self) -> None:
        """Kill what is at work, and leave the cluster."""
        for reference in self.tasks:
            self.ray.cancel(reference, force=True)
        self.tasks.clear()
        self.ray.shutdown()


def on_worker(task: Task, share: Share) -> tuple[list[str], int]:
    """Run a stage from a Ray worker and return its lines and its exit code.

    The stage gets a process of its own, forked from one that lives as long as the worker and has
    imported everything.
    """
    sys.modules["__main__"].__file__ = None  # Ray's own program, which the stage need not import
    lines: list[str] = []
    with tempfile.NamedTemporaryFile() as slots:
        workers = Forked(share.folds, Path(slots.name), tracking=share.tracking)
        workers.start(task)
        while True:
            for event in workers.events(timeout=60.0):
                if event.code is not None:
                    return lines, event.code
                lines.append(event.line)


def _join(ray: Any, address: str | None, jobs: int) -> None:
    root = Path(__file__).resolve().parents[2]
    variables: Mapping[str, str] = {"PYTHONPATH": _first(root, os.environ.get("PYTHONPATH", ""))}
    try:
        ray.init(
            address=address or "local",
            num_cpus=None if address else jobs,
            runtime_env={"env_vars": variables},
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
        )
    except (ConnectionError, ValueError, RuntimeError) as error:
        raise PruningError(f"Ray at {address or 'this machine'}: {error}") from None


def _first(root: Path, others: str) -> str:
    return os.pathsep.join([str(root), *([others] if others else [])])
