"""A loss that turns NaN in a real study: one line, a failed run in MLflow, and nothing lost."""

import sqlite3
from contextlib import closing

import pytest
from safetensors.torch import load_file

from .conftest import SMALL, new_study

RATE = '''
def exploding(epoch, epochs):
    """Return a rate that breaks training in its second epoch."""
    return 1.0 if epoch < 1 else 1e30
'''


@pytest.fixture(scope="module")
def failed(tmp_path_factory):
    """Return a study whose pretraining diverges, after it has."""
    training = {**SMALL["training"], "learning_rate": {"base": 0.05, "name": "rates:exploding"}}
    params = {**SMALL, "training": training, "tracking": True, "study": "failing"}
    params["own_code"] = ["rates.py"]
    study = new_study(tmp_path_factory.mktemp("failing") / "study", params)
    (study.folder / "rates.py").write_text(RATE)
    study.stage("prepare", PRUNING_TRACKING="off")
    study.done = study.stage("pretrain", check=False)
    return study


def test_it_is_one_line_that_names_the_epoch(failed):
    assert failed.done.returncode == 2
    (line,) = failed.done.stderr.splitlines()
    assert line.startswith("error: fold 0: the loss became ")
    assert "in epoch 2 (step" in line


def test_the_last_good_checkpoint_is_kept_and_no_output_is_there(failed):
    assert not (failed.folder / "work" / "dense").exists()
    for fold in (0, 1):
        (path,) = (failed.folder / "work" / ".resume").glob(f"pretrain-*/fold-{fold}/last.*")
        tensors = load_file(path)
        assert int(tensors["step"]) == 5  # 718 digits in batches of 128: five steps an epoch
        assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_its_runs_in_mlflow_are_failed_and_say_why(failed):
    with closing(sqlite3.connect(failed.folder / "mlflow.db")) as store:
        runs = dict(store.execute("select name, status from runs"))
        errors = dict(
            store.execute(
                "select name, value from runs join tags on runs.run_uuid = tags.run_uuid "
                "where key = 'error'"
            )
        )
    assert runs["dense fold 0"] == runs["dense fold 1"] == "FAILED"
    assert "in epoch 2" in errors["dense fold 0"]


def test_dvc_tells_the_same_and_tries_again(failed):
    done = failed.run("dvc", "repro", "pretrain", check=False, PRUNING_TRACKING="off")
    assert done.returncode != 0
    assert "in epoch 2 (step" in done.stderr
    assert "failed to reproduce 'pretrain'" in done.stderr
