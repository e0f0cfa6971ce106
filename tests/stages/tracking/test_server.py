"""A server that is absent, hangs or stops in the middle costs one line, and no result."""

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request

import pytest

from stages import sync, tracking
from stages.tracking import store

# MLflow asks SQLAlchemy for what that will drop
pytestmark = pytest.mark.filterwarnings("ignore:The ``noload`` loader:DeprecationWarning")


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def serve(folder, port):
    """Start MLflow's server on a store in `folder`; return its process once it answers."""
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", "server", "--workers", "1", "--port", str(port)),
            *("--backend-store-uri", f"sqlite:///{folder}/mlflow.db"),
            *("--artifacts-destination", str(folder / "artifacts")),
        ],
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    for _ in range(600):
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=5).close()
            return process
        except OSError:
            time.sleep(0.1)
    stop(process)
    raise TimeoutError("the server does not answer")


def stop(process):
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


@pytest.fixture
def server(tmp_path, empty_store):
    """Return (address, stop, start) of a running server; start it again with the same store."""
    folder, port = tmp_path / "server", free_port()
    folder.mkdir()
    shutil.copy(empty_store, folder / "mlflow.db")
    running = [serve(folder, port)]
    yield (
        f"http://127.0.0.1:{port}",
        lambda: stop(running.pop()),
        lambda: running.append(serve(folder, port)),
    )
    for process in running:
        stop(process)


def test_a_server_stopped_in_the_middle_loses_nothing(study, runs, server, monkeypatch, capsys):
    from mlflow import MlflowClient

    address, stop_it, start_it = server
    folders = study.whole()
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    with tracking.open(study="digits") as tracker:
        assert [tracker.log(folder) for folder in folders[:3]] == [True] * 3
        manifest = json.loads((folders[3] / "manifest.json").read_text())
        live = tracker.live(folders[3], manifest, 0)
        stop_it()
        begun = time.monotonic()
        live.progress([{"step": 10, "split": "train", "loss": 1.5}])
        assert [tracker.log(folder) for folder in folders[3:]] == [False] * 4
        assert time.monotonic() - begun < 30
    told = capsys.readouterr()
    assert told.err == (
        f"warning: MLflow at {address} does not answer; results are in files; "
        "`python -m stages.sync` will log them later\n"
    )
    assert told.out == ""
    start_it()
    with tracking.open(study="digits", strict=True) as tracker:
        assert sync.log_missing(tracker, study.home) == 0
    assert "4 folders logged, 3 already there" in capsys.readouterr().out
    client = MlflowClient(address)
    (run,) = runs(client, experiment="magnitude", fold="0")
    assert (run.info.status, run.data.tags["restored_from"]) == ("FINISHED", "dvc")
    history = client.get_metric_history(run.info.run_id, "sparsity")
    assert [(m.step, m.value) for m in history] == [(1, 0.5), (2, 0.75)]
    assert len(client.get_metric_history(run.info.run_id, "round-2/train_loss")) == 2
    for name in ("magnitude", "random", "dense"):
        assert len(runs(client, experiment=name)) == 3
    masks = client.list_artifacts(run.info.run_id, "round-2/finetune")
    assert "round-2/finetune/masks.safetensors" in {file.path for file in masks}


def test_without_a_server_the_stage_goes_on_after_one_line(study, monkeypatch, capsys):
    address = f"http://someone:secret@127.0.0.1:{free_port()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
    begun = time.monotonic()
    with tracking.open(study="digits") as tracker:
        assert tracker.log(study.prepared()) is False
    assert time.monotonic() - begun < 20
    told = capsys.readouterr().err
    assert told.count("\n") == 1 and "does not answer" in told and "secret" not in told


def test_a_server_that_never_answers_is_given_up(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "1")
    with socket.create_server(("127.0.0.1", 0)) as mute:
        address = f"http://127.0.0.1:{mute.getsockname()[1]}"
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        begun = time.monotonic()
        tracker = tracking.open(study="digits")
        assert time.monotonic() - begun < 15
    assert tracker.store is None and not tracker.log(study.prepared())
    assert capsys.readouterr().err.count("does not answer") == 1


def test_a_process_that_keeps_the_lock_is_not_waited_for_for_ever(study, monkeypatch, capsys):
    monkeypatch.setattr(store, "PATIENCE", 0.1)
    with store.lock(study.home):
        assert tracking.open(study="digits").store is None
    assert f"another process keeps {study.home}/.tracking/lock locked" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["garbage", "a folder", "a folder's name"])
def test_a_database_that_cannot_be_opened_is_one_line_at_once(study, what, capsys):
    home = study.home / ("100%" if what == "a folder's name" else "broken")
    home.mkdir()
    if what == "garbage":
        (home / "mlflow.db").write_text("no database " * 100)
    if what == "a folder":
        (home / "mlflow.db").mkdir()
    begun = time.monotonic()
    assert tracking.open(study="digits", folder=home).store is None
    assert time.monotonic() - begun < 10
    told = capsys.readouterr().err
    assert told.startswith(f"warning: MLflow at sqlite:///{home}") and told.count("\n") == 1


def test_a_store_that_cannot_be_made_is_one_line(study, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{study.home}/no/such/folder\n/mlflow.db")
    (study.home / "no").write_text("a file where a folder should be")
    assert tracking.open(study="digits").store is None
    told = capsys.readouterr().err
    assert told.startswith("warning: MLflow at sqlite") and told.count("\n") == 1
