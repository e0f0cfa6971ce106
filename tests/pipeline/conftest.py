"""A real study in a folder of its own: real DVC, real MLflow, real processes, few steps."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml
from filelock import FileLock

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
DONE = re.compile(r"^(\S+): done in ", flags=re.MULTILINE)
"""What `stages.run` says of a stage that it has executed."""

RUNNING = re.compile(r"Running stage '(.+)':")
"""What `dvc repro` says of a stage that it executes."""

NOT_THEIRS = (
    *("MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"),
    "PYTHONDONTWRITEBYTECODE",  # a study's many processes would each compile its code again
)

OUTPUTS = ("data/prepared", "work", "results", "reports")

SMALL = {
    "study": "small",
    "code": ".",
    "data": {"name": "digits"},
    "cross_validation": {"folds": 2, "seed": 0},
    "model": {"factory": "digits_conv", "width": 4},
    "training": {
        "epochs": 2,
        "batch_size": 128,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0005},
        "learning_rate": {"base": 0.1, "name": "cosine"},
    },
    "snapshots": {"epochs": [1]},
    "rounds": [{"n": 1, "from": 0, "sparsity": 0.5}, {"n": 2, "from": 1, "sparsity": 0.8}],
    "experiments": ["step-by-step", "at-once"],
    "iterative": ["step-by-step"],
    "one_shot": ["at-once"],
    "controls": [],
    "control": None,
    "methods": {
        "step-by-step": {
            "rewind": {"epoch": 1},
            "prune": {"criterion": "magnitude", "allocation": "global"},
            "finetune": {"weights": "rewound", "resume": "rewound"},
        },
        "at-once": {
            "rewind": "init",
            "prune": {"criterion": "magnitude", "allocation": "layerwise"},
            "finetune": {"resume": "end", "epochs": 1, "learning_rate": {"base": 0.01}},
        },
    },
    "tracking": False,
    "papers": None,
    "export": [],
    "exporting": {},
    "checkpoints": [],
    "own_code": [],
}


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a study's commands: this one, with the environment's own tools."""
    paths = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "OMP_NUM_THREADS": "1"}
    # Under `make test` a study's own `make` is not a part of that one.
    outer = {name: value for name, value in os.environ.items() if name not in NOT_THEIRS}
    return {**outer, **paths, **more}


@dataclass
class Study:
    """A study folder and the commands run in it."""

    folder: Path

    def params(self, change=None) -> dict:
        """Return the params, after `change` has changed them in place."""
        path = self.folder / "params.yaml"
        params = yaml.safe_load(path.read_text())
        if change:
            change(params)
            path.write_text(yaml.safe_dump(params, sort_keys=False))
        return params

    def run(self, *command: str, check: bool = True, **variables: str):
        """Run a command in the study; stdout and stderr are kept apart."""
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment(**variables),
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
        )
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def stage(self, name: str, *options: str, check: bool = True, **variables: str):
        """Run one stage's command."""
        return self.run(sys.executable, "-m", f"stages.{name}", *options, check=check, **variables)

    def ran(self, *options: str, **variables: str) -> set[str]:
        """Run `python -m stages.run` and return the stages that it executed."""
        return set(DONE.findall(self.stage("run", *options, **variables).stdout))

    def repro(self, *options: str) -> set[str]:
        """Run `dvc repro` and return the stages that it executed."""
        done = self.run("dvc", "repro", *options)
        return set(RUNNING.findall(done.stdout))


def new_study(folder: Path, params: dict) -> Study:
    """Lay out a study with its own copy of the code, under git and DVC."""
    folder.mkdir(parents=True)
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("pruning", "stages"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignore)
    for name in ("dvc.yaml", ".dvcignore", ".gitignore"):
        shutil.copy(ROOT / name, folder / name)
    (folder / "data").mkdir()
    shutil.copy(ROOT / "data" / "paper_results.csv", folder / "data")
    (folder / ".dvc").mkdir()
    shutil.copy(ROOT / ".dvc" / "config", folder / ".dvc" / "config")
    (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
    study = Study(folder)
    study.run("git", "init", "-q", ".")
    return study


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the README's study: one process runs it while another makes `finished`."""
    items.sort(key=lambda item: item.path.name != "test_readme.py")


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Study:
    """Return a study that was run from nothing, by `stages.run`: it starts few processes.

    What a test does in it leaves the same bytes: whoever changes it takes a copy, `study`. That
    `dvc repro` leaves them too is asked of the README's study.
    """
    own = tmp_path_factory.mktemp("study")
    # One of the processes of a test run makes it; each has a copy, as commands lock their folder.
    several = "PYTEST_XDIST_WORKER" in os.environ
    made = tmp_path_factory.getbasetemp().parent / "finished" if several else own
    executed = made / "executed.json"
    with FileLock(f"{made}.lock"):
        if not executed.is_file():
            shutil.rmtree(made / "small", ignore_errors=True)
            ran = new_study(made / "small", SMALL).ran("--jobs", "2")
            executed.write_text(json.dumps(sorted(ran)))
    study = Study(own / "small")
    if several:
        shutil.copytree(made / "small", study.folder, symlinks=True)
    study.executed = set(json.loads(executed.read_text()))  # type: ignore[attr-defined]
    return study


@pytest.fixture
def study(finished: Study, tmp_path: Path) -> Study:
    """Return a copy of the finished study, for a test to change."""
    folder = tmp_path / "study" / "small"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Study(folder)


def digest(folder: Path) -> dict[str, str]:
    """Return the hash of every file in `folder`."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def same(one: Study, other: Study) -> None:
    """Assert that two studies hold the same outputs and the same dvc.lock, to the byte."""
    for name in OUTPUTS:
        assert digest(one.folder / name) == digest(other.folder / name), name
    lock = (one.folder / "dvc.lock").read_text()
    assert lock == (other.folder / "dvc.lock").read_text()
