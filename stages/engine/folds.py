"""Run one stage for all its folds into one output folder, seen in MLflow."""

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from pruning.errors import PruningError
from stages import tracking
from stages.engine import leftovers, parallel
from stages.engine.workers import Report, each_fold
from stages.files import Manifest, output
from stages.params import Params
from stages.tracking import records

FoldTask = Callable[[Path, Path, int, Report], None]
"""(folder to fill, folder to resume from, fold, report): the work of one fold."""


def run(
    task: FoldTask,
    params: Params,
    manifest: Manifest,
    folder: Path,
    *,
    only: int | None,
    training: bool = False,
    finish: Callable[[Path], None] = lambda unfinished: None,  # noqa: ARG005
) -> None:
    """Fill `folder` with one sub-folder a fold and put it in place once all are there.

    `finish` adds to the folder what is made of all folds.

    Opening MLflow takes seconds. A stage that is `training` opens it while its workers are busy
    and logs what came before it as well, so a short stage under DVC leaves that to the next long
    one; run by hand it logs its folder at the end.

    A fold that took longer than `checkpoint_minutes` is kept until the whole stage is done, so that
    a stage that is killed, or fails in another fold, does not compute it again.
    """
    if training and (number := parallel.to_launch()):
        parallel.launch(manifest.stage, number)
    folds = _chosen(manifest, only)
    facts, resume = manifest.facts(), leftovers.folder_of(manifest)
    trackers: list[tracking.Tracker] = []
    lives: dict[int, tracking.Live] = {}

    def open_tracker() -> None:
        tracker = stack.enter_context(tracking.open(study=params.study, enabled=params.tracking))
        lives.update({fold: tracker.live(folder, facts, fold) for fold in folds if training})
        trackers.append(tracker)

    with ExitStack() as stack:
        stack.enter_context(parallel.together(params.training.device))
        with parallel.writing(output(folder, manifest, only)) as unfinished:
            each_fold(
                partial(_one, task, unfinished, resume, 60 * params.checkpoint_minutes),
                folds,
                label=f"{manifest.stage} {manifest.experiment} round {manifest.round}",
                device=params.training.device,
                meanwhile=open_tracker if training and parallel.rank() == 0 else None,
                watch=lambda: _show_progress(lives, unfinished),
            )
            finish(unfinished)
        parallel.meet()  # another rank may still be looking at what rank 0 drops
        if parallel.rank() == 0:
            leftovers.forget(resume, folds)
        if not training and "DVC_STAGE" not in os.environ:
            open_tracker()
        for tracker in trackers:
            tracker.log(folder)


def _show_progress(lives: Mapping[int, tracking.Live], unfinished: Path) -> None:
    for fold, live in lives.items():
        live.progress(records.rows(unfinished / f"fold-{fold}" / "history.csv"))


def _one(
    task: FoldTask, unfinished: Path, resume: Path, seconds: float, fold: int, report: Report
) -> None:
    folder, began = unfinished / f"fold-{fold}", time.monotonic()
    if leftovers.take_up(resume, folder):
        report(1, 1)
        return
    folder.mkdir()
    try:
        with parallel.resuming(resume / folder.name) as checkpoints:
            task(folder, checkpoints, fold, report)
    except PruningError as error:
        raise PruningError(f"fold {fold}: {error}") from None
    if parallel.rank() == 0 and time.monotonic() - began >= seconds:
        leftovers.keep(resume, folder)


def _chosen(manifest: Manifest, only: int | None) -> list[int]:
    if only is None:
        return list(manifest.folds)
    if only not in manifest.folds:
        raise PruningError(f"unknown fold {only}; choose from 0 to {len(manifest.folds) - 1}")
    return [only]
