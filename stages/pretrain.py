"""Train the dense network of every fold and keep the snapshots that others rewind to."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command import PARAMS, Fold, ParamsFile, application, torch_stage

if TYPE_CHECKING:
    from collections.abc import Callable

    from stages.engine.workers import Report
    from stages.params import Params


def pretrain(fold: Fold = None, params: ParamsFile = PARAMS) -> None:
    """Train the dense network of every fold and keep its snapshots."""
    with torch_stage():
        from stages import groups
        from stages.engine import folds
        from stages.files import DENSE, PREPARED, Manifest, given
        from stages.params import read

        study = read(params)
        group = groups.of_dense(study)
        replicates = range(study.cross_validation.replicates)
        inputs = (PREPARED, *(given(each.n) for each in study.checkpoints))
        manifest = Manifest(study.study, "pretrain", "dense", 0, replicates, group, group, inputs)
        task = partial(_dense(study), study)
        training = not study.checkpoints
        folds.run(task, study, manifest, DENSE, only=fold, training=training)


def _dense(study: "Params") -> "Callable[..., None]":
    """Return what makes a fold's dense network: training, or a checkpoint."""
    if not study.checkpoints:
        return train_fold
    from stages.fold.taken import take_fold

    return take_fold


def train_fold(study: "Params", folder: Path, resume: Path, fold: int, report: "Report") -> None:
    """Train one fold's dense network from its initialisation and write it with its snapshots."""
    from pruning.facts import write_json
    from pruning.network import Network, write
    from stages.fold import samples
    from stages.fold.fitting import train
    from stages.fold.models import check_fits, fresh

    sample = samples.of_fold(study, fold)
    recipe = study.training
    model = fresh(study.model, recipe.initialization, sample.seed, recipe.device)
    check_fits(model, next(sample.validation())[0][:2], len(sample.dataset.classes))
    per_epoch = sample.steps_per_epoch(recipe)
    steps = {f"step-{step}": step for step in [0, *study.snapshots.steps]}
    epochs = {f"epoch-{epoch}": epoch * per_epoch for epoch in study.snapshots.epochs}
    journal = train(
        model,
        sample,
        recipe,
        resume=resume,
        report=report,
        checkpoint_minutes=study.checkpoint_minutes,
        keep_at=steps | epochs,
        history_in=folder,
        method=recipe.during,
    )
    journal.write_history(folder)
    journal.write_snapshots(folder / "snapshots")
    spec = study.model.model_dump()
    write(Network(model, {}, spec, sample.input_shape), folder)
    metrics = {
        "validation_accuracy": journal.validation_accuracy,
        "best_validation_accuracy": journal.best_accuracy,
        "best_step": journal.best_step,
        "steps": recipe.epochs * per_epoch,
        "steps_per_epoch": per_epoch,
    }
    write_json(folder / "metrics.json", metrics)


app = application(pretrain)

if __name__ == "__main__":
    app()
