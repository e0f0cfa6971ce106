"""The sensitivity analysis of one fold, for experiments of every kind."""

from pathlib import Path
from unittest.mock import patch

import pandas as pd
import pytest
from torch import nn

from pruning.facts import read_json
from stages import sensitivity
from stages.files import RESUME
from tests.stages.one_fold import Study, params

FINETUNE = {"epochs": 1, "learning_rate": {"base": 0.01}}
ROWS = {
    "weights": {"criterion": "snip"},
    "compensated": {"criterion": "l_obs", "compensation": "l_obs", "evidence": {"batches": 1}},
    "coupled filters": {"granularity": "filter", "coupled": "mean", "skip": ["linear.weight"]},
    "ratios of their own": {"allocation": {"name": "per_layer", "ratios": {"conv1.*": 0.5}}},
    "chosen in training": {"during": "gradual", "only": ["conv2.weight", "conv3.weight"]},
}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("sensitivity"))


@pytest.mark.parametrize("name", ROWS)
def test_each_layer_that_the_row_prunes_is_pruned_alone(study, name, monkeypatch):
    monkeypatch.setattr(sensitivity, "SPARSITIES", (0.0, 0.5, 0.9))
    row = {"rewind": "init", "prune": ROWS[name], "finetune": FINETUNE}
    study.run(row)
    made = params(row)
    with study.entered():
        fold = Path(name) / "fold-0"
        fold.mkdir(parents=True)
        with patch.object(nn.Module, "to", autospec=True, side_effect=nn.Module.to) as to:
            sensitivity.measure_fold(made, "it", fold, RESUME, 0, lambda *_: None)
        assert to.call_args_list[0].args[1:] == ("cpu",)  # where the data is
        sensitivity.summarise(Path(name), tolerance=1.0)
        table = pd.read_csv(fold / "sensitivity.csv")
        ratios = read_json(Path(name) / "ratios.json")
        told = sensitivity.lines(Path(name))
    layers = {"conv1.weight", "conv2.weight", "conv3.weight", "linear.weight"}
    layers -= {*ROWS[name].get("skip", ())}
    assert {*table["layer"]} == (layers & {*ROWS[name].get("only", layers)})
    assert len(table) == 3 * table["layer"].nunique()
    assert set(ratios.values()) == {0.9}  # any loss is tolerated
    assert told[-1].startswith("allocation: {name: per_layer, ratios: {")
    assert (study.folder / name / "sensitivity.png").read_bytes().startswith(b"\x89PNG")
