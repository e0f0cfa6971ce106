"""Studies made by hand: params, and results of which every number is known."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
import yaml

from stages.params import Params

METHOD = {
    "rewind": {"step": 0},
    "prune": {"criterion": "magnitude"},
    "finetune": {"weights": "rewound", "resume": "start"},
}
PAPERS = {
    "title": "SNIP on LeNet-300-100",
    "published": "One batch at initialisation.",
    "departures": ["Fewer epochs."],
    "methods": {"snip": "SNIP, one batch of 100"},
    "rows": {"snip": [{"method": "SNIP", "arxiv": "arXiv:1810.02340"}]},
}


@pytest.fixture(scope="session")
def made():
    """Return what makes studies: `params`, `folds`, and `record` of both in a folder."""
    return SimpleNamespace(params=params, folds=folds, record=record, PAPERS=PAPERS)


def record(folder, study, found=None, **more):
    """Lay out a protocol's folder, with a record if there are results; `more` replaces facts."""
    folder.mkdir(parents=True)
    settings = study.model_dump(by_alias=True, exclude_none=True)
    text = yaml.safe_dump({**settings, "control": study.control}, sort_keys=False)
    (folder / "params.yaml").write_text(text)
    if found is None:
        return
    (folder / "record").mkdir()
    (folder / "record" / "params.yaml").write_text(text)
    found.to_csv(folder / "record" / "results.csv", index=False)
    runs = ["experiment,fold,run_id", "dense,,aa", "snip,,bb", "snip,0,cc"]
    (folder / "record" / "runs.csv").write_text("\n".join(runs) + "\n")
    facts = {"study": study.study, "commit": "c" * 40, "changed": [], "dvc_lock": "d" * 32}
    machine = {"processor": "P", "cores": 2, "device": "cpu", "python": "3.11", "torch": "2.10"}
    facts |= {"reports": "e" * 32 + ".dir", "seconds": 3723, "machine": machine}
    (folder / "record" / "record.json").write_text(json.dumps(facts | more))


def params(papers=PAPERS, experiments=("snip", "magnitude"), sparsities=(0.95, 0.98), **more):
    """Return the params of a study of LeNet-300-100 on MNIST; `more` replaces settings."""
    content = {
        "study": "snip",
        "data": {"name": "MNIST"},
        "cross_validation": {"folds": 3},
        "model": {"factory": "lenet_300_100"},
        "training": {"epochs": 2, "learning_rate": {"base": 0.1}},
        "snapshots": {},
        "rounds": [{"n": n, "from": n - 1, "sparsity": s} for n, s in enumerate(sparsities, 1)],
        "experiments": list(experiments),
        "iterative": [],
        "one_shot": list(experiments),
        "methods": dict.fromkeys(experiments, METHOD),
        "control": None,
        "papers": papers,
    }
    return Params.model_validate(content | more)


def folds(accuracies, dense=(0.983, 0.983, 0.983), sparsities=(0.95, 0.98)):
    """Return results as `summary.collect` does: by experiment a list of accuracies a round."""
    lines = [
        {"experiment": "dense", "round": 0, "fold": fold, "target_sparsity": 0.0, "sparsity": 0.0}
        | {"validation_accuracy": value, "test_accuracy": value}
        for fold, value in enumerate(dense)
    ]
    for name, rounds in accuracies.items():
        for n, (sparsity, values) in enumerate(zip(sparsities, rounds, strict=True), 1):
            lines += [
                {"experiment": name, "round": n, "fold": fold, "target_sparsity": sparsity}
                | {"sparsity": sparsity, "validation_accuracy": value, "test_accuracy": value}
                for fold, value in enumerate(values)
            ]
    return pd.DataFrame(lines)
