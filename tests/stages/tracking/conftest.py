"""A small study on disk, as the stages leave it, and MLflow's store to log it into."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[3]
EXPERIMENTS, ROUNDS, FOLDS = ("magnitude", "random"), (1, 2), (0, 1)

PARAMS = """\
study: digits
data: {name: digits}
model: {factory: lenet_300_100}
training: {epochs: 1, learning_rate: {base: 0.1}}
rounds: [{n: 1, from: 0, sparsity: 0.5}, {n: 2, from: 1, sparsity: 0.75}]
experiments: [magnitude, random]
iterative: [magnitude, random]
methods:
  magnitude: {finetune: {epochs: 1}}
  random: {finetune: {epochs: 1}}
"""


class Study:
    """Output folders written by hand, in the shape in which the stages write them."""

    def __init__(self, home: Path) -> None:
        self.home = home
        (home / "params.yaml").write_text(PARAMS)

    def write(self, path: str, key: str, inputs: tuple[str, ...] = (), **entries: Any) -> Path:
        """Write a manifest like the stages': `entries` over what is common to all."""
        folder = self.home / path
        folder.mkdir(parents=True, exist_ok=True)
        sources = {name: self.key(name) for name in inputs}
        common = {"study": "digits", "experiment": "", "round": 0, "folds": [], "params": {}}
        manifest = {**common, "group": {}, **entries, "inputs": sources, "key": key}
        (folder / "manifest.json").write_text(json.dumps(manifest, sort_keys=True))
        return folder

    def key(self, path: str) -> str:
        return str(json.loads((self.home / path / "manifest.json").read_text())["key"])

    def prepared(self) -> Path:
        folder = self.write("data/prepared", "d" * 64, stage="prepare", params={"name": "digits"})
        (folder / "data.safetensors").write_bytes(bytes(100))
        (folder / "folds.json").write_text('{"train": [1, 2]}')
        (folder / "meta.json").write_text('{"name": "digits"}')
        return folder

    def dense(self) -> Path:
        manifest = {"stage": "pretrain", "experiment": "dense", "folds": [0, 1]}
        folder = self.write(
            "work/dense", "e" * 64, ("data/prepared",), group={"model": "lenet"}, **manifest
        )
        for fold in FOLDS:
            part = self._fold(folder, fold, {"validation_accuracy": 0.9})
            (part / "snapshots").mkdir(exist_ok=True)
            (part / "snapshots" / "step-0.safetensors").write_bytes(bytes(8))
        return folder

    def tuned(
        self, experiment: str, n: int, *, rate: float = 0.1, key: str = "", bonus: float = 0.0
    ) -> Path:
        """Write a round: accuracy 0.8 + fold / 10 + `bonus`, 100 / 2^n of 100 weights kept."""
        path = f"work/{experiment}/round-{n}/tuned"
        before = f"work/{experiment}/round-{n - 1}/tuned" if n > 1 else "work/dense"
        learning_rate = {"base": rate, "milestones": [1, 2]}
        folder = self.write(
            path,
            key or f"{experiment}-{n}-{rate}",
            ("data/prepared", before),
            stage="finetune",
            experiment=experiment,
            round=n,
            folds=[0, 1],
            params={"learning_rate": learning_rate, "sparsity": 1 - 0.5**n},
            group={"criterion": experiment, "learning_rate": learning_rate},
        )
        for fold in FOLDS:
            kept = {"weights": 100, "weights_kept": 100 // 2**n, "sparsity": 1 - 0.5**n}
            accuracy = {"test_accuracy": 0.8 + fold / 10 + bonus}
            self._fold(folder, fold, {**kept, **accuracy, "rewound_to": "step 5"})
        return folder

    def reports(self) -> Path:
        sources = tuple(f"work/{name}/round-2/tuned" for name in EXPERIMENTS)
        folder = self.write("reports", "c" * 64, sources, stage="compare")
        (folder / "report.md").write_text("# Which is better?\n")
        found = {"magnitude": {"round-2": {"test_accuracy": 0.85, "best": None}}}
        (folder / "metrics.json").write_text(json.dumps(found))
        return folder

    def whole(self) -> list[Path]:
        """Write everything; return the folders in the order in which they are made."""
        first = [self.prepared(), self.dense()]
        rounds = [self.tuned(name, n) for name in EXPERIMENTS for n in ROUNDS]
        return [*first, *rounds, self.reports()]

    def _fold(self, folder: Path, fold: int, metrics: dict[str, Any]) -> Path:
        part = folder / f"fold-{fold}"
        part.mkdir(exist_ok=True)
        (part / "metrics.json").write_text(json.dumps(metrics))
        (part / "weights.safetensors").write_bytes(bytes([fold]) * 10)
        (part / "masks.safetensors").write_bytes(bytes([255]))
        (part / "layers.csv").write_text("layer,shape,kept\nfc.weight,4x3,6\n")
        rows = "10,0,train,1.5,,0.1\n10,0,validation,1.25,0.5,0.1\n20,1,train,nan,,0.01\n"
        (part / "history.csv").write_text("step,epoch,split,loss,accuracy,learning_rate\n" + rows)
        return part


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with MLflow's tables and nothing in them: making them takes seconds."""
    folder = tmp_path_factory.mktemp("store")
    code = f"from stages import tracking; tracking.open(study='none', folder={str(folder)!r})"
    done = python(code)
    assert not done.stderr, done.stderr
    return folder / "mlflow.db"


@pytest.fixture
def study(tmp_path: Path, empty_store: Path, monkeypatch: pytest.MonkeyPatch) -> Study:
    """Return an empty study whose folder, with a space in its name, is the current one."""
    home = tmp_path / "my study"
    home.mkdir()
    shutil.copy(empty_store, home / "mlflow.db")
    monkeypatch.chdir(home)
    for name in [name for name in os.environ if name.startswith(("MLFLOW_", "PRUNING_"))]:
        monkeypatch.delenv(name)
    return Study(home)


@pytest.fixture
def client(study: Study) -> Iterator[Any]:
    """Return MLflow's own client of the study's store."""
    from mlflow import MlflowClient

    uri = f"sqlite:///{study.home / 'mlflow.db'}"
    yield MlflowClient(uri, registry_uri=uri)


@pytest.fixture
def runs(client: Any) -> Callable[..., list[Any]]:
    """Return a function that finds the study's runs with these tags, oldest first."""

    def find(client: Any = client, **tags: str) -> list[Any]:
        found = client.get_experiment_by_name("digits")
        if found is None:
            return []
        order = ["attributes.start_time ASC"]
        every = client.search_runs([found.experiment_id], order_by=order)
        return [run for run in every if tags.items() <= run.data.tags.items()]

    return find


@pytest.fixture
def run_python() -> Callable[..., subprocess.CompletedProcess[str]]:
    return python


def python(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run code in a process of its own; its output comes back, whatever its exit code."""
    return subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        capture_output=True,
        text=True,
        timeout=120,
    )
