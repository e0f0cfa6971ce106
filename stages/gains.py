"""Time what was made smaller: dense, masked, shrunk and ONNX side by side, and every round."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command import PARAMS, Experiment, ParamsFile, application, torch_stage

if TYPE_CHECKING:
    from stages.files import Manifest
    from stages.params import Params
    from stages.reporting.handed_on import Place


def gains(experiment: Experiment, params: ParamsFile = PARAMS) -> None:
    """Time the exported network of an experiment beside the dense one and its other rounds.

    Times are of this machine and this moment: nothing but the report is made from them.
    """
    with torch_stage():
        from stages import tracking
        from stages.files import gains, output
        from stages.params import read
        from stages.reporting import pictures_gains

        study = read(params)
        place = exported_place(study, experiment)
        folder = gains(experiment)
        with output(folder, describe(study, place)) as unfinished:
            write(study, place, unfinished)
            pictures_gains.latency({experiment: unfinished}, unfinished / "latency.png")
        print("\n".join(lines(folder)))
        if "DVC_STAGE" not in os.environ:
            with tracking.open(study=study.study, enabled=study.tracking) as tracker:
                tracker.log(folder)


def exported_place(study: "Params", experiment: str) -> "Place":
    """Return which network of an experiment was exported."""
    from stages.files import exported, read_manifest
    from stages.reporting.handed_on import Place

    study.method(experiment)
    facts = read_manifest(exported(experiment))
    study.round(facts["round"])
    return Place(experiment, facts["round"], facts["params"]["fold"])


def describe(study: "Params", place: "Place") -> "Manifest":
    """Return the manifest of the measurements."""
    from stages import groups
    from stages.files import DENSE, Manifest, exported, tuned

    settings = study.exporting.model_dump()
    rounds = [tuned(place.experiment, entry.n) for entry in study.rounds]
    group = groups.of_experiment(study, place.experiment)
    return Manifest(
        study=study.study,
        stage="gains",
        experiment=place.experiment,
        round=place.round,
        folds=(),
        params=settings,
        group={**group, "gains": settings},
        inputs=(DENSE, exported(place.experiment), *rounds),
    )


def write(study: "Params", place: "Place", folder: Path) -> None:
    """Measure, and write latency.csv and metrics.json."""
    from tempfile import TemporaryDirectory

    from pruning.facts import read_json, write_json
    from stages.files import exported, write_table
    from stages.fold import timing

    with TemporaryDirectory() as scratch:
        found = timing.candidates(study, place, Path(scratch))
        rows = timing.measure(found, study.exporting)
    write_table(folder / "latency.csv", timing.COLUMNS, rows)
    counted = read_json(exported(place.experiment) / "metrics.json")
    write_json(folder / "metrics.json", {**counted, **timing.facts(rows)})


def lines(folder: Path) -> list[str]:
    """Return what was measured in words, a line for each network and batch."""
    import pandas as pd

    table = pd.read_csv(folder / "latency.csv")
    said = []
    for size, rows in table.groupby("batch"):
        dense = rows.loc[rows["network"] == "dense", "median_ms"].iloc[0]
        for row in rows.to_dict("records"):
            said.append(
                f"batch {size}: {row['network']}"
                + (f", round {row['round']}" if row["round"] else "")
                + f": {row['median_ms']:.3f} ms (quartiles "
                f"{row['low_ms']:.3f} to {row['high_ms']:.3f}), {dense / row['median_ms']:.2f} "
                "times as fast as dense"
            )
    return [*said, f"picture: {folder / 'latency.png'}"]


app = application(gains)

if __name__ == "__main__":
    app()
