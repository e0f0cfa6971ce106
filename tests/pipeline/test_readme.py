"""Every command of the README, run as it stands in a study of the README's names."""

import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest
import yaml

from .conftest import ROOT, RUNNING, new_study, same

README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"```(\w+)\n(.*?)```", README, flags=re.DOTALL)
COMMANDS = [line for kind, text in BLOCKS if kind == "bash" for line in text.splitlines()]
PYTHON = [text for kind, text in BLOCKS if kind == "python"]


def shortened() -> dict:
    """Return the default params, with few epochs, two folds and one round."""
    params = yaml.safe_load((ROOT / "params.yaml").read_text())
    params["cross_validation"]["folds"] = 2
    params["training"] |= {"epochs": 3, "batch_size": 256}
    params["rounds"] = params["rounds"][:1]
    for method in params["methods"].values():
        if "epochs" in method["finetune"]:
            method["finetune"]["epochs"] = 1
    return params


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study laid out as a clone is, whose environment is the one the tests run in."""
    study = new_study(tmp_path_factory.mktemp("readme") / "clone", shortened())
    for name in ("Makefile", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, study.folder / name)
    (study.folder / "tests").mkdir()
    (study.folder / "tests" / "test_one.py").write_text("def test_one():\n    assert 1 + 1 == 2\n")
    # `make` finds its environment made: it is the one that runs the tests.
    (study.folder / ".venv").symlink_to(sys.prefix)
    (study.folder / ".venv" / "installed").touch()
    return study


@pytest.fixture(scope="module")
def reproduced(study):
    """Return the study after `make repro`."""
    study.output = study.run("make", "repro").stdout
    return study


def test_stages_run_executes_the_same_stages_and_leaves_the_same_bytes(reproduced, tmp_path):
    study = new_study(tmp_path / "clone", shortened())
    executed = study.ran("--jobs", "2", PRUNING_TRACKING="off")
    assert executed == set(RUNNING.findall(reproduced.output))
    same(study, reproduced)
    assert "up to date" in study.run("dvc", "status").stdout


def test_make_repro_ends_with_a_table_pictures_and_the_way_to_mlflow(reproduced):
    assert "| iterative-magnitude" in reproduced.output
    assert "make ui" in reproduced.output.splitlines()[-1]
    reports = reproduced.folder / "reports"
    for name in ("report.md", "accuracy.png", "layers.png", "iterative.png", "accuracy.csv"):
        assert (reports / name).stat().st_size > 0, name


def test_what_the_report_shows_is_in_mlflow_too_with_a_network_an_experiment(reproduced):
    artifacts = reproduced.folder / "mlartifacts"
    for name in ("report.md", "accuracy.csv", "accuracy.png", "layers.png", "iterative.png"):
        logged = [path.read_bytes() for path in artifacts.glob(f"*/artifacts/compare/{name}")]
        assert (reproduced.folder / "reports" / name).read_bytes() in logged
    experiments = reproduced.params()["experiments"]
    models = list(artifacts.glob("models/*/artifacts/data/model.pt2"))
    assert len(models) == len(experiments)
    with closing(sqlite3.connect(reproduced.folder / "mlflow.db")) as store:
        runs = dict(store.execute("select name, status from runs"))
    assert {"dense", *experiments, *(f"{name} fold 1" for name in experiments)} <= runs.keys()
    assert set(runs.values()) == {"FINISHED"}


@pytest.mark.parametrize("command", [line for line in COMMANDS if line != "make repro"])
def test_command(reproduced, command):
    tracking = "on" if "sync" in command else "off"  # the stages log, as `make repro` has shown
    # TESTS is for `make test`: collecting `pruning` as well would import torch in three processes.
    reproduced.run(*shlex.split(command), PRUNING_TRACKING=tracking, TESTS="tests")


def test_the_two_lines_load_a_pruned_network(reproduced):
    code = next(text for text in PYTHON if "pruning.load" in text)
    check = "\nimport torch\nassert network.model(torch.zeros(1, 1, 8, 8)).shape == (1, 10)"
    reproduced.run(sys.executable, "-c", f"{code}{check}\nassert network.masks")


def test_pruning_a_network_of_your_own():
    code = next(text for text in PYTHON if "pruning.enforced" in text)
    check = "\nassert abs(sum(int(m.sum()) for m in masks.values()) / 1100 - 0.1) < 1e-9"
    subprocess.run([sys.executable, "-c", code + check], cwd=ROOT, check=True)


def test_adding_a_criterion_is_one_function(reproduced):
    code = next(text for text in PYTHON if "def smallest_first_layer" in text)
    (reproduced.folder / "my_criteria.py").write_text(code)

    def choose(params):
        row = params["methods"]["iterative-magnitude"]["prune"]
        row["criterion"] = {"name": "my_criteria:smallest_first_layer", "power": 2.0}
        params["own_code"] = ["my_criteria.py"]

    before = (reproduced.folder / "params.yaml").read_text()
    reproduced.params(choose)
    reproduced.stage("prune", "--experiment", "iterative-magnitude", "--round", "1")
    (reproduced.folder / "params.yaml").write_text(before)


def test_every_yaml_row_of_the_readme_is_valid(tmp_path):
    from stages.params import read

    for text in (text for kind, text in BLOCKS if kind == "yaml"):
        params = shortened()
        row = yaml.safe_load(text)
        params["methods"] |= row.pop("methods", {})
        path = tmp_path / "params.yaml"
        path.write_text(yaml.safe_dump({**params, **row}))
        assert read(path)
