"""A study that starts from a network which somebody else has trained."""

import copy
import hashlib
from contextlib import chdir
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from pruning import PruningError
from pruning.checkpoints import load_state, read_state
from pruning.facts import read_json
from pruning.models import build
from pruning.network import load
from pruning.tensors import read_tensors
from stages.checkpoint import checkpoint
from stages.params import read
from stages.pretrain import pretrain
from stages.snapshot import snapshot
from tests.stages.smaller.conftest import SMALLER, Study

SPEC = SMALLER["model"]


@pytest.fixture(scope="module")
def trained():
    """Return a model with weights of its own."""
    torch.manual_seed(7)
    return build(SPEC)


@pytest.fixture(scope="module")
def begun(tmp_path_factory, study, trained) -> Study:
    """Return a study of the same data whose dense network is a checkpoint."""
    made = Study(tmp_path_factory.mktemp("checkpoint"))
    torch.save({"epoch": 3, "state_dict": trained.state_dict()}, made.folder / "trained.pt")
    params = copy.deepcopy(SMALLER) | {"checkpoints": [{"n": 0, "file": "trained.pt"}]}
    path = made.write(params)
    (made.folder / "data").symlink_to(study.folder / "data")
    with chdir(made.folder):
        checkpoint(number=0, params=path)
        pretrain(params=path)
        snapshot(experiment="groups", params=path)
        made.round("groups", 1, path)
    return made


def test_every_fold_s_dense_network_is_the_checkpoint(begun, trained):
    for fold in (0, 1):
        network = load(begun.folder / f"work/dense/fold-{fold}")
        for name, tensor in trained.state_dict().items():
            assert torch.equal(network.model.state_dict()[name], tensor)
        facts = read_json(begun.folder / f"work/dense/fold-{fold}/metrics.json")
        assert facts["steps"] == 0
        assert 0 <= facts["validation_accuracy"] <= 1
    rewind = read_tensors(begun.folder / "work/groups/round-0/tuned/fold-0/rewind.safetensors")
    assert torch.equal(rewind["model/conv1.weight"], trained.conv1.weight)


def test_its_manifest_names_the_bytes(begun):
    manifest = read_json(begun.folder / "work/given/checkpoint-0/manifest.json")
    digest = hashlib.sha256((begun.folder / "trained.pt").read_bytes()).hexdigest()
    assert manifest["params"]["sha256"] == digest
    dense = read_json(begun.folder / "work/dense/manifest.json")
    assert dense["inputs"]["work/given/checkpoint-0"] == manifest["key"]


def test_it_is_pruned_and_recovered_like_any_other(begun, trained):
    before = load(begun.folder / "work/groups/round-1/pruned/fold-0")
    kept = before.masks["conv2.weight"]
    assert not bool(kept.all())
    assert torch.equal(before.model.conv2.weight, trained.conv2.weight * kept)
    after = load(begun.folder / "work/groups/round-1/tuned/fold-0")
    assert not torch.equal(after.model.conv2.weight, before.model.conv2.weight)


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model_state_dict", "model"])
def test_files_of_usual_training_scripts_are_read(tmp_path, trained, wrapped):
    state = trained.state_dict()
    prefixed = {f"module.{name}": tensor for name, tensor in state.items()}
    torch.save(prefixed if wrapped is None else {wrapped: state, "epoch": 3}, tmp_path / "a.pt")
    save_file(state, tmp_path / "a.safetensors")
    for name in ("a.pt", "a.safetensors"):
        found = read_state(tmp_path / name)
        assert found.keys() == state.keys()
        assert all(torch.equal(found[key], state[key]) for key in state)


class Runs:
    def __reduce__(self):
        return Path.touch, (Path("touched"),)


def test_a_file_that_would_run_code_runs_none(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": Runs()}, "evil.pt")
    with pytest.raises(PruningError, match=r"evil.pt: no readable state_dict: Weights only load"):
        read_state(Path("evil.pt"))
    assert not Path("touched").exists()


def test_what_is_no_state_dict_is_named(tmp_path):
    torch.save({"optimizer": {"lr": 0.1}}, tmp_path / "a.pt")
    with pytest.raises(PruningError, match=r"a.pt: holds dict under 'optimizer'"):
        read_state(tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(b"PK")
    with pytest.raises(PruningError, match=r"b.pt: no readable state_dict"):
        read_state(tmp_path / "b.pt")
    with pytest.raises(PruningError, match=r"absent.pt: no readable state_dict"):
        read_state(tmp_path / "absent.pt")


def test_weights_of_another_model_are_named(trained):
    wide = build({"factory": "digits_conv", "width": 16}).state_dict()
    told = r"it.pt: not of this Sequential: 'conv1.weight' has shape \(16, 1, 3, 3\) there, "
    with pytest.raises(PruningError, match=told + r"\(8, 1, 3, 3\) in the model \(and 1[0-9] more"):
        load_state(trained, wide, where="it.pt")
    fewer = dict(list(trained.state_dict().items())[1:])
    with pytest.raises(PruningError, match=r"'conv1.weight' has shape None there"):
        load_state(trained, fewer, where="it.pt")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"checkpoints": [{"n": 1, "file": "a.pt"}]}, r"checkpoints: numbered \[1\]; expected \[0"),
        (
            {"checkpoints": [{"n": n, "file": "a.pt"} for n in range(3)]},
            "checkpoints: 3 for 2 folds; give one for all or one for each",
        ),
        (
            {"checkpoints": [{"n": 0, "file": "a.pt"}], "snapshots": {"epochs": [1]}},
            "snapshots: a checkpoint has only one",
        ),
        ({"export": ["others"]}, "export: 'others' is no experiment; choose from groups, alone"),
    ],
)
def test_what_cannot_be_is_said_in_one_line(tmp_path, change, message):
    path = Study(tmp_path).write(copy.deepcopy(SMALLER) | change)
    with pytest.raises(PruningError, match=message):
        read(path)
