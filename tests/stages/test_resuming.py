"""A killed stage goes on from its checkpoint and ends with the bytes of one that was not."""

import json
import os
import shutil
import signal
from multiprocessing import get_context
from pathlib import Path

import pytest

from pruning.errors import PruningError

STEPS = 12  # three epochs of four steps
CHECKPOINT = Path("resume")


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


class Steps(list):
    """The steps that a stage reports."""

    def __call__(self, done, _):
        self.append(done)


def killed_at(step, work):
    """Run `work` in a process of its own that is killed (SIGKILL) when it reports `step`."""

    def report(done, _):
        if done == step:
            os.kill(os.getpid(), signal.SIGKILL)

    process = get_context("fork").Process(target=work, args=(report,))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL


@pytest.fixture(autouse=True)
def _no_checkpoint(tiny):  # noqa: ARG001
    yield
    shutil.rmtree(CHECKPOINT, ignore_errors=True)


OPTIMIZERS = [{"name": "sgd", "momentum": 0.9}, {"name": "adamw", "weight_decay": 0.01}]


@pytest.mark.parametrize("optimizer", OPTIMIZERS, ids=lambda optimizer: optimizer["name"])
def test_pretraining_goes_on_from_the_last_epoch_to_the_same_bytes(tiny, optimizer):
    rate = {"base": 0.01, "name": "cosine"}
    changes = {"optimizer": optimizer, "learning_rate": rate, "augment": ["crop"], "padding": 1}
    study = tiny.params(training=tiny.settings("training", **changes), checkpoint_minutes=0)
    undisturbed = digest(tiny.dense(study, whole := Steps()))
    assert whole == [*range(1, STEPS + 1)]
    for killed, first in ((3, 1), (7, 5), (11, 9)):
        killed_at(killed, lambda report: tiny.dense(study, report))
        assert CHECKPOINT.is_dir() == (first > 1)
        assert digest(tiny.dense(study, again := Steps())) == undisturbed
        assert again == [*range(first, STEPS + 1)]
        assert not CHECKPOINT.exists()
    tiny.dense(tiny.params())


DURING = [
    "hard",
    {"name": "rigl", "frequency": 2},
    {"name": "splicing", "c": 1.0},
    {"name": "trainable_threshold", "alpha": {"0.5": 0.1}},
    {"name": "variational_dropout", "threshold": 3.0},
    "variational_dropout",
    "gradual",
    "learning_compression",
]


@pytest.mark.parametrize(
    ("during", "criterion"), [*((each, "magnitude") for each in DURING), ("gradual", "random")]
)
def test_a_recovery_goes_on_to_the_same_bytes(tiny, during, criterion):
    row = {
        "prune": {"during": during, "criterion": criterion},
        "finetune": {"weights": "final", "resume": "start"},
    }
    study = tiny.params(row, checkpoint_minutes=0)
    tiny.start(study)
    tiny.prune(study)
    undisturbed = digest(tiny.recover(study))
    killed_at(10, lambda report: tiny.recover(study, report=report))
    assert digest(tiny.recover(study, report=(again := Steps()))) == undisturbed
    assert again == [9, 10, 11, 12]


def test_killed_twice_and_killed_again_while_the_checkpoint_is_replaced(tiny):
    study = tiny.params(checkpoint_minutes=0)
    undisturbed = digest(tiny.dense(study))
    killed_at(5, lambda report: tiny.dense(study, report))
    # what a kill leaves between writing the new checkpoint and putting it in place
    shutil.copytree(CHECKPOINT, ".resume.1.partial")
    Path(".resume.1.partial/last.safetensors").write_bytes(b"half")
    killed_at(9, lambda report: tiny.dense(study, report))
    assert digest(tiny.dense(study, again := Steps())) == undisturbed
    assert again == [9, 10, 11, 12]
    assert not Path(".resume.1.partial").exists()


def test_a_checkpoint_that_is_truncated_or_foreign_is_refused_by_name(tiny):
    study = tiny.params(checkpoint_minutes=0)
    killed_at(5, lambda report: tiny.dense(study, report))
    shutil.copytree(CHECKPOINT, "whole")
    other = {"history": [[4, 1]], "best_accuracy": 0.5, "best_step": 4}
    broken = {
        "journal.json": [b"", b'{"history": [', b"[]", json.dumps(other).encode()],
        "last.safetensors": [b"", Path("whole/last.safetensors").read_bytes()[:-100]],
        "course.safetensors": [b"not tensors"],
        "kept/best.safetensors": [Path("whole/kept/best.safetensors").read_bytes()[:100]],
    }
    for name, contents in broken.items():
        for content in contents:
            shutil.rmtree(CHECKPOINT)
            shutil.copytree("whole", CHECKPOINT)
            (CHECKPOINT / name).write_bytes(content)
            with pytest.raises(PruningError) as caught:
                tiny.dense(study)
            assert str(CHECKPOINT / name) in str(caught.value)
            assert "\n" not in str(caught.value)
    shutil.rmtree("whole")
    shutil.rmtree(CHECKPOINT)
    tiny.dense(tiny.params())


def test_a_checkpoint_of_another_network_is_refused(tiny):
    study = tiny.params(checkpoint_minutes=0)
    killed_at(5, lambda report: tiny.dense(study, report))
    other = tiny.params(model={"factory": "digits_conv", "width": 4}, checkpoint_minutes=0)
    with pytest.raises(PruningError, match=r"another model.*; delete resume to begin anew"):
        tiny.dense(other)
    shutil.rmtree(CHECKPOINT)
    tiny.dense(tiny.params())
