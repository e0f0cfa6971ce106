"""What DVC knows of a study: which stages there are, which are up to date, what they made."""

import json
import logging
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from pruning.errors import PruningError


class Ledger:
    """DVC's stages in the order in which `dvc repro` runs them, and what is to be written down.

    A stage that is done is at once in DVC's cache and run cache, where a killed run finds it again;
    dvc.lock, which DVC rewrites whole, is written once at the end, in the order of `dvc repro`.
    """

    def __init__(self, repo: Any, targets: Sequence[str]) -> None:
        """Collect the targets and all that they depend on."""
        from dvc.repo.reproduce import get_active_graph

        graph = get_active_graph(repo.index.graph)
        self.repo = repo
        self.plan = _plan(graph, _chosen(repo, targets))
        planned = set(self.plan)
        self.needs = {stage: set(graph.successors(stage)) & planned for stage in self.plan}
        self.height = _heights(self.plan, self.needs)
        self.done: set[Any] = set()
        self.sources = self._sources()

    def settle(self, stage: Any) -> bool:
        """Tell whether nothing is left to run: the stage is up to date, or restored from cache."""
        from dvc.stage.cache import RunCacheNotFoundError

        if not stage.cmd or stage.frozen:
            if stage.reproduce():
                self.done.add(stage)
            return True
        if not stage.changed():
            return True
        stage.remove_outs()
        try:
            self.repo.stage_cache.restore(stage)
        except RunCacheNotFoundError:
            stage.save_deps()
            return False
        self.enter(stage)
        return True

    def enter(self, stage: Any) -> None:
        """Put what a stage has made into DVC's cache, unless what it was made from has changed."""
        before = [dep.hash_info for dep in stage.deps]
        stage.save(run_cache=False)
        for dep, known in zip(stage.deps, before, strict=True):
            self._check(dep, known)
        if all(out.use_cache or out.is_metric or out.is_plot for out in stage.outs):
            self.repo.stage_cache.save(stage)
        stage.commit()
        self.done.add(stage)

    def write(self) -> None:
        """Write dvc.lock, whole or not at all."""
        from dvc.dvcfile import Lockfile

        done = [stage for stage in self.plan if stage in self.done]
        for file, stages in groupby(done, key=lambda stage: stage.dvcfile):
            lock = Path(file.path).with_suffix(".lock")
            partial = Path(self.repo.tmp_dir) / lock.name
            if lock.exists():
                shutil.copy(lock, partial)
            Lockfile(self.repo, str(partial)).dump_stages(list(stages))
            partial.replace(lock)
        self.done.clear()

    def _sources(self) -> dict[str, Any]:
        """Return the hash of each file that no stage makes: the workers hold the code of now."""
        made = [out for stage in self.plan for out in stage.outs]
        found: dict[str, Any] = {}
        for dep in (dep for stage in self.plan for dep in stage.deps):
            if dep.fs_path in found or dep.hash_name == "params":
                continue
            is_made = any(_overlap(out, dep) for out in made)
            found[dep.fs_path] = None if is_made or not dep.exists else dep.get_hash()
        return {path: value for path, value in found.items() if value is not None}

    def _check(self, dep: Any, before: Any) -> None:
        if not before == dep.hash_info == self.sources.get(dep.fs_path, before):
            raise PruningError(f"{dep} changed meanwhile; nothing of it is kept, run again")


def _chosen(repo: Any, targets: Sequence[str]) -> list[Any]:
    """Return the stages that are asked for: all of this folder, or those of the targets."""
    from dvc.repo.reproduce import collect_stages

    if targets:
        return collect_stages(repo, targets)
    here = Path.cwd() / "dvc.yaml"
    found = [stage for stage in repo.index.stages if Path(stage.path) == here]
    if not found:
        raise PruningError(f"{here}: no stages here; run this in the folder of a study")
    return found


def _plan(graph: Any, chosen: Sequence[Any]) -> list[Any]:
    """Return the chosen stages and all they need, in the order of `dvc repro`.

    Where a study is a small part of its repository, DVC's own order differs from run to run.
    """
    import networkx as nx

    wanted = set(chosen).union(*(nx.descendants(graph, stage) for stage in chosen))
    part = nx.DiGraph()
    part.add_nodes_from(stage for stage in graph if stage in wanted)
    part.add_edges_from(edge for edge in graph.edges if wanted.issuperset(edge))
    return list(nx.dfs_postorder_nodes(part))


def _overlap(out: Any, dep: Any) -> bool:
    """Tell whether a stage's output is what another depends on, or a part of it, or holds it."""
    one, other = out.fs_path, dep.fs_path
    return bool(dep.fs.isin_or_eq(one, other) or dep.fs.isin_or_eq(other, one))


def _heights(plan: Sequence[Any], needs: dict[Any, set[Any]]) -> dict[Any, int]:
    """Return how many stages follow one another from each on: the longest chain goes first."""
    height = dict.fromkeys(plan, 0)
    for stage in reversed(plan):  # what needs a stage stands behind it
        for need in needs[stage]:
            height[need] = max(height[need], height[stage] + 1)
    return height


@contextmanager
def open_ledger(targets: Sequence[str]) -> Iterator[Ledger]:
    """Open the study of this folder for writing; other DVC commands in it have to wait.

    Whatever ends the context, what is done by then is in dvc.lock. DVC's errors are PruningErrors.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    logging.getLogger("dvc").setLevel(logging.ERROR)
    try:
        with Repo() as repo, repo.lock:
            _keep_to_itself(repo)
            ledger = Ledger(repo, targets)
            try:
                yield ledger
            finally:
                ledger.write()
    except DvcException as error:
        raise PruningError(str(error)) from error


def _keep_to_itself(repo: Any) -> None:
    """Give this run a folder of its own for what DVC notes of the paths in use.

    DVC writes that file many times a stage, in place: a kill meanwhile would leave one that DVC
    cannot read. Nobody else needs it, as the whole run holds DVC's lock.
    """
    notes = Path(repo.tmp_dir) / "rwlock"
    if notes.is_file():
        _refuse_others(notes)
    own = Path(repo.tmp_dir) / "run"
    shutil.rmtree(own, ignore_errors=True)
    own.mkdir()
    repo.tmp_dir = str(own)


def _refuse_others(notes: Path) -> None:
    """Refuse to run beside a `dvc repro`, which gives DVC's lock away while a stage runs."""
    import psutil

    try:
        found = json.loads(notes.read_text())
    except ValueError:  # half-written by a DVC that was killed: it is written under the lock only
        notes.unlink()
        return
    readers = (info for infos in found.get("read", {}).values() for info in infos)
    for info in [*found.get("write", {}).values(), *readers]:
        if psutil.pid_exists(info["pid"]):
            raise PruningError(
                f"process {info['pid']} ({info['cmd']}) is at work here; wait for it"
            )
