"""The dense network of a fold where it is a checkpoint: nothing is trained."""

from pathlib import Path

from pruning.facts import write_json
from pruning.network import Network, load, write
from pruning.rewind import capture
from pruning.training import evaluate
from stages.engine.workers import Report
from stages.files import given
from stages.fold import samples
from stages.fold.journal import Journal
from stages.params import Params


def take_fold(study: Params, folder: Path, resume: Path, fold: int, report: Report) -> None:  # noqa: ARG001
    """Write one fold's dense network with its snapshots, which are all that network."""
    sample = samples.of_fold(study, fold)
    model = load(given(study.checkpoint_of(fold)), foreign=True).model.to(sample.device)
    _, accuracy = evaluate(model, sample.validation())
    snapshot = capture(model, None, 0)
    journal = Journal(kept={"step-0": snapshot, "best": snapshot, "final": snapshot})
    journal.write_history(folder)
    journal.write_snapshots(folder / "snapshots")
    write(Network(model, {}, study.model.model_dump(), sample.input_shape), folder)
    metrics = {
        "validation_accuracy": accuracy,
        "best_validation_accuracy": accuracy,
        "best_step": 0,
        "steps": 0,
        "steps_per_epoch": sample.steps_per_epoch(study.training),
    }
    write_json(folder / "metrics.json", metrics)
    report(1, 1)
