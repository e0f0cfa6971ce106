"""Isometry and the spectrum of the Jacobian as settings of recovery."""

import csv
from pathlib import Path

import pytest
import torch

from pruning.isometry import enforce_isometry, isometry_gap
from pruning.jacobian import singular_values
from pruning.rewind import restore
from stages.fold import samples, snapshots
from stages.fold.fitting import optimizer_for
from stages.fold.signals import with_weights_of
from stages.params import Finetune
from tests.stages.one_fold import Study, params

AT_INIT = {
    "rewind": "init",
    "prune": {"criterion": "snip", "score_weights": "rewound"},
    "finetune": {
        "weights": "rewound",
        "resume": "start",
        "isometry": {"steps": 40, "learning_rate": 0.05},
        "spectrum": {"examples": 3, "layers": "all"},
    },
}


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Study:
    return Study(tmp_path_factory.mktemp("signals"))


@pytest.fixture(scope="module")
def done(study):
    metrics = study.run(AT_INIT)[0]
    files = {path.name: path.read_bytes() for path in study.output().iterdir() if path.is_file()}
    return metrics, files


def table(content: bytes) -> list[dict[str, str]]:
    return list(csv.DictReader(content.decode().splitlines()))


def test_the_spectrum_is_measured_at_each_moment_end_to_end_and_layer_by_layer(study, done):
    metrics, files = done
    rows = table(files["spectrum.csv"])
    moments = list(dict.fromkeys(row["moment"] for row in rows))
    assert moments == ["init", "pruned", "isometry", "recovered"]
    layers = list(dict.fromkeys(row["layer"] for row in rows))
    assert layers == ["network", "conv1", "conv2", "conv3", "linear"]
    whole = [r for r in rows if r["layer"] == "network" and r["moment"] == "init"]
    assert len(whole) == 3 * 10  # examples by classes, fewer than pixels
    with study.entered():
        made = params(AT_INIT)
        evidence = samples.of_fold(made, 0).evidence(1, 3)
        network = study.network()
        restore(
            network.model, snapshots.read(Path("work/dense/fold-0/snapshots/step-0.safetensors"))
        )
        expected = singular_values(network.model, evidence)
    values = torch.tensor([float(row["value"]) for row in whole]).reshape(3, 10)
    assert torch.allclose(values, expected, rtol=1e-5)
    told = metrics["spectrum"]["init"]["network"]
    assert told["mean"] == pytest.approx(float(expected.mean()), rel=1e-5)
    assert told["max"] == pytest.approx(float(expected.max()), rel=1e-5)
    assert files["spectrum.png"].startswith(b"\x89PNG")


def test_the_course_of_isometry_is_written_down_and_falls(done):
    metrics, files = done
    rows = table(files["isometry.csv"])
    assert [int(row["step"]) for row in rows] == [*range(41)]
    losses = [float(row["loss"]) for row in rows]
    assert metrics["isometry_loss_before"] == losses[0] > losses[-1] == metrics["isometry_loss"]
    assert metrics["isometry_steps"] == 40


def test_the_same_settings_give_the_same_bytes(study, done):
    _, files = done
    study.run(AT_INIT)
    again = {path.name: path.read_bytes() for path in study.output().iterdir() if path.is_file()}
    assert again == files


def test_training_starts_from_the_isometric_weights_even_where_the_optimizer_goes_on(study):
    """The optimizer's state is the snapshot's, the weights are not."""
    with study.entered():
        recipe = params(AT_INIT).training
        snapshot = snapshots.read(Path("work/dense/fold-0/snapshots/step-3.safetensors"))
        model = study.network().model
        restore(model, snapshot)
        enforce_isometry(model, {}, steps=30, lr=0.05)
        gap = isometry_gap(model.conv2.weight)
        goes_on = with_weights_of(model, snapshot)
        optimizer = optimizer_for(model, recipe)
        assert restore(model, goes_on, optimizer=optimizer) == 3
    assert isometry_gap(model.conv2.weight) == gap
    momentum = optimizer.state[model.conv2.weight]["momentum_buffer"]
    assert torch.equal(momentum, snapshot.optimizer["conv2.weight/momentum_buffer"])


def test_rewound_with_isometry_trains_and_keeps_the_masks(study):
    finetune = {"weights": "rewound", "resume": "rewound", "isometry": {"steps": 5}}
    metrics = study.run({"rewind": {"step": 3}, "prune": {}, "finetune": finetune})[0]
    assert metrics["isometry_steps"] == 5 and metrics["sparsity"] == pytest.approx(0.5, abs=1e-3)


def test_nothing_is_measured_unless_it_is_asked_for(study):
    metrics = study.run({"rewind": "init", "prune": {}, "finetune": {"resume": "start"}})[0]
    assert "spectrum" not in metrics and "isometry_loss" not in metrics
    names = {path.name for path in study.output().iterdir()}
    assert not names & {"spectrum.csv", "spectrum.png", "isometry.csv"}


@pytest.mark.parametrize("wrong", [{"isometry": {"lr": 0.1}}, {"spectrum": {"layers": "some"}}])
def test_unknown_settings_are_refused(wrong):
    with pytest.raises(ValueError):
        Finetune.model_validate({"resume": "start", **wrong})
