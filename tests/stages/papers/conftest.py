"""Studies made by hand: params, and results of which every number is known."""

from types import SimpleNamespace

import pandas as pd
import pytest

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
    """Return what makes studies: `params` and `folds`."""
    return SimpleNamespace(params=params, folds=folds, PAPERS=PAPERS)


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
