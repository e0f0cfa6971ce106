"""Recover a pruned network: which weights, which part of the learning-rate schedule."""

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
    torch_stage,
)

if TYPE_CHECKING:
    from stages.engine.workers import Report
    from stages.params import Params


def finetune(
    experiment: Experiment,
    round_: RoundNumber,
    fold: Fold = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Train a round's pruned network again, its masks enforced."""
    with torch_stage():
        from stages import groups, own_code
        from stages.engine import folds, parallel
        from stages.files import PREPARED, Manifest, pruned, start_of, tuned
        from stages.params import read

        study = read(params)
        study.round(round_)
        method = study.method(experiment)
        settings = {
            "finetune": method.finetune.model_dump(),
            "rewind": method.rewind,
            "training": study.training.model_dump(),
        }
        own_code.check_noted(settings["finetune"], study.own_code, experiment)
        manifest = Manifest(
            study=study.study,
            stage="finetune",
            experiment=experiment,
            round=round_,
            folds=range(study.cross_validation.replicates),
            params=settings,
            group=groups.of_experiment(study, experiment),
            inputs=(PREPARED, start_of(experiment), pruned(experiment, round_)),
        )
        folder = tuned(experiment, round_)
        task = partial(recover_fold, study, experiment, round_)
        folds.run(task, study, manifest, folder, only=fold, training=True)
        if parallel.rank() == 0:  # to the others the folder may not be there yet
            for replicate in manifest.folds if fold is None else [fold]:
                print(line(folder, round_, replicate))


def recover_fold(
    study: "Params",
    experiment: str,
    n: int,
    folder: Path,
    resume: Path,
    fold: int,
    report: "Report",
) -> None:
    """Recover one fold's network and write it with its history."""
    from pruning import masks as mask_tools
    from pruning.facts import read_json, write_json
    from pruning.network import Network, load, write
    from stages.files import fold_of, pruned
    from stages.fold import layers, masking, recovery, samples, signals
    from stages.fold.fitting import train
    from stages.fold.journal import Journal

    sample = samples.of_fold(study, fold)
    source = fold_of(pruned(experiment, n), fold)
    network = load(source, foreign=True)
    model = network.model.to(sample.device)
    before = read_json(source / "metrics.json")
    choices = study.method(experiment).prune
    plan = recovery.plan(study, experiment, n, fold, sample)
    spectra = signals.Spectra(plan.settings.spectrum, sample)
    told: dict[str, Any] = {}
    if before["stopped"]:
        journal = Journal(masks=network.masks)
    else:
        snapshot, told = recovery.begin(model, network.masks, plan, spectra, folder)
        journal = train(
            model,
            sample,
            plan.recipe,
            resume=resume,
            report=report,
            checkpoint_minutes=study.checkpoint_minutes,
            history_in=folder,
            start=plan.start,
            steps=plan.steps,
            snapshot=snapshot,
            rate=plan.rate,
            masks=dict(network.masks),
            method=choices.during,
            choose=masking.chooser(study, experiment, fold, sample),
            sparsity=before["target_sparsity"],
            trained=recovery.dense_weights(experiment, fold),
        )
        recovery.keep_best(model, journal, plan)
        spectra.at("recovered", model)
    mask_tools.verify(model, journal.masks, where=str(folder))
    recovery.check_sparsity(journal.masks, before, choices)
    write(Network(model, journal.masks, network.spec, network.input_shape), folder)
    journal.write_history(folder)
    layers.write(journal.masks, folder)
    facts = {**before, **layers.facts(journal.masks), **told, **spectra.write(folder)}
    write_json(folder / "metrics.json", recovery.metrics(model, journal, sample, plan, facts))


def line(folder: Path, n: int, fold: int) -> str:
    """Return one fold's line: round, rewound to what, weights kept, percent remaining."""
    from pruning.facts import read_json

    facts: dict[str, Any] = read_json(folder / f"fold-{fold}" / "metrics.json")
    kept, total = facts["weights_kept"], facts["weights"]
    return (
        f"round {n} fold {fold}: rewound to {facts['rewound_to']}, {kept} of {total} weights kept, "
        f"{100 * kept / total:.2f} % remaining, validation accuracy "
        f"{100 * facts['validation_accuracy_before_recovery']:.2f} % before and "
        f"{100 * facts['validation_accuracy']:.2f} % after recovery"
    )


app = application(finetune)

if __name__ == "__main__":
    app()
