"""Sensitivity analysis: accuracy against the sparsity of each layer alone, and ratios from it."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS, Experiment, ParamsFile, application, one_line_errors

if TYPE_CHECKING:
    import pandas as pd

    from stages.engine.workers import Report
    from stages.params import Params

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

        from stages import groups
        from stages.engine import folds
        from stages.files import PREPARED, Manifest, sensitivities, start_of
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
        folder = sensitivities(experiment)
        task = partial(measure_fold, study, experiment)
        conclude = partial(summarise, tolerance=tolerance)
        folds.run(task, study, manifest, folder, only=None, finish=conclude)
        print("\n".join(lines(folder)))


def measure_fold(
    study: "Params",
    experiment: str,
    folder: Path,
    resume: Path,  # noqa: ARG001
    fold: int,
    report: "Report",
) -> None:
    """Write the validation accuracy of one fold's dense network with one layer pruned at a time."""
    import warnings
    from copy import deepcopy

    from pruning import masks as mask_tools
    from pruning.network import load
    from pruning.prunables import prunable
    from pruning.pruner import LayerCollapse
    from pruning.training import evaluate
    from stages.files import fold_of, start_of, write_table
    from stages.fold import coupled, masking, samples

    sample = samples.of_fold(study, fold)
    network = load(fold_of(start_of(experiment), fold), foreign=True)
    network.model.to(sample.device)
    found = masking.chooser(study, experiment, fold, sample, on_collapse="warn")
    choose = found.bound if isinstance(found, coupled.Coupled) else found  # a layer alone
    choices = study.method(experiment).prune
    layers = list(prunable(network.model, only=choices.only, skip=choices.skip))
    rows: list[tuple[str, float, int, float]] = []
    for layer in layers:
        for sparsity in SPARSITIES:
            model = deepcopy(network.model)
            with warnings.catch_warnings():  # a layer that loses all shows in the accuracy
                warnings.simplefilter("ignore", LayerCollapse)
                masks = choose(model, sparsity, only=[layer], skip=(), allocation="layerwise")
            masking.compensate(model, masks, choices, sample)
            mask_tools.apply(model, masks)
            rows.append((layer, sparsity, fold, evaluate(model, sample.validation())[1]))
            report(len(rows), len(layers) * len(SPARSITIES))
    write_table(folder / "sensitivity.csv", COLUMNS, rows)


def summarise(folder: Path, *, tolerance: float) -> None:
    """Write the proposed ratios of all folds together, and the picture."""
    import pandas as pd

    from pruning.facts import write_json
    from stages.reporting import pictures

    tables = [pd.read_csv(path) for path in sorted(folder.glob("fold-*/sensitivity.csv"))]
    table = pd.concat(tables, ignore_index=True)
    write_json(folder / "ratios.json", propose(table, tolerance))
    pictures.sensitivity(table, folder / "sensitivity.png")


def lines(folder: Path) -> list[str]:
    """Return what was proposed, and as a setting of `prune`."""
    from pruning.facts import read_json

    ratios: dict[str, float] = read_json(folder / "ratios.json")
    shown = ", ".join(f'"{layer}": {sparsity:g}' for layer, sparsity in ratios.items())
    return [
        *(f"{layer}: {sparsity:g}" for layer, sparsity in ratios.items()),
        f"picture: {folder / 'sensitivity.png'}; as a row of params.yaml:",
        f"allocation: {{name: per_layer, ratios: {{{shown}}}}}",
    ]


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


app = application(sensitivity)

if __name__ == "__main__":
    app()
