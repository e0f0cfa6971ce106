"""PRUNING_PROCESSES=2: stages that relaunch themselves, and leave what one process leaves."""

import shutil
from copy import deepcopy

import pytest
import torch

from pruning.network import load

from .conftest import SMALL, new_study

MODEL = {"factory": "lenet_300_100", "inputs": 64}
ROUND = ("--experiment", "at-once", "--round", "2")


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Return a study of one replicate without BatchNorm, its round 2 pruned."""
    params = deepcopy(SMALL) | {"model": MODEL, "cross_validation": {"folds": 1, "seed": 0}}
    study = new_study(tmp_path_factory.mktemp("parallel") / "small", params)
    study.ran("prune-one-shot@at-once-round1")
    return study


def files(folder) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_two_processes_leave_the_files_of_one_and_its_weights_but_for_rounding(study):
    folder, alone = study.folder / "work/at-once/round-2/tuned", study.folder / "alone"
    study.stage("finetune", *ROUND)
    shutil.move(folder, alone)
    said = study.stage("finetune", *ROUND, PRUNING_PROCESSES="2")
    assert "Traceback" not in said.stdout + said.stderr
    assert said.stdout.count("weights kept") == 1  # rank 0 alone speaks
    assert files(folder) == files(alone)
    assert (folder / "manifest.json").read_text() == (alone / "manifest.json").read_text()
    one, two = (load(each / "fold-0") for each in (alone, folder))
    assert two.masks.keys() == one.masks.keys()
    for key, mask in two.masks.items():
        assert torch.equal(mask, one.masks[key])
        assert int((two.model.get_parameter(key)[~mask] != 0).sum()) == 0
    for key, expected in one.model.state_dict().items():
        value = two.model.state_dict()[key]
        torch.testing.assert_close(value, expected, rtol=1e-3, atol=1e-5, msg=key)


def test_a_loss_that_diverges_is_one_line_as_in_one_process(study):
    before = (study.folder / "params.yaml").read_text()
    study.params(lambda params: params["training"]["learning_rate"].update(base=1e30))
    done = study.stage("pretrain", check=False, PRUNING_PROCESSES="2")
    (study.folder / "params.yaml").write_text(before)
    assert done.returncode == 2
    assert done.stderr.startswith("error: fold 0: the loss became ")
    assert done.stderr.count("\n") == 1


def test_a_number_that_is_none_is_refused(study):
    done = study.stage("pretrain", check=False, PRUNING_PROCESSES="two")
    assert done.returncode == 2
    assert done.stderr == (
        "error: PRUNING_PROCESSES='two' is no number of processes; choose 1 or more\n"
    )
