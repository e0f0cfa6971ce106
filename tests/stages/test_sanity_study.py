"""Sanity checks as a setting: real networks, their controls, and what the report says of them."""

from pathlib import Path

import pandas as pd
import pytest

from pruning.facts import write_json
from pruning.folders import whole
from pruning.masks import kept
from pruning.network import load
from stages import compare, evaluate, finetune, prune, snapshot
from stages.files import DENSE, RESUME, fold_of, pruned, result, start_of, tuned
from stages.params import Params
from tests.stages.one_fold import SETTINGS, Study

FOLDS = 3
TRAIN = {"epochs": 1, "learning_rate": {"base": 0.0005}}
METHODS = {
    "method": {"rewind": "init", "prune": {"allocation": "layerwise"}, "finetune": TRAIN},
    "shuffled": {
        "rewind": "init",
        "control_of": "method",
        "prune": {"allocation": "layerwise", "shuffle": True},
        "finetune": TRAIN,
    },
    "inverted": {
        "rewind": "init",
        "control_of": "method",
        "prune": {
            "criterion": {"name": "inverted", "of": "magnitude"},
            "allocation": "layerwise",
        },
        "finetune": TRAIN,
    },
    "reinitialised": {
        "rewind": "init",
        "control_of": "method",
        "prune": {"allocation": "layerwise"},
        "finetune": {**TRAIN, "weights": "reinitialised"},
    },
}
CHANGES = {
    "cross_validation": {"folds": FOLDS},
    "model": {"factory": "digits_conv", "width": 8},
    "training": {**SETTINGS["training"], "epochs": 3, "batch_size": 64},
    "rounds": [{"n": 1, "from": 0, "sparsity": 0.5}],
}


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    """Run a study with three controls and return its report."""
    study = Study(tmp_path_factory.mktemp("sanity"), folds_of=range(FOLDS), **CHANGES)
    names = [*METHODS]
    listed = {"experiments": names, "one_shot": names, "iterative": [], "control": None}
    made = Params.model_validate(SETTINGS | CHANGES | listed | {"methods": METHODS})
    with study.entered():
        measure(made, "dense", 0, DENSE)
        for name in names:
            for fold in range(FOLDS):
                recovered(made, name, fold)
            measure(made, name, 1, tuned(name, 1))
        folder = study.folder / "report"
        folder.mkdir()
        compare.write(made, folder)
    return folder


def recovered(study: Params, name: str, fold: int) -> None:
    start = fold_of(start_of(name), fold)
    start.parent.mkdir(parents=True, exist_ok=True)
    snapshot.lay_out(fold_of(DENSE, fold), start, study.method(name).rewind)
    with whole(fold_of(pruned(name, 1), fold)) as partial:
        prune.prune_fold(study, name, 1, partial, RESUME, fold, lambda *_: None)
    with whole(fold_of(tuned(name, 1), fold)) as partial:
        finetune.recover_fold(study, name, 1, partial, RESUME, fold, lambda *_: None)


def measure(study: Params, name: str, n: int, source: Path) -> None:
    for fold in range(FOLDS):
        with whole(fold_of(result(name, n), fold)) as partial:
            evaluate.evaluate_fold(study, source, partial, RESUME, fold, lambda *_: None)
    write_json(result(name, n) / "manifest.json", {"folds": [*range(FOLDS)], "key": name})


def test_the_report_says_in_words_whether_the_method_beats_its_controls(report):
    said = (report / "report.md").read_text()
    section = said.partition("## Sanity checks")[2].partition("\n## ")[0]
    for control in ("shuffled", "inverted", "reinitialised"):
        assert f"- **method** against its control {control}: beats it at 50 % (+" in section
    assert "loses" not in section


def test_the_table_holds_the_same_numbers(report):
    table = pd.read_csv(report / "sanity.csv")
    folds = pd.read_csv(report / "folds.csv").pivot(
        index="fold", columns="experiment", values="test_accuracy"
    )
    assert list(table["control"]) == ["shuffled", "inverted", "reinitialised"]
    for row in table.itertuples():
        expected = (folds["method"] - folds[row.control]).mean()
        assert row.difference == pytest.approx(expected)
        assert 0 < row.low <= row.difference <= row.high


def test_controls_keep_as_many_weights_of_every_layer(report):
    home = report.parent
    masks = {name: load(home / fold_of(tuned(name, 1), 0), foreign=True).masks for name in METHODS}
    for name in ("shuffled", "reinitialised", "inverted"):
        for layer, mask in masks["method"].items():
            assert kept({layer: masks[name][layer]}) == kept({layer: mask})
    assert all(masks["reinitialised"][n].equal(mask) for n, mask in masks["method"].items())
    assert not any(masks["shuffled"][n].equal(mask) for n, mask in masks["method"].items())
