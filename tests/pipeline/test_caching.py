"""What `dvc repro` runs again after a change, and what it must not."""

import shutil

import pytest

from .conftest import digest

FINETUNE_AND_EVALUATE = {
    f"{stage}@at-once-round{index}" for stage in ("finetune", "evaluate") for index in (0, 1)
}


def test_from_nothing_every_stage_runs_once(finished):
    assert len(finished.executed) == 5 + 2 + 3 * 4 + 1
    assert "prune@step-by-step-round1" in finished.executed
    assert "prune-one-shot@at-once-round1" in finished.executed


def test_run_again_nothing_runs(study):
    assert study.repro() == set()


def test_a_learning_rate_of_one_experiment_reruns_its_recovery_and_compare_only(study):
    def faster(params):
        params["methods"]["at-once"]["finetune"]["learning_rate"]["base"] = 0.02

    study.params(faster)
    assert study.repro() == FINETUNE_AND_EVALUATE | {"compare"}


def test_an_added_round_runs_alone(study):
    study.params(lambda params: params["rounds"].append({"n": 3, "from": 2, "sparsity": 0.9}))
    stages = {"prune@step-by-step", "prune-one-shot@at-once"}
    stages |= {
        f"{stage}@{name}"
        for stage in ("finetune", "evaluate")
        for name in ("step-by-step", "at-once")
    }
    # `check` reads the names and numbers that DVC puts into commands; its output does not change.
    assert study.ran() == {f"{stage}-round2" for stage in stages} | {"compare", "check"}
    assert "up to date" in study.run("dvc", "status").stdout


CRITERION = """
from my_signs import SIGN

def scores(model, params, evidence):
    return {name: SIGN * weight.detach().abs() for name, weight in params.items()}
"""


def test_an_edit_of_code_of_ones_own_reruns_what_uses_it_and_nothing_else(study):
    (study.folder / "my_criterion.py").write_text(CRITERION)
    (study.folder / "my_signs.py").write_text("SIGN = 1\n")
    first = study.folder / "work" / "at-once" / "round-1" / "pruned"
    magnitude = digest(first)

    def name_it(params):
        params["methods"]["at-once"]["prune"]["criterion"] = "my_criterion:scores"
        params["own_code"] = ["my_criterion.py", "my_signs.py"]

    study.params(name_it)
    (target, beside) = ("prune-one-shot@at-once-round0", "prune@step-by-step-round0")
    snapshots = {"snapshot@step-by-step", "snapshot@at-once"}
    listed = {"check", "own-code@my_criterion.py", "own-code@my_signs.py", "training-code"}
    assert study.repro(target, beside) == listed | snapshots | {target}
    assert digest(first)["fold-0/masks.safetensors"] == magnitude["fold-0/masks.safetensors"]
    (study.folder / "my_signs.py").write_text("SIGN = -1\n")
    seen = {"own-code@my_signs.py", "training-code"} | snapshots
    assert study.ran(target, beside) == seen | {target}
    assert digest(first)["fold-0/masks.safetensors"] != magnitude["fold-0/masks.safetensors"]
    said = study.run("dvc", "status").stdout
    assert "finetune@at-once-round1:" in said  # all of its rounds, and nobody else's
    assert "step-by-step" not in said
    assert "pretrain" not in said


def test_a_deleted_output_is_restored_from_the_cache(study):
    folder = study.folder / "work" / "step-by-step" / "round-2" / "tuned"
    before = digest(folder)
    shutil.rmtree(folder)
    assert study.repro() == set()
    assert digest(folder) == before


def test_forced_again_a_chain_gives_the_same_bytes(study):
    lock = (study.folder / "dvc.lock").read_bytes()
    chain = {"pretrain", "prune@step-by-step-round0", "finetune@step-by-step-round0"}
    assert study.repro("--force", "--single-item", *chain) == chain
    assert (study.folder / "dvc.lock").read_bytes() == lock


@pytest.mark.parametrize(
    ("command", "output"),
    [
        ("snapshot --experiment step-by-step", "work/step-by-step/round-0/tuned"),
        ("prune --experiment at-once --round 1 --fold 1", "work/at-once/round-1/pruned"),
        (
            "finetune --experiment step-by-step --round 2 --fold 0",
            "work/step-by-step/round-2/tuned",
        ),
        ("evaluate --experiment step-by-step --round 2", "results/step-by-step/round-2"),
    ],
)
def test_a_stage_alone_one_fold_or_all_gives_the_bytes_that_dvc_has(finished, command, output):
    folder = finished.folder / output
    before, made = digest(folder), folder.stat().st_ctime_ns
    finished.stage(*command.split())
    assert digest(folder) == before
    assert folder.stat().st_ctime_ns != made
