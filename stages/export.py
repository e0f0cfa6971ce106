"""Make the network that an experiment hands on smaller for real, and write it in every format."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS, Experiment, Fold, ParamsFile, application, torch_stage

if TYPE_CHECKING:
    from stages.files import Manifest
    from stages.params import Params
    from stages.reporting.handed_on import Place

Round = Annotated[
    int | None, typer.Option("--round", help="The round (default: the one handed on).")
]


def export(
    experiment: Experiment,
    round_: Round = None,
    fold: Fold = None,
    params: ParamsFile = PARAMS,
) -> None:
    """Shrink an experiment's network, export it, and count what was gained.

    Without a round and a fold it is the network that the experiment hands on, as DVC asks for it.
    """
    with torch_stage():
        from stages.files import exported, output
        from stages.params import read
        from stages.reporting import handed_on

        study = read(params)
        place = handed_on.place(study, experiment, round_, fold)
        chosen = round_ is None and fold is None
        folder = exported(experiment, *(() if chosen else (place.round, place.fold)))
        with output(folder, describe(study, place)) as unfinished:
            write(study, place, unfinished)
        print(line(folder))
        if chosen and "DVC_STAGE" not in os.environ:
            log(study, folder)


def describe(study: "Params", place: "Place") -> "Manifest":
    """Return the manifest of an exported network."""
    from stages import groups
    from stages.files import Manifest, tuned

    settings = {**study.exporting.model_dump(), "fold": place.fold}
    group = groups.of_experiment(study, place.experiment)
    return Manifest(
        study=study.study,
        stage="export",
        experiment=place.experiment,
        round=place.round,
        folds=(),
        params=settings,
        group={**group, "export": settings},
        inputs=(tuned(place.experiment, place.round),),
    )


def write(study: "Params", place: "Place", folder: Path) -> None:
    """Write all of an exported network."""
    from pruning.facts import read_json, write_json
    from stages.fold import shrunk

    pair = shrunk.shrunk(place.network, study.exporting.round_to)
    found = shrunk.write_files(pair, study.exporting, folder)
    measured = read_json(place.measures / "metrics.json")
    known = ("sparsity", "validation_accuracy", "test_accuracy")
    size = max(study.exporting.batches)
    metrics = {
        **{name: measured[name] for name in known},
        **shrunk.counts(pair, size, folder),
        **found,
        "activation_batch": size,
        "round": place.round,
        "fold": place.fold,
        "shrink_difference": pair.difference,
    }
    shrunk.write_layers(pair, folder)
    write_json(folder / "metrics.json", metrics)


def line(folder: Path) -> str:
    """Return in one line what was gained."""
    from pruning.facts import read_json

    facts = read_json(folder / "metrics.json")

    def left(what: str) -> str:
        return f"{100 * facts[f'{what}_shrunk'] / facts[f'{what}_dense']:.2f} % of the {what}"

    return (
        f"{folder}: round {facts['round']}, fold {facts['fold']}: "
        f"{left('parameters')}, {left('macs')} and {left('bytes')} left; test accuracy "
        f"{100 * facts['test_accuracy']:.2f} %"
    )


def log(study: "Params", folder: Path) -> None:
    """Log an exported network, and its program as an MLflow model."""
    from functools import partial

    from stages import tracking
    from stages.fold.models import with_example

    with tracking.open(study=study.study, enabled=study.tracking) as tracker:
        tracker.log(folder)
        tracker.log_model(folder / "network", partial(with_example, folder / "network"))


app = application(export)

if __name__ == "__main__":
    app()
