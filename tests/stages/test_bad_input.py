"""Data, losses, files and masks that are bad: one line that says so, and nothing lost."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from PIL import Image

from pruning.errors import PruningError
from pruning.network import load
from pruning.pruner import LayerCollapse
from pruning.tensors import read_tensors, write_tensors
from stages import evaluate, files, finetune, prune
from stages.fold import snapshots
from stages.prepare import prepare


def refused(capsys, study):
    """Return the one line in which the prepare stage refuses, having written nothing."""
    with pytest.raises(SystemExit) as caught:
        prepare(study.home / "params.yaml")
    assert caught.value.code == 2
    said = capsys.readouterr()
    assert said.out == ""
    (line,) = said.err.splitlines()
    assert not list(Path("data").glob("*"))
    return line


@pytest.fixture
def elsewhere(tiny, tmp_path, monkeypatch):
    """Return the tiny study in a folder in which nothing is prepared yet."""
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    return type(tiny)(tmp_path)


def images(root, **classes):
    """Write so many images of each class in ImageFolder's layout."""
    for name, count in classes.items():
        folder = root / "train" / name
        folder.mkdir(parents=True)
        for index in range(count):
            Image.new("L", (8, 8), color=index).save(folder / f"{index}.png")


@pytest.mark.parametrize(
    ("classes", "told"),
    [
        ({}, "holds no <class>"),
        ({"a": 0, "b": 0}, "a"),
        ({"only": 9}, "only"),
        ({"a": 9, "b": 3}, "folds=3"),
    ],
)
def test_data_that_cannot_be_learnt_from(elsewhere, capsys, classes, told):
    root = elsewhere.home / "images"
    (root / "train").mkdir(parents=True)
    images(root, **classes)
    elsewhere.params(data={"name": "folder", "root": str(root)})
    assert told in refused(capsys, elsewhere)


def test_data_that_is_not_there(elsewhere, capsys):
    elsewhere.params(data={"name": "MNIST", "root": "nowhere"})
    assert "nowhere/MNIST/raw" in refused(capsys, elsewhere)
    elsewhere.params(data={"name": "CIFAR10"})
    assert "root" in refused(capsys, elsewhere)


def test_more_folds_than_a_class_has_samples(elsewhere, capsys):
    elsewhere.params(cross_validation={"folds": 300})
    assert "folds=300" in refused(capsys, elsewhere)


def exploding(epoch, epochs):  # noqa: ARG001
    """Return a rate that breaks training in its second epoch."""
    return 1.0 if epoch < 1 else 1e30


def test_a_loss_that_is_no_number_names_its_epoch_and_keeps_the_last_good_checkpoint(
    tiny, monkeypatch
):
    module = type("Module", (), {"exploding": staticmethod(exploding)})
    monkeypatch.setitem(__import__("sys").modules, "exploding_rates", module)
    rate = {"base": 0.01, "name": "exploding_rates:exploding"}
    study = tiny.params(training=tiny.settings("training", learning_rate=rate))
    shutil.rmtree("resume", ignore_errors=True)
    with pytest.raises(PruningError) as caught:
        tiny.dense(study)
    message = str(caught.value)
    assert "in epoch 2 (step " in message
    assert message.endswith("the last good checkpoint is in resume")
    good = snapshots.read(Path("resume/last.safetensors"))
    assert good.step == 4
    assert all(torch.isfinite(value).all() for value in good.model.values())
    rows = json.loads(Path("resume/journal.json").read_text())["history"]
    assert [row[0] for row in rows] == [4, 4]
    shutil.rmtree("resume")
    # the checkpoint is that of a training that went well for as long
    tiny.dense(tiny.params(training=tiny.settings("training", learning_rate={"base": 0.01})))
    epoch_1 = snapshots.read(files.DENSE / "fold-0" / "snapshots" / "epoch-1.safetensors")
    assert all(torch.equal(epoch_1.model[name], good.model[name]) for name in good.model)
    tiny.dense(tiny.params())


BROKEN = ["network.json", "weights.safetensors", "masks.safetensors", "metrics.json"]


@pytest.mark.parametrize("name", BROKEN)
def test_a_truncated_or_foreign_file_of_the_round_before_is_named(tiny, name):
    study = tiny.params()
    tiny.start(study)
    pruned = tiny.prune(study)
    path = pruned / name
    content = path.read_bytes()
    for broken in (b"", content[: len(content) // 2], b"something else"):
        path.write_bytes(broken)
        with pytest.raises(PruningError) as caught:
            tiny.recover(study)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
    path.unlink()
    with pytest.raises(PruningError, match=name):
        tiny.recover(study)


@pytest.mark.parametrize("content", [b"", b"half", None])
def test_a_broken_rewind_point_is_named(tiny, content):
    study = tiny.params()
    path = tiny.start(study) / "rewind.safetensors"
    tiny.prune(study)
    if content is None:
        write_tensors(path, {"model/1.weight": torch.zeros(2)})
    else:
        path.write_bytes(content)
    with pytest.raises(PruningError) as caught:
        tiny.recover(study)
    assert str(path) in str(caught.value)


def test_a_rewind_point_of_another_network_is_refused(tiny):
    study = tiny.params()
    path = tiny.start(study) / "rewind.safetensors"
    tiny.prune(study)
    tensors = read_tensors(path)
    write_tensors(path, {**tensors, "model/1.weight": torch.zeros(7, 64)})
    with pytest.raises(PruningError, match=r"of another model: '1.weight' has shape \(7, 64\)"):
        tiny.recover(study)


def test_a_mask_that_does_not_fit_is_refused(tiny):
    study = tiny.params()
    tiny.start(study)
    pruned = tiny.prune(study)
    facts = json.loads((pruned / "network.json").read_text())
    facts["masks"]["1.weight"] = [300, 63]
    (pruned / "network.json").write_text(json.dumps(facts))
    with pytest.raises(PruningError, match=r"masks.safetensors.*1\.weight|fold-0.*\(300, 63\)"):
        tiny.recover(study)


@pytest.mark.parametrize("name", ["data.safetensors", "meta.json", "folds.json"])
def test_broken_data_is_named(tiny, name):
    study = tiny.params()
    tiny.start(study)
    path = files.PREPARED / name
    content = path.read_bytes()
    try:
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(PruningError, match=name):
            tiny.prune(study)
    finally:
        path.write_bytes(content)


def test_a_layer_that_would_lose_everything_is_a_warning_or_an_error_that_names_it(tiny):
    # the last layer's weights are the largest: at 98 % some first layer loses all of its own
    row = {"criterion": {"name": "lp_norm", "p": 2.0}, "allocation": "global"}
    rounds = [{"n": 1, "from": 0, "sparsity": 0.995}]
    study = tiny.params({"prune": row}, rounds=rounds)
    start = tiny.start(study)
    shrink(start, "3.weight", 1e-6)
    with pytest.warns(LayerCollapse, match=r"3\.weight"):
        tiny.prune(study)
    study = tiny.params({"prune": {**row, "on_collapse": "error"}}, rounds=rounds)
    with pytest.raises(PruningError, match=r"3\.weight"):
        tiny.prune(study)


def shrink(folder, name, factor):
    """Scale a stored network's weight."""
    tensors = read_tensors(folder / "weights.safetensors")
    write_tensors(folder / "weights.safetensors", {**tensors, name: tensors[name] * factor})
    assert load(folder).model.get_parameter(name).abs().max() < 1e-5


@pytest.mark.skipif(torch.accelerator.is_available(), reason="needs a machine without one")
@pytest.mark.parametrize("device", ["cuda", "cuda:7", "mps"])
def test_a_device_that_is_not_there_is_refused(tiny, device):
    study = tiny.params(training=tiny.settings("training", device=device))
    with pytest.raises(PruningError) as caught:
        tiny.dense(study)
    assert f"training.device: '{device}' cannot be used here" in str(caught.value)
    assert "choose from cpu" in str(caught.value)
    tiny.dense(tiny.params())


@pytest.mark.parametrize(
    ("model", "told"),
    [
        ({"factory": "lenet_300_100", "inputs": 784}, r"cannot take images of shape \(1, 8, 8\)"),
        ({"factory": "digits_conv", "in_channels": 3}, r"cannot take images of shape \(1, 8, 8\)"),
        (
            {"factory": "digits_conv", "num_classes": 9},
            r"\(9,\), the data has 10 classes",
        ),
    ],
)
def test_a_network_that_does_not_fit_the_data_is_told(tiny, model, told):
    with pytest.raises(PruningError, match=told) as caught:
        tiny.dense(tiny.params(model=model))
    assert "\n" not in str(caught.value)
    tiny.dense(tiny.params())


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"experiment": "nobody", "round_": 1}, "unknown experiment 'nobody'; choose from row"),
        ({"experiment": "row", "round_": 3}, "unknown round 3; choose from 1 to 2"),
        ({"experiment": "row", "round_": 0}, "unknown round 0; choose from 1 to 2"),
        ({"experiment": "row", "round_": 1, "fold": 3}, "unknown fold 3; choose from 0 to 2"),
        ({"experiment": "row", "round_": 1, "fold": -1}, "unknown fold -1; choose from 0 to 2"),
    ],
)
@pytest.mark.parametrize("stage", [prune.prune, finetune.finetune, evaluate.evaluate])
def test_a_stage_asked_for_what_there_is_not(tiny, capsys, stage, options, told):
    tiny.params()
    with pytest.raises(SystemExit) as caught:
        stage(**options)
    assert caught.value.code == 2
    assert capsys.readouterr().err == f"error: {told}\n"


def test_a_dry_run_of_a_fold_that_there_is_not(tiny, capsys):
    tiny.params()
    with pytest.raises(SystemExit):
        prune.prune("row", 1, fold=7, dry_run=True)
    assert capsys.readouterr().err == "error: unknown fold 7; choose from 0 to 2\n"


def test_an_optimizer_that_refuses_its_settings_is_told(tiny):
    wrong = {"name": "sgd", "momentum": -1.0}
    study = tiny.params(training=tiny.settings("training", optimizer=wrong))
    with pytest.raises(PruningError, match=r"optimizer 'sgd'.*-1\.0"):
        tiny.dense(study)
    tiny.dense(tiny.params())


def test_an_unfinished_output_is_no_input(tiny):
    with pytest.raises(PruningError, match="no finished output here"):
        files.read_manifest(Path("work/nobody/round-1/tuned"))
    manifest = new_file(tiny.home / "half" / "manifest.json", '{"key": ')
    with pytest.raises(PruningError, match=r"half/manifest\.json"):
        files.read_manifest(manifest.parent)


def new_file(path, text):
    """Write a file and its folder."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
