"""Stages that a person runs by hand beside `dvc repro`: a dry run, a sensitivity analysis."""

import json
import re
import shlex

import pandas as pd
import yaml

from tests.pipeline.conftest import ROOT


def test_a_dry_run_lists_what_would_go_and_writes_nothing(study):
    before = {path: path.stat().st_mtime_ns for path in (study.folder / "work").rglob("*")}

    def filters(params):
        params["methods"]["at-once"]["prune"]["granularity"] = "filter"

    study.params(filters)
    options = ("--experiment", "at-once", "--round", "1", "--dry-run")
    said = study.stage("prune", *options).stdout
    # conv1 of width 4 keeps half of its 4 filters, 9 weights each
    assert "conv1.weight" in said
    assert "keeps 18 of 36 weights, 2 of 4 filters, sparsity 0.5000" in said
    assert "not up for pruning: bn1.weight, bn1.bias" in said
    assert "would die: no layer" in said
    assert "4 channels: bn1.bias[0], bn1.weight[0], conv1.weight[0], conv2.weight[1]" in said
    assert "pinned: 10 of 10 of linear.weight, by output in the network itself" in said
    after = {path: path.stat().st_mtime_ns for path in (study.folder / "work").rglob("*")}
    assert after == before


def test_sensitivity_measures_each_layer_alone_and_proposes_ratios(study):
    """Added to the pipeline as docs/methods.md says, and cached by it."""
    page = (ROOT / "docs" / "methods.md").read_text()
    command = re.search(r"```bash\n(dvc stage add .*?)```", page, flags=re.DOTALL)[1]
    study.run(*shlex.split(command.replace("one-shot-layerwise", "at-once").replace("\\\n", " ")))
    said = study.run("dvc", "repro", "sensitivity").stdout
    assert "didn't change" in study.run("dvc", "repro", "sensitivity").stdout
    folder = study.folder / "work" / "sensitivity" / "at-once"
    table = pd.read_csv(folder / "fold-0" / "sensitivity.csv")
    layers = ["conv1.weight", "conv2.weight", "conv3.weight", "linear.weight"]
    assert list(table["layer"].unique()) == layers
    dense = table[table["sparsity"] == 0]["validation_accuracy"]
    assert dense.nunique() == 1  # nothing pruned: the same network for every layer
    assert (folder / "sensitivity.png").stat().st_size > 0
    assert all(f"{layer}: 0" in said for layer in layers)
    row = yaml.safe_load(re.search(r"^allocation: .*$", said, flags=re.MULTILINE)[0])
    assert row["allocation"]["ratios"] == json.loads((folder / "ratios.json").read_text())


NOT_A_NUMBER = """
import torch


def scores(model, params, evidence):
    return {name: torch.full_like(weight, torch.nan) for name, weight in params.items()}
"""


def test_a_criterion_of_ones_own_that_goes_wrong_is_told_in_one_line(study):
    """A real stage: exit code 2, the criterion, the layer, no traceback, what was there stays."""
    (study.folder / "my_criterion.py").write_text(NOT_A_NUMBER)

    def name_it(params):
        params["methods"]["at-once"]["prune"]["criterion"] = "my_criterion:scores"
        params["own_code"] = ["my_criterion.py"]

    kept = study.folder / "work" / "at-once" / "round-1" / "pruned" / "manifest.json"
    content = kept.read_bytes()
    study.params(name_it)
    done = study.stage("prune", "--experiment", "at-once", "--round", "1", check=False)
    assert done.returncode == 2
    told = "error: fold 0: criterion 'my_criterion:scores' returned NaN for layer 'conv1.weight'"
    assert [line for line in done.stderr.splitlines() if line] == [told]
    assert kept.read_bytes() == content
