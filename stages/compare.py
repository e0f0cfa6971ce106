"""Set all results side by side: table, pictures, report, and the networks handed on."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from stages.command import PARAMS, ParamsFile, application, torch_stage

if TYPE_CHECKING:
    import pandas as pd
    from torch import Tensor, nn

    from stages.params import Params
    from stages.tracking import Tracker


def compare(params: ParamsFile = PARAMS) -> None:
    """Compare all experiments of the study and write reports/."""
    with torch_stage():
        from stages import tracking
        from stages.files import REPORTS, Manifest, exported, gains, output, result
        from stages.params import read

        study = read(params)
        inputs = [result("dense", 0)]
        inputs += [result(name, entry.n) for name in study.experiments for entry in study.rounds]
        inputs += [gains(name) for name in study.export]
        settings = {"experiments": study.experiments, "control": study.control}
        settings |= {"papers": study.papers.model_dump()} if study.papers else {}
        manifest = Manifest(study.study, "compare", None, 0, (), settings, {}, tuple(inputs))
        with output(REPORTS, manifest) as folder:
            networks = write(study, folder)
            networks += [exported(name) / "network" for name in study.export]
        with tracking.open(study=study.study, enabled=study.tracking) as tracker:
            log(tracker, inputs, networks)
        _say(study)


def write(study: "Params", folder: Path) -> list[Path]:
    """Write all of the report into `folder`; return the folders of the networks handed on."""
    from pruning.facts import write_json
    from stages.literature import beside_report
    from stages.reporting import gains_report, pictures, report, sanity, summary

    results = summary.collect(study)
    found = summary.summarise(results, study.control)
    rounds = {name: summary.chosen(found, name) for name in study.experiments}
    networks = {name: _network(results, name, n) for name, n in rounds.items()}
    results.to_csv(folder / "folds.csv", index=False)
    found.to_csv(folder / "accuracy.csv", index=False)
    summary.curves(found).to_csv(folder / "curves.csv", index=False)
    summary.collect_layers(study).to_csv(folder / "layers.csv", index=False)
    write_json(folder / "metrics.json", _metrics(found))
    pictures.accuracy(found, study.iterative, folder / "accuracy.png")
    pictures.densities(summary.collect_layers(study), folder / "layers.png")
    one_shot = [name for name in study.one_shot if name != study.control]
    if study.iterative and one_shot:
        path = folder / "iterative.png"
        pictures.iterative_minus_one_shot(results, study.iterative, one_shot, path)
    checks = sanity.differences(study, results)
    if len(checks):
        checks.to_csv(folder / "sanity.csv", index=False)
    chosen = {name: (n, networks[name].as_posix()) for name, n in rounds.items()}
    papers = beside_report.write(study, results, folder) if study.papers else ""
    text = report.markdown(study, found, chosen, sanity.words(checks), papers)
    (folder / "report.md").write_text(text + gains_report.write(study, folder))
    return list(networks.values())


def log(tracker: "Tracker", inputs: list[Path], networks: list[Path]) -> None:
    """Log every result, the report, and each network handed on as an MLflow model."""
    from functools import partial

    from stages.files import REPORTS

    for folder in [*inputs, REPORTS]:
        tracker.log(folder)
    for network in networks:
        tracker.log_model(network, partial(_with_example, network))


def _with_example(network: Path) -> "tuple[nn.Module, Tensor]":
    from stages.fold.models import with_example  # torch, for a network that MLflow does not have

    return with_example(network)


def _network(results: "pd.DataFrame", experiment: str, n: int) -> Path:
    from stages.files import fold_of, tuned
    from stages.reporting.summary import chosen_fold

    fold = chosen_fold(results, experiment, n)
    return fold_of(tuned(experiment, n), int(fold.name.removeprefix("fold-")))


def _metrics(found: "pd.DataFrame") -> dict[str, dict[str, dict[str, float]]]:
    """Return what `dvc metrics diff` lines up: by experiment and round."""
    metrics: dict[str, dict[str, dict[str, float]]] = {}
    for row in found.to_dict("records"):
        measures = {name: row[name] for name in ("sparsity", "test_accuracy", "test_accuracy_sd")}
        known = {name: float(value) for name, value in measures.items() if value == value}
        metrics.setdefault(str(row["experiment"]), {})[f"round-{row['round']}"] = known
    return metrics


def _say(study: "Params") -> None:
    import pandas as pd

    from stages.files import REPORTS
    from stages.reporting.report import table

    print(table(pd.read_csv(REPORTS / "accuracy.csv"), study.control))
    print(f"\nReport with pictures: {REPORTS / 'report.md'}")
    if study.tracking:
        print(f"MLflow: `{shown_by(study)}`, then open http://127.0.0.1:5000")


def shown_by(study: "Params") -> str:
    """Return the command that shows the study in MLflow: the Makefile is where the code is."""
    if study.code == ".":
        return "make ui"
    return f"make -C {shlex.quote(study.code)} ui STUDY={shlex.quote(str(Path.cwd()))}"


app = application(compare)

if __name__ == "__main__":
    app()
