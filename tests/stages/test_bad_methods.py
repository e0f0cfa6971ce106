"""What a method cannot do is told in one line: the method, the layer, the value."""

import sys
import types

import pytest
import torch

from pruning import PruningError
from tests.stages.one_fold import SETTINGS, Study, params

LENET = {"model": {"factory": "lenet_300_100", "inputs": 64}}
SMALL = {
    "data": {"name": "digits", "limit": 300},
    "training": {**SETTINGS["training"], "epochs": 1, "batch_size": 20},
    "snapshots": {},
}
TRAIN = {"epochs": 1, "learning_rate": {"base": 0.01}}


def magnitude(model, params, evidence):  # noqa: ARG001
    return {name: weight.detach().abs() for name, weight in params.items()}


def nan(model, params, evidence):
    scores = magnitude(model, params, evidence)
    scores["conv2.weight"][0, 0, 0, 0] = torch.nan
    return scores


def shape(model, params, evidence):
    return {name: score.flatten() for name, score in magnitude(model, params, evidence).items()}


def missing(model, params, evidence):
    scores = magnitude(model, params, evidence)
    del scores["conv3.weight"]
    return scores


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    module = types.ModuleType("bad_criteria")
    module.nan, module.shape, module.missing = nan, shape, missing
    sys.modules["bad_criteria"] = module
    yield Study(tmp_path_factory.mktemp("bad"), **SMALL)
    del sys.modules["bad_criteria"]


@pytest.fixture(scope="module")
def lenet(tmp_path_factory):
    return Study(tmp_path_factory.mktemp("lenet"), **SMALL, **LENET)


def refused(study: Study, prune, finetune=TRAIN, rounds=1) -> str:
    """Return what a method's rounds are refused with: one line."""
    with pytest.raises(PruningError) as caught:
        study.run({"rewind": "init", "prune": prune, "finetune": finetune}, rounds=rounds)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("criterion", "told"),
    [
        ("nan", "criterion 'bad_criteria:nan' returned NaN for layer 'conv2.weight'"),
        ("shape", "criterion 'bad_criteria:shape' returned shape (36,) for layer 'conv1.weight'; "),
        ("missing", "'bad_criteria:missing' returned no score for layer 'conv3.weight'"),
        ("none", "criterion 'bad_criteria:none' cannot be imported"),
    ],
)
def test_a_criterion_that_goes_wrong(study, criterion, told):
    assert told in refused(study, {"criterion": f"bad_criteria:{criterion}"})


@pytest.mark.parametrize(
    ("prune", "told"),
    [
        ({"criterion": "bn_scale", "granularity": "filter"}, "'bn_scale' needs BatchNorm; "),
        ({"during": "slimming"}, " has no BatchNorm layer with a scale that trains"),
        (
            {"criterion": "apoz", "granularity": "filter"},
            "layer '5.weight' is followed by output, not by",
        ),
        ({"granularity": "kernel", "only": ["fc9.*"]}, "pattern 'fc9.*' matches no parameter; "),
    ],
)
def test_a_network_without_what_a_method_needs(lenet, prune, told):
    said = refused(lenet, prune)
    assert told in said and ("layer" in said or "pattern" in said or "Sequential" in said)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        (
            {"prune": {"during": "splicing"}},
            "compensation: l_obs needs masks that are there before training, and during: splicing "
            "chooses them while it trains; use hard",
        ),
        (
            {"finetune": {"weights": "rewound", "resume": "start"}},
            "prune.compensation: l_obs is lost under finetune.weights: rewound; use weights: final",
        ),
        (
            {"prune": {"coupled": "mean", "granularity": "filter"}},
            "coupled: mean takes filters with their biases and norms, which leaves compensation: "
            "l_obs nothing to correct; use compensation: none",
        ),
        ({"prune": {"compensation": "obs"}}, "unknown compensation 'obs'; choose from l_obs, none"),
    ],
)
def test_a_compensation_that_would_be_lost(changes, told):
    row = {"rewind": "init", "prune": {"compensation": "l_obs"}, "finetune": TRAIN}
    row["prune"] |= changes.get("prune", {})
    with pytest.raises(ValueError, match=told):
        params(row | {"finetune": changes.get("finetune", TRAIN)})


@pytest.mark.parametrize(
    ("during", "told"),
    [
        (
            {"name": "gradual", "begin": 5, "end": 2},
            "gradual: begins at 5 steps, after its end at 2 steps",
        ),
        ({"name": "rnn", "start": 5, "ramp": 3, "end": 6}, "start 5, ramp 3 and end 6"),
        ({"name": "gradual", "end": 2, "unit": "weeks"}, "unit"),
    ],
)
def test_a_schedule_that_cannot_be(study, during, told):
    assert told in refused(study, {"during": during})


@pytest.mark.parametrize(
    ("allocation", "told"),
    [
        (
            {"name": "global", "min_keep": {"conv[23].*": 350}},
            "allocation 'global' at sparsity 0.5: keeps 610 pieces, but min_keep",
        ),
        ({"name": "erk", "max_sparsity": 0.3}, "allocation 'erk' at sparsity 0.5: cannot keep"),
        ({"name": "per_layer", "ratios": {"conv1.*": 1.5}}, "ratio of layer 'conv1.weight' is 1.5"),
        ({"name": "global", "min_keep": {"conv1.*": -1}}, "of layer 'conv1.weight' is -1.0"),
        ({"name": "threshold", "s": -1}, "s of layer 'conv1.weight' is -1.0, below zero"),
    ],
)
def test_a_target_that_no_allocation_can_reach(study, allocation, told):
    assert told in refused(study, {"allocation": allocation})


def test_a_later_round_that_asks_for_less(study):
    told = refused(study, {"allocation": {"name": "global", "min_keep": 300}}, rounds=2)
    assert told.startswith("allocation 'global' at sparsity ")


def test_evidence_of_one_example_is_enough(study):
    evidence = {"batches": 1, "batch_size": 1}
    row = {"criterion": "snip", "evidence": evidence}
    found = study.run({"rewind": "init", "prune": row, "finetune": TRAIN})
    assert found[0]["sparsity"] == pytest.approx(0.5, abs=1e-3)
