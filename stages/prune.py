"""Make the masks of one round from the network that the round starts from."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.command import (
    PARAMS,
    Experiment,
    Fold,
    ParamsFile,
    RoundNumber,
    application,
    one_line_errors,
)

if TYPE_CHECKING:
    from stages.files import Manifest
    from stages.params import Params
    from stages.workers import Report


def prune(
    experiment: Experiment,
    round_: RoundNumber,
    fold: Fold = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Score, allocate, mask: one round of an experiment."""
    with one_line_errors():
        from stages import folds
        from stages.files import pruned
        from stages.params import read

        study = read(params)
        manifest = describe(study, experiment, round_)
        folder = pruned(experiment, round_)
        task = partial(prune_fold, study, experiment, round_)
        folds.run(task, study, manifest, folder, only=fold)
        for line in lines(folder, round_, manifest.folds if fold is None else [fold]):
            print(line)


def source(study: "Params", experiment: str, n: int) -> Path:
    """Return what round `n` starts from: the dense network, or the round before."""
    from stages.files import start_of, tuned

    return tuned(experiment, n - 1) if experiment in study.iterative else start_of(experiment)


def describe(study: "Params", experiment: str, n: int) -> "Manifest":
    """Return the manifest of a round's masks."""
    from stages import groups, targets
    from stages.files import PREPARED, Manifest, start_of

    study.round(n)
    start = source(study, experiment, n)
    settings = {
        "prune": study.method(experiment).prune.model_dump(),
        "target_sparsity": targets.target(study, experiment, n),
    }
    return Manifest(
        study=study.study,
        stage="prune",
        experiment=experiment,
        round=n,
        folds=range(study.cross_validation.replicates),
        params=settings,
        group=groups.of_experiment(study, experiment),
        inputs=tuple(dict.fromkeys((PREPARED, start_of(experiment), start))),
    )


def prune_fold(
    study: "Params",
    experiment: str,
    n: int,
    folder: Path,
    resume: Path,  # noqa: ARG001
    fold: int,
    report: "Report",
) -> None:
    """Prune one fold's network, write it with its masks and what they cost before recovery."""
    from pruning import masks as mask_tools
    from pruning.facts import write_json
    from pruning.network import Network, load, write
    from pruning.training import evaluate
    from stages import layers, samples, targets
    from stages.files import fold_of

    sample = samples.of_fold(study, fold)
    network = load(fold_of(source(study, experiment, n), fold), foreign=True)
    network.model.to(sample.device)
    goal = targets.target(study, experiment, n)
    ended = targets.stopped(study, experiment, n)
    masks = network.masks if ended else _masks(study, experiment, network, sample, goal, fold)
    mask_tools.apply(network.model, masks)
    loss, accuracy = evaluate(network.model, sample.validation())
    write(Network(network.model, masks, network.spec, network.input_shape), folder)
    layers.write(masks, folder)
    metrics = {
        **layers.facts(masks),
        "target_sparsity": goal,
        "stopped": ended,
        "validation_loss_before_recovery": loss,
        "validation_accuracy_before_recovery": accuracy,
    }
    write_json(folder / "metrics.json", metrics)
    report(1, 1)


def _masks(
    study: "Params", experiment: str, network: Any, sample: Any, goal: float, fold: int
) -> dict[str, Any]:
    from copy import deepcopy

    from pruning.pruner import prune
    from pruning.rewind import restore
    from stages import snapshots
    from stages.files import fold_of, start_of

    choices = study.method(experiment).prune
    model = network.model
    if choices.score_weights == "rewound":
        model = deepcopy(model)
        rewind = fold_of(start_of(experiment), fold) / "rewind.safetensors"
        restore(model, snapshots.read(rewind), masks=network.masks)
    return prune(
        model,
        goal,
        criterion=choices.criterion,
        granularity=choices.granularity,
        reduce=choices.reduce,
        allocation=choices.allocation,
        evidence=sample.evidence(choices.evidence.batches, choices.evidence.batch_size),
        previous=network.masks or None,
        allow_regrowth=choices.allow_regrowth,
        on_collapse=choices.on_collapse,
        only=choices.only,
        skip=choices.skip,
    )


def lines(folder: Path, n: int, folds: Any) -> list[str]:
    """Return each fold's line: round, weights kept, percent remaining, accuracy at once."""
    from pruning.facts import read_json

    shown = []
    for fold in folds:
        facts = read_json(folder / f"fold-{fold}" / "metrics.json")
        kept, weights = facts["weights_kept"], facts["weights"]
        shown.append(
            f"round {n} fold {fold}: {kept} of {weights} weights kept, "
            f"{100 * kept / weights:.2f} % remaining, validation accuracy before recovery "
            f"{100 * facts['validation_accuracy_before_recovery']:.2f} %"
            + (" (the schedule has stopped)" if facts["stopped"] else "")
        )
    return shown


app = application(prune)

if __name__ == "__main__":
    app()
