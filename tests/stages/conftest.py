"""A tiny study on real digits, its stages called in this process, one fold at a time."""

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from stages import command, files
from stages.params import Params, read

TINY: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits", "limit": 300},
    "cross_validation": {"folds": 3, "seed": 0},
    "model": {"factory": "lenet_300_100", "inputs": 64},
    "training": {
        "epochs": 3,
        "batch_size": 40,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0005},
        "learning_rate": {"base": 0.1, "name": "multistep", "milestones": [2]},
    },
    "snapshots": {"steps": [5], "epochs": [1]},
    "rounds": [{"n": 1, "from": 0, "sparsity": 0.5}, {"n": 2, "from": 1, "sparsity": 0.8}],
    "experiments": ["row"],
    "iterative": ["row"],
    "one_shot": [],
    "control": None,
    "methods": {},
    "tracking": False,
}

ROW: dict[str, Any] = {
    "rewind": {"epoch": 1},
    "prune": {"criterion": "magnitude", "allocation": "global"},
    "finetune": {"weights": "rewound", "resume": "rewound"},
}


def quiet(done: int, total: int) -> None:
    """Report to nobody."""


class Tiny:
    """Fold 0 of the tiny study in the current folder: its stages as functions."""

    def __init__(self, home: Path) -> None:
        self.home = home

    def params(self, row: dict[str, Any] | None = None, **changes: Any) -> Params:
        """Return the tiny study's params with the settings of its row and others changed."""
        found = copy.deepcopy({**TINY, "methods": {"row": ROW}, **changes})
        for key, value in (row or {}).items():
            old = found["methods"]["row"][key]
            both = isinstance(old, dict) and isinstance(value, dict) and key != "rewind"
            found["methods"]["row"][key] = {**old, **value} if both else value
        path = self.home / "params.yaml"
        path.write_text(yaml.safe_dump(found))
        return read(path)

    @staticmethod
    def settings(part: str, **changes: Any) -> dict[str, Any]:
        """Return a part of the tiny study's params with some of its settings changed."""
        return {**TINY[part], **changes}

    def dense(self, study: Params, report: Any = quiet) -> Path:
        """Pretrain fold 0 and return its folder."""
        from stages import pretrain

        folder = new(files.DENSE / "fold-0")
        pretrain.train_fold(study, folder, Path("resume"), 0, report)
        return folder

    def start(self, study: Params) -> Path:
        """Lay the row's round 0 out and return its folder."""
        from stages import snapshot

        folder = new(files.start_of("row") / "fold-0")
        folder.rmdir()
        snapshot.lay_out(files.DENSE / "fold-0", folder, study.method("row").rewind)
        return folder

    def prune(self, study: Params, n: int = 1) -> Path:
        """Prune a round and return its folder."""
        from stages import prune

        folder = new(files.pruned("row", n) / "fold-0")
        prune.prune_fold(study, "row", n, folder, Path("resume"), 0, quiet)
        return folder

    def recover(self, study: Params, n: int = 1, report: Any = quiet) -> Path:
        """Recover a round and return its folder."""
        from stages import finetune

        folder = new(files.tuned("row", n) / "fold-0")
        finetune.recover_fold(study, "row", n, folder, Path("resume"), 0, report)
        return folder


def new(folder: Path) -> Path:
    """Return `folder` empty."""
    import shutil

    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


@pytest.fixture(scope="session", autouse=True)
def _outlive_the_parent() -> Iterator[None]:
    """Stages die with the process that started them; the tests that call them must not."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "die_with_parent", lambda: None)
        yield


@pytest.fixture(scope="session")
def tiny_home(tmp_path_factory) -> Path:
    """Return a folder with the tiny study prepared and fold 0's dense network trained."""
    from stages.prepare import prepare

    home = tmp_path_factory.mktemp("tiny")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(home)
        study = Tiny(home).params()
        prepare(home / "params.yaml")
        Tiny(home).dense(study)
    return home


@pytest.fixture
def tiny(tiny_home, monkeypatch) -> Tiny:
    """Return the tiny study, its folder the current one."""
    monkeypatch.chdir(tiny_home)
    return Tiny(tiny_home)
