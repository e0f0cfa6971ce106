"""Every row of docs/methods.md is valid, complete and runs through prune and finetune."""

import copy
import re
import sys
import types
from pathlib import Path
from typing import Any

import pytest
import yaml

from pruning import catalogue
from pruning.masks import layers, sparsity
from pruning.presets import PRESETS
from stages.methods import GRANULARITIES, RESUME, WEIGHTS
from tests.stages.one_fold import SETTINGS, Study, params

PAGE = (Path(__file__).parents[2] / "docs" / "methods.md").read_text(encoding="utf-8")
TRAINING = {**SETTINGS["training"], "batch_size": 32}
STUDY = {"data": {"name": "digits", "limit": 400}, "training": TRAINING}
SLIMMED = {**TRAINING, "during": {"name": "slimming", "strength": 0.0001, "scale": 0.5}}
NETWORKS: dict[str, dict[str, Any]] = {
    "default": {},
    "slimmed": {"training": SLIMMED},
    "preresnet": {
        "model": {"factory": "tests.stages.networks:preresnet"},
        "own_code": ["tests/stages/networks.py"],
    },
    "rows": {"model": {"factory": "my_networks:RowLSTM", "width": 8, "hidden": 12}},
    "resnet56": {
        "data": {"name": "digits", "limit": 120},
        "model": {"factory": "resnet56", "width": 10, "in_channels": 1},
        "training": {**TRAINING, "epochs": 1},
        "snapshots": {},
    },
}
ON = {
    "slimming": "slimmed",
    "channel-selection": "preresnet",
    "rnn-ramp": "rows",
    "li-resnet56-a": "resnet56",
    "li-resnet56-b": "resnet56",
}
TOO_LARGE = ("li-resnet110-a", "li-resnet110-b", "li-vgg16-a")
"""Their masks are made and counted on the real networks in tests/pruning/test_presets.py."""

PIECES = ("filter", "channel", "vector", "kernel", "2:4")


def blocks(language: str, text: str = PAGE) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def rows(text: str = PAGE) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for block in blocks("yaml", text):
        found |= yaml.safe_load(block)
    return found


ROWS = rows()
ITERATIVE = rows(PAGE.partition("\n## Over rounds")[2].partition("\n## ")[0])


def shortened(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row whose recovery is one epoch and whose rounds, steps and batches are few."""
    short = copy.deepcopy(row)
    short.pop("control_of", None)
    for part, key, most in (
        ("finetune", "epochs", 1),
        ("prune", "rounds", 5),
    ):
        if key in short[part]:
            short[part][key] = min(short[part][key], most)
    if "isometry" in short["finetune"]:
        short["finetune"]["isometry"]["steps"] = 20
    if "layers" in short["finetune"].get("spectrum", {}):
        short["finetune"]["spectrum"]["layers"] = ["linear"]
    if "evidence" in short["prune"]:
        asked = short["prune"]["evidence"]["batches"]
        short["prune"]["evidence"]["batches"] = asked if asked == "all" else min(asked, 3)
    return short


@pytest.fixture(scope="module")
def studies(tmp_path_factory):
    module = types.ModuleType("my_networks")
    exec(compile(blocks("python")[1], "methods.md", "exec"), module.__dict__)
    sys.modules["my_networks"] = module
    made: dict[str, Study] = {}

    def of(name: str) -> Study:
        network = ON.get(name, "default")
        if network not in made:
            folder = tmp_path_factory.mktemp(network)
            made[network] = Study(folder, **(STUDY | NETWORKS[network]))
        return made[network]

    yield of
    del sys.modules["my_networks"]


@pytest.mark.parametrize("name", ROWS)
def test_every_row_is_valid(name):
    prune = params({**ROWS[name], "control_of": None}).method("it").prune
    assert prune.granularity in {*GRANULARITIES}
    assert ROWS[name].get("control_of", "snip") in ROWS


@pytest.mark.parametrize("name", [name for name in ROWS if name not in TOO_LARGE])
def test_every_row_runs(name, studies):
    study = studies(name)
    iterative = name in ITERATIVE
    found = study.run(shortened(ROWS[name]), rounds=2 if iterative else 1, iterative=iterative)
    prune = params({**ROWS[name], "control_of": None}).method("it").prune
    for n, metrics in enumerate(found, start=1):
        assert metrics["sparsity"] == sparsity(study.network(n).masks)
        check(name, prune, metrics)
    if iterative:
        assert found[1]["sparsity"] > found[0]["sparsity"]


def check(name: str, prune: Any, metrics: dict[str, Any]) -> None:
    """Hold a round's sparsity to its target as closely as its method promises."""
    reached, target = metrics["sparsity"], metrics["target_sparsity"]
    if prune.during["name"] == "none":
        assert reached == 0
    elif prune.during["name"] == "rnn":
        assert reached == pytest.approx(target, abs=0.15)
    elif prune.during["name"] == "trainable_threshold":
        assert 0.01 < reached < 0.99
    elif "threshold" in prune.during:
        assert 0 <= reached < 1  # an outcome, of one epoch here
    elif not prune.has_budget:
        assert 0.01 < reached < 0.95 and target == metrics["sparsity"]
    elif prune.granularity in PIECES:
        assert reached == pytest.approx(target, abs=0.25)
    else:
        assert reached == pytest.approx(target, abs=0.002)
    assert 0 <= metrics["validation_accuracy"] <= 1
    assert ("spectrum" in metrics) == (name in ("spectrum", "isometry"))
    assert ("isometry_loss" in metrics) == (name == "isometry")


def test_guards_hold_layer_by_layer(studies):
    study = studies("guarded")
    row = copy.deepcopy(ROWS["guarded"])
    row["finetune"]["epochs"] = 1
    study.run(row, rounds=2)
    left = {layer.layer: layer for layer in layers(study.network(2).masks)}
    assert left["conv1.weight"].sparsity <= 0.3 and min(layer.kept for layer in left.values()) >= 8
    assert sparsity(study.network(2).masks) == pytest.approx(0.8, abs=0.001)


def test_what_was_pruned_comes_back_only_where_the_row_says_so(studies):
    """Keeping the smallest weights, zeros are wanted back: refused unless regrowth is allowed."""
    study = studies("regrowing")
    row = {**shortened(ROWS["random-weights"])}
    revived = []
    for regrowth in (False, True):
        criterion = {"name": "inverted", "of": "magnitude"}
        row["prune"] = {"criterion": criterion, "allow_regrowth": regrowth}
        row["prune"]["allocation"] = "layerwise"
        study.run(row, rounds=2, iterative=True)
        first, second = study.network(1).masks, study.network(2).masks
        revived.append(sum(int((second[name] & ~first[name]).sum()) for name in first))
    assert revived[0] == 0 < revived[1]


def test_the_tables_name_the_rows_and_no_others():
    cells = [
        line.split("|")[1 if not line.startswith("| of") else 2]
        for line in PAGE.splitlines()
        if line.startswith("| ")
    ]
    index = PAGE.partition("| of the literature")[2].partition("\n## ")[0]
    listed = {name for cell in [*cells, index] for name in re.findall(r"`([\w-]+)`", cell)}
    assert listed <= {*ROWS}
    presets = {f"li-{name.removeprefix('li-2017-')}" for name in PRESETS}
    assert {*ROWS} - listed <= presets <= {*ROWS}


def test_every_choice_of_every_axis_is_in_some_row():
    text = yaml.safe_dump(ROWS)
    used = {str(word) for word in re.findall(r"[\w:.-]+", text)}
    for axis in ("criterion", "allocation", "compensation", "during", "initialization"):
        assert {*catalogue.entries(axis)} - {"hard", "slimming"} <= used
    assert "`during: {name: slimming, strength: 0.0001, scale: 0.5}`" in PAGE
    assert {*catalogue.entries("schedule")} - {"one_shot"} <= used  # `soft` has it unless told
    assert {*GRANULARITIES} - {"column", "weight"} <= used
    assert {*WEIGHTS} | {*RESUME} - {"end"} <= used | {"final"}
    assert {row["prune"].get("preset") for row in ROWS.values()} - {None} == {*PRESETS}
    assert {"init", "best", "final"} <= {str(row["rewind"]) for row in ROWS.values()}


def test_the_python_of_the_page_runs():
    scope: dict[str, Any] = {}
    exec(compile(blocks("python")[0], "methods.md", "exec"), scope)
    assert [*scope["masks"]] == ["0.weight"]
    assert int(scope["masks"]["0.weight"].any(1).sum()) == 6  # of 30 neurons, a fifth
