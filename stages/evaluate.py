"""Read the test set once: what a round's network is worth."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command import (
    PARAMS,
    Experiment,
    Fold,
    ParamsFile,
    RoundNumber,
    application,
    torch_stage,
)

if TYPE_CHECKING:
    from stages.engine.workers import Report
    from stages.params import Params


def evaluate(
    experiment: Experiment,
    round_: RoundNumber,
    fold: Fold = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Measure a round's network on the test set that no fold has seen (dense: round 0)."""
    with torch_stage():
        from stages import groups
        from stages.engine import folds
        from stages.files import DENSE, PREPARED, Manifest, result, tuned
        from stages.params import read

        study = read(params)
        is_dense = (experiment, round_) == ("dense", 0)
        if not is_dense:
            study.method(experiment)
            study.round(round_)
        source = DENSE if is_dense else tuned(experiment, round_)
        group = groups.of_dense(study) if is_dense else groups.of_experiment(study, experiment)
        replicates = range(study.cross_validation.replicates)
        manifest = Manifest(
            study.study, "evaluate", experiment, round_, replicates, {}, group, (PREPARED, source)
        )
        task = partial(evaluate_fold, study, source)
        folds.run(task, study, manifest, result(experiment, round_), only=fold)


def evaluate_fold(
    study: "Params",
    source: Path,
    folder: Path,
    resume: Path,  # noqa: ARG001
    fold: int,
    report: "Report",
) -> None:
    """Evaluate one fold's network and write all that compare needs."""
    from pruning.facts import read_json, write_json
    from pruning.network import load
    from pruning.training import evaluate
    from stages.files import fold_of
    from stages.fold import layers, samples

    sample = samples.of_fold(study, fold)
    network = load(fold_of(source, fold), foreign=True)
    loss, accuracy = evaluate(network.model.to(sample.device), sample.test())
    known = read_json(fold_of(source, fold) / "metrics.json")
    known.pop("spectrum", None)  # its place is beside the network that it was measured on
    parameters = sum(parameter.numel() for parameter in network.model.parameters())
    metrics = {
        **known,
        **(layers.facts(network.masks) if network.masks else {"sparsity": 0.0}),
        "parameters": parameters,
        "test_loss": loss,
        "test_accuracy": accuracy,
    }
    layers.write(network.masks, folder)
    write_json(folder / "metrics.json", metrics)
    report(1, 1)


app = application(evaluate)

if __name__ == "__main__":
    app()
