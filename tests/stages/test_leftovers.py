"""A stage that is killed, or fails, when some folds were done does not compute them again."""

import os
import signal
import subprocess
import sys
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
    monkeypatch.setattr(leftovers, "code", lambda _: "edited")
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
    def full(_, target, **__):
        target.mkdir(parents=True, exist_ok=True)
        (target / "weights").write_text("fi")
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


def test_nor_by_an_edited_criterion_of_one_s_own_or_other_inputs(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    module, dense = Path("my_criteria_of_leftovers.py"), Path("work/dense")
    dense.mkdir(parents=True)
    write(dense, "input")
    (dense / "manifest.json").write_text('{"key": "k"}')
    row = {"prune": {"criterion": f"{module.stem}:mine"}}

    def where():
        return leftovers.folder_of(replace(MANIFEST, group=row, inputs=[dense]))

    module.write_text("x = 1")
    first = where()
    assert where() == first
    module.write_text("x = 2")
    second = where()
    assert second != first
    write(dense, "other")
    os.utime(dense / "weights", ns=(0, 0))
    assert where() not in (first, second)


def test_a_module_that_is_missing_or_broken_is_left_to_the_stage(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(tmp_path)
    Path("broken_of_leftovers").mkdir()
    Path("broken_of_leftovers/__init__.py").write_text("1 / 0")
    assert leftovers.code(["no_such", "no_such.deep", "broken_of_leftovers.m"]) == leftovers.code()


TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")
LATE = """
import os, time
from tests.stages import test_leftovers as these

def late(resume, folder, taken=these.leftovers.take_up):
    time.sleep(int(os.environ["RANK"]))
    return taken(resume, folder)

these.leftovers.take_up = late
these.run(these.alone)
"""


def alone(folder, checkpoints, fold, report):  # noqa: ARG001
    raise AssertionError(f"rank {os.environ['RANK']} computes fold {fold}")


def test_no_rank_computes_what_another_takes_up(tmp_path):
    for fold in (0, 1):
        folder = Path(f"fold-{fold}")
        folder.mkdir()
        write(folder, "first")
        leftovers.keep(leftovers.folder_of(MANIFEST), folder)
    (tmp_path / "late.py").write_text(LATE)
    root = Path(__file__).parents[2]
    environment = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        (*TORCHRUN, "late.py"), env=environment, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert weights() == ["first", "first"]
    assert not list(RESUME.iterdir())


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
