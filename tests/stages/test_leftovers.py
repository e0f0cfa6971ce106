"""A stage that is killed, or fails, when some folds were done does not compute them again."""

import os
import signal
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pytest

from pruning.errors import PruningError
from stages.engine import folds, leftovers
from stages.files import RESUME, Manifest
from tests.stages.one_fold import params

ROW = {"rewind": "init", "prune": {}, "finetune": {"resume": "start"}}
OUTPUT = Path("work/row/round-1/tuned")
MANIFEST = Manifest("tiny", "finetune", "row", 1, folds=[0, 1], params={}, group={})


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def killed(folder, checkpoints, fold, report):  # noqa: ARG001
    """Fold 0 ends; then fold 1 kills the stage."""
    if fold == 1:
        wait_for(lambda: list(RESUME.glob("*/finished/fold-0")))
        os.kill(os.getppid(), signal.SIGKILL)
        time.sleep(60)
    write(folder, "first")


def failing(folder, checkpoints, fold, report):  # noqa: ARG001
    if fold == 1:
        raise PruningError("the loss became nan in epoch 3")
    write(folder, "first")


def well(folder, checkpoints, fold, report):  # noqa: ARG001
    write(folder, "second")


def write(folder, text):
    (folder / "weights").write_text(text)


def wait_for(what):
    end = time.monotonic() + 30
    while not what():
        assert time.monotonic() < end
        time.sleep(0.01)


def run(task, minutes=0.0, only=None):
    folds.run(task, params(ROW, checkpoint_minutes=minutes), MANIFEST, OUTPUT, only=only)


def killed_run():
    process = get_context("fork").Process(target=run, args=(killed,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not OUTPUT.exists()


def weights():
    return [(OUTPUT / f"fold-{fold}" / "weights").read_text() for fold in (0, 1)]


def test_a_killed_stage_s_folds_are_taken_up():
    killed_run()
    run(well)
    assert weights() == ["first", "second"]
    assert not list(RESUME.iterdir())
    run(well)
    assert weights() == ["second", "second"]


def test_so_are_those_of_a_stage_that_failed():
    with pytest.raises(PruningError, match=r"^fold 1: the loss became nan in epoch 3$"):
        run(failing)
    run(well)
    assert weights() == ["first", "second"]


def test_not_by_other_code_or_settings_and_then_they_go(monkeypatch):
    killed_run()
    monkeypatch.setattr(leftovers, "code", lambda: "edited")
    run(well)
    assert weights() == ["second", "second"]
    assert not list(RESUME.iterdir())
    other = replace(MANIFEST, params={"epochs": 4})
    assert leftovers.folder_of(other) != leftovers.folder_of(MANIFEST)


def test_one_fold_alone_takes_up_its_own_and_leaves_the_other_s():
    killed_run()
    run(well, only=1)
    assert [path.name for path in RESUME.glob("*/finished/*")] == ["fold-0"]
    run(well, only=0)
    assert weights() == ["first", "second"]
    assert not list(RESUME.iterdir())


def test_what_took_no_longer_than_a_checkpoint_is_not_kept():
    with pytest.raises(PruningError):
        run(failing, minutes=1)
    assert not RESUME.exists()


def test_half_a_copy_is_never_taken_up(monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    folder = Path("fold-0")
    folder.mkdir()
    write(folder, "first")
    resume = leftovers.folder_of(MANIFEST)
    with monkeypatch.context() as patched:
        patched.setattr(leftovers.shutil, "copytree", full)
        with pytest.raises(OSError, match="No space"):
            leftovers.keep(resume, folder)
    assert not leftovers.take_up(resume, Path("elsewhere/fold-0"))
    leftovers.keep(resume, folder)
    assert leftovers.take_up(resume, Path("elsewhere/fold-0"))
    assert Path("elsewhere/fold-0/weights").read_text() == "first"


def test_the_code_s_hash_is_that_of_every_file_of_both_packages(monkeypatch, tmp_path):
    before = leftovers.code()
    assert before == leftovers.code()
    for package in ("pruning", "stages"):
        copy = tmp_path / package
        copy.mkdir()
        (copy / "__init__.py").write_text("")
        monkeypatch.setattr(getattr(leftovers, package), "__file__", str(copy / "__init__.py"))
    one = leftovers.code()
    (tmp_path / "stages" / "deep").mkdir()
    (tmp_path / "stages" / "deep" / "new.py").write_text("x = 1")
    two = leftovers.code()
    (tmp_path / "stages" / "deep" / "new.py").write_text("x = 2")
    assert len({before, one, two, leftovers.code()}) == 4
