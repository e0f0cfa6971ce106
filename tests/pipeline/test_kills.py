"""`dvc` alone is killed while a stage trains: nothing goes on writing, the next run completes."""

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest

from .conftest import environment

TARGET = "finetune@at-once-round0"
OUTPUT = "work/at-once/round-1"
EPOCHS = {signal.SIGKILL: 30, signal.SIGTERM: 31}  # unlike each other, or DVC's cache has both
SHELLS = {signal.SIGKILL: "/bin/sh", signal.SIGTERM: "/bin/bash"}  # one forks for a last command


def wait_for(what, seconds=120):
    """Wait until `what()` is true and return it."""
    end = time.monotonic() + seconds
    while not (found := what()):
        assert time.monotonic() < end, what
        time.sleep(0.02)
    return found


def processes(folder):
    """Return the ids of the processes of stages that run in `folder`."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            command = (process / "cmdline").read_bytes()
            if b"stages." in command and (process / "cwd").resolve() == folder.resolve():
                found.append(int(process.name))
        except OSError:  # it has ended meanwhile
            continue
    return found


def written(folder):
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in files}


def entry(study):
    import yaml

    return yaml.safe_load((study.folder / "dvc.lock").read_text())["stages"][TARGET]


@pytest.mark.parametrize("sent", EPOCHS, ids=lambda sent: sent.name)
def test_dvc_killed_while_a_stage_trains(study, sent):
    def longer(params):
        params["methods"]["at-once"]["finetune"]["epochs"] = EPOCHS[sent]
        params["checkpoint_minutes"] = 0

    study.params(longer)
    before = (study.folder / "dvc.lock").read_bytes()
    dvc = subprocess.Popen(
        ["dvc", "repro", TARGET],
        cwd=study.folder,
        env=environment(SHELL=SHELLS[sent]),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    journals = "finetune-*/fold-*/journal.json"
    wait_for(lambda: len(list((study.folder / "work/.resume").glob(journals))) == 2)
    assert len(processes(study.folder)) >= 3  # the stage and a worker for each fold
    os.kill(dvc.pid, sent)
    dvc.wait()
    wait_for(lambda: not processes(study.folder), seconds=10)
    left = written(study.folder / "work")
    time.sleep(0.5)
    assert written(study.folder / "work") == left
    assert not (study.folder / OUTPUT / "tuned").exists()  # DVC removes an output before its stage
    assert (study.folder / "dvc.lock").read_bytes() == before

    assert study.repro(TARGET) == {TARGET}
    assert not list((study.folder / "work/.resume").iterdir())
    assert not list((study.folder / OUTPUT).glob(".*"))
    if sent == signal.SIGTERM:  # once is enough: it goes on from the same checkpoint either way
        gone_on = entry(study)
        assert study.repro("--force", "--single-item", TARGET) == {TARGET}
        assert entry(study) == gone_on
