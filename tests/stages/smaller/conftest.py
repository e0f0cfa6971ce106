"""A study of filters that go whole, run stage by stage in this process: no DVC, no MLflow."""

from contextlib import chdir
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
import yaml

from pruning.coupling.groups import channels
from pruning.macs import macs
from pruning.models import build
from stages.evaluate import evaluate
from stages.export import export
from stages.finetune import finetune
from stages.gains import gains
from stages.prepare import prepare
from stages.pretrain import pretrain
from stages.prune import prune
from stages.snapshot import snapshot

FINETUNE = {"resume": "end", "epochs": 1, "learning_rate": {"base": 0.01}}

SMALLER = {
    "study": "smaller",
    "data": {"name": "digits"},
    "cross_validation": {"folds": 2, "seed": 0},
    "model": {"factory": "digits_conv", "width": 8},
    "training": {
        "epochs": 3,
        "batch_size": 128,
        "optimizer": {"name": "sgd", "momentum": 0.9},
        "learning_rate": {"base": 0.1, "name": "cosine"},
    },
    "snapshots": {},
    "rounds": [
        {"n": 1, "from": 0, "target": {"macs": 0.6}},
        {"n": 2, "from": 1, "target": {"macs": 0.3}},
    ],
    "experiments": ["groups", "alone"],
    "iterative": ["groups"],
    "one_shot": ["alone"],
    "control": None,
    "methods": {
        "groups": {
            "rewind": "init",
            "prune": {"granularity": "filter", "coupled": "mean", "allocation": "layerwise"},
            "finetune": FINETUNE,
        },
        "alone": {
            "rewind": "init",
            "prune": {
                "criterion": "random",
                "granularity": "filter",
                "coupled": "whole",
                "allocation": "layerwise",
            },
            "finetune": FINETUNE,
        },
    },
    "tracking": False,
    "export": ["groups"],
    "exporting": {"formats": ["program", "onnx", "compressed"], "repeats": 5},
}


@dataclass
class Study:
    """A study's folder; its stages are called as functions."""

    folder: Path

    def write(self, params: dict, name: str = "params.yaml") -> Path:
        """Write a file of settings beside the study's own."""
        path = self.folder / name
        path.write_text(yaml.safe_dump(params, sort_keys=False))
        return path

    def upto_dense(self, params: Path) -> None:
        """Prepare the data and make the dense network."""
        prepare(params=params)
        pretrain(params=params)
        evaluate(experiment="dense", round_=0, params=params)

    def round(self, experiment: str, n: int, params: Path) -> None:
        """Run one round of an experiment."""
        prune(experiment=experiment, round_=n, params=params)
        finetune(experiment=experiment, round_=n, params=params)
        evaluate(experiment=experiment, round_=n, params=params)


@pytest.fixture(scope="session")
def study(tmp_path_factory) -> Study:
    """Return a study with everything up to evaluate done, the second round of one experiment."""
    made = Study(tmp_path_factory.mktemp("smaller"))
    params = made.write(SMALLER)
    # The workers that are forked from this process then have the exporter's modules.
    network = build(SMALLER["model"]), torch.zeros(2, 1, 8, 8)
    channels(*network), macs(*network)
    with chdir(made.folder):
        made.upto_dense(params)
        for experiment in SMALLER["experiments"]:
            snapshot(experiment=experiment, params=params)
            made.round(experiment, 1, params)
        made.round("groups", 2, params)
    return made


@pytest.fixture
def inside(study, monkeypatch) -> Study:
    """Return the study, with its folder the current one."""
    monkeypatch.chdir(study.folder)
    return study


@pytest.fixture(scope="session")
def exported(study) -> Path:
    """Return the folder of the network that an experiment hands on, exported and timed."""
    with chdir(study.folder):
        export(experiment="groups", params=study.folder / "params.yaml")
        gains(experiment="groups", params=study.folder / "params.yaml")
    return study.folder / "exports" / "groups" / "handed-on"
