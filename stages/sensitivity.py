"""Sensitivity analysis: accuracy against the sparsity of each layer alone, and ratios from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS, Experiment, ParamsFile, application, one_line_errors

if TYPE_CHECKING:
    import pandas as pd

    from stages.params import Params
    from stages.workers import Report

SPARSITIES = (0.0, 0.25, 0.5, 0.75, 0.9, 0.95)
COLUMNS = ("layer", "sparsity", "fold", "validation_accuracy")

Tolerance = Annotated[
    float, typer.Option(help="How much validation accuracy a layer may cost, as a fraction.")
]


def sensitivity(
    experiment: Experiment, tolerance: Tolerance = 0.02, params: ParamsFile = PARAMS
) -> None:
    """Prune each layer alone by an experiment's criterion; propose a sparsity for each layer."""
    with one_line_errors():
        from functools import partial

        import pandas as pd

        from pruning.facts import write_json
        from stages import folds, groups
        from stages.files import PREPARED, Manifest, start_of
        from stages.params import read

        study = read(params)
        settings = {
            "prune": study.method(experiment).prune.model_dump(),
            "tolerance": tolerance,
            "sparsities": SPARSITIES,
        }
        manifest = Manifest(
            study=study.study,
            stage="sensitivity",
            experiment=experiment,
            round=0,
            folds=range(study.cross_validation.replicates),
            params=settings,
            group=groups.of_experiment(study, experiment),
            inputs=(PREPARED, start_of(experiment)),
        )
        folder = Path("results") / experiment / "sensitivity"
        task = partial(measure_fold, study, experiment)
        folds.run(task, study, manifest, folder, only=None)
        tables = [pd.read_csv(path) for path in sorted(folder.glob("fold-*/sensitivity.csv"))]
        table = pd.concat(tables, ignore_index=True)
        ratios = propose(table, tolerance)
        write_json(folder / "ratios.json", ratios)
        picture(table, folder / "sensitivity.png")
        for layer, sparsity in ratios.items():
            print(f"{layer}: {sparsity:g}")
        print(f"picture: {folder / 'sensitivity.png'}; the ratios as a row: allocation: per_layer")


def measure_fold(
    study: "Params",
    experiment: str,
    folder: Path,
    resume: Path,  # noqa: ARG001
    fold: int,
    report: "Report",
) -> None:
    """Write the validation accuracy of one fold's dense network with one layer pruned at a time."""
    from copy import deepcopy

    from pruning import masks as mask_tools
    from pruning.network import load
    from pruning.prunable import prunable
    from pruning.training import evaluate
    from stages import masking, samples
    from stages.files import fold_of, start_of, write_table

    sample = samples.of_fold(study, fold)
    network = load(fold_of(start_of(experiment), fold), foreign=True)
    choose = masking.chooser(study, experiment, fold, sample)
    choices = study.method(experiment).prune
    layers = list(prunable(network.model, only=choices.only, skip=choices.skip))
    rows: list[tuple[str, float, int, float]] = []
    for layer in layers:
        for sparsity in SPARSITIES:
            model = deepcopy(network.model)
            masks = choose(model, sparsity, only=[layer], skip=(), allocation="layerwise")
            mask_tools.apply(model, masks)
            rows.append((layer, sparsity, fold, evaluate(model, sample.validation())[1]))
            report(len(rows), len(layers) * len(SPARSITIES))
    write_table(folder / "sensitivity.csv", COLUMNS, rows)


def propose(table: "pd.DataFrame", tolerance: float) -> dict[str, float]:
    """Return for each layer the highest sparsity that costs at most `tolerance` of accuracy.

    Means over the folds; a sparsity counts only if every lower one is within the tolerance too.

    Source: Han et al. 2015, section 3 and figure 6 (thresholds chosen from each layer's curve).
    """
    ratios = {}
    for layer, rows in table.groupby("layer", sort=False):
        curve = rows.groupby("sparsity")["validation_accuracy"].mean().sort_index()
        within = (curve >= curve.iloc[0] - tolerance).cummin()
        ratios[str(layer)] = float(within[within].index.max())
    return ratios


def picture(table: "pd.DataFrame", path: Path) -> None:
    """Draw accuracy against sparsity, one line a layer."""
    from stages import pictures

    pictures.sensitivity(table, path)


app = application(sensitivity)

if __name__ == "__main__":
    app()
