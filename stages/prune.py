"""Make the masks of one round from the network that the round starts from."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

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
    from stages.files import Manifest
    from stages.params import Params


DryRun = Annotated[
    bool, typer.Option("--dry-run", help="List what would go, of one fold, and write nothing.")
]


def prune(
    experiment: Experiment,
    round_: RoundNumber,
    fold: Fold = None,
    dry_run: DryRun = False,
    params: ParamsFile = PARAMS,
) -> None:
    """Score, allocate, mask, compensate: one round of an experiment."""
    with torch_stage():
        from stages.engine import folds
        from stages.files import pruned
        from stages.params import read

        study = read(params)
        manifest = describe(study, experiment, round_)
        if dry_run:
            from stages.reporting.dry_run import report

            print("\n".join(report(study, experiment, round_, fold or 0)))
            return
        folder = pruned(experiment, round_)
        task = partial(prune_fold, study, experiment, round_)
        folds.run(task, study, manifest, folder, only=fold)
        for line in lines(folder, round_, manifest.folds if fold is None else [fold]):
            print(line)


def describe(study: "Params", experiment: str, n: int) -> "Manifest":
    """Return the manifest of a round's masks."""
    from stages import groups
    from stages.files import PREPARED, Manifest, start_of, tuned
    from stages.fold import targets

    study.round(n)
    of = study.lender(experiment)
    start = tuned(of, n) if of else targets.source(study, experiment, n)
    settings = {
        "prune": study.method(experiment).prune.model_dump(),
        **targets.facts(targets.target(study, experiment, n)),
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
    from stages.files import fold_of
    from stages.fold import layers, masking, samples, targets

    sample = samples.of_fold(study, fold)
    network = load(fold_of(targets.source(study, experiment, n), fold), foreign=True)
    network.model.to(sample.device)
    ended = targets.stopped(study, experiment, n)
    masks = dict(network.masks)
    start = masking.Beginning(study, experiment, n, fold, sample, network.model, network.masks)
    goal = masking.goal_of_round(start)
    if not ended:
        masks = masking.masks_of_round(start, goal)
        if not start.choices.in_training:
            masking.check_target(masks, goal, start.choices)
        masking.compensate(network.model, masks, start.choices, sample)
    mask_tools.apply(network.model, masks)
    loss, accuracy = evaluate(network.model, sample.validation())
    write(Network(network.model, masks, network.spec, network.input_shape), folder)
    layers.write(masks, folder)
    reached = layers.facts(masks)
    metrics = {
        **reached,
        "target_sparsity": reached["sparsity"] if goal is None else goal,
        "stopped": ended,
        "validation_loss_before_recovery": loss,
        "validation_accuracy_before_recovery": accuracy,
    }
    write_json(folder / "metrics.json", metrics)
    report(1, 1)


def lines(folder: Path, n: int, folds: Sequence[int]) -> list[str]:
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
