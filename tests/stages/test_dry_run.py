"""What a dry run lists: what matches, what each would lose, what is coupled, what would die."""

from pathlib import Path

import pytest

from pruning.network import load
from stages.reporting import dry_run
from tests.stages.one_fold import Study, params

FINETUNE = {"epochs": 1, "learning_rate": {"base": 0.01}}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("dry"))


def said(study: Study, prune: dict, n: int = 1) -> list[str]:
    row = {"rewind": "init", "prune": prune, "finetune": FINETUNE}
    study.run({**row, "prune": {}})
    with study.entered():
        before = {path: path.stat().st_mtime_ns for path in Path("work").rglob("*")}
        found = dry_run.report(params(row), "it", n, 0)
        assert before == {path: path.stat().st_mtime_ns for path in Path("work").rglob("*")}
    return found


def test_filters_with_what_goes_with_them(study):
    lines = said(study, {"granularity": "filter", "allocation": "layerwise"})
    assert lines[0] == "it, round 1, fold 0: target sparsity 0.5, nothing is written"
    assert "keeps 18 of 36 weights, 2 of 4 filters, sparsity 0.5000" in lines[1]
    assert "  4 channels: bn1.bias[0], bn1.weight[0], conv1.weight[0], conv2.weight[1]" in lines
    assert lines[-1] == "pinned: 10 of 10 of linear.weight, by output in the network itself"
    assert "would die: no layer" in lines


def test_what_would_die_is_named_and_nothing_is_coupled_between_single_weights(study):
    scores = {"name": "threshold", "s": {"conv1.weight": 50, "*": 0.1}}
    lines = said(study, {"allocation": scores, "on_collapse": "warn", "skip": ["linear.weight"]})
    assert lines[0].endswith("no target but its allocation's own, nothing is written")
    assert "would die: conv1.weight" in lines
    assert any(line.startswith("not up for pruning: bn1.weight, ") for line in lines)
    assert any("linear.weight" in line for line in lines if line.startswith("not up"))
    assert not any(line.startswith("coupled") for line in lines)


@pytest.mark.parametrize(
    ("prune", "aim"),
    [
        ({"score_weights": "rewound"}, "target sparsity 0.5"),
        (
            {"during": "gradual"},
            "target sparsity 0.5; gradual chooses the masks later, while training",
        ),
    ],
)
def test_what_is_listed_is_what_prune_writes(tiny, prune, aim):
    params = tiny.params({"prune": prune})
    tiny.start(params)
    first, *lines = dry_run.report(params, "row", 1, 0)
    assert first == f"row, round 1, fold 0: {aim}, nothing is written"
    for line, (name, mask) in zip(lines, load(tiny.prune(params)).masks.items(), strict=False):
        assert line.split()[0] == name
        assert f" keeps {int(mask.sum())} of {mask.numel()} weights" in line
