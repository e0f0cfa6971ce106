import pytest
import torch
from torch import nn

from pruning import PruningError, prune, score
from tests.pruning import zoo

BEFORE = {"name": "bn_scale", "side": "before"}


def plain() -> nn.Module:
    model = nn.Sequential(
        *(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU()),
        *(nn.Conv2d(3, 2, 1), nn.Dropout(), nn.BatchNorm2d(2), nn.ReLU()),
    )
    with torch.no_grad():
        model[1].weight.copy_(torch.tensor([0.5, -0.9, 0.1]))
        model[5].weight.copy_(torch.tensor([-0.2, 0.7]))
    return model


def test_one_global_threshold_on_the_scales_that_follow():
    masks = prune(
        plain(),
        0.4,
        criterion="bn_scale",
        granularity="filter",
        evidence=zoo.evidence("batch_norm"),
    )
    kept = {name: mask[:, 0, 0, 0].tolist() for name, mask in masks.items()}
    # |scales| 0.5, 0.9, 0.1 and 0.2, 0.7: the two smallest of all five go
    assert kept == {"0.weight": [True, True, False], "3.weight": [False, True]}


def test_channel_selection_is_a_mask_over_the_inputs_of_what_a_batch_norm_precedes():
    model = zoo.build("residual")
    with torch.no_grad():
        for norm, low in ((model.bn1, 0.1), (model.bn2, 0.2), (model.bn3, 0.3)):
            norm.weight.fill_(1.0)
            norm.weight[2] = -low
    masks = prune(
        model,
        3 / 22,
        criterion=BEFORE,
        granularity="channel",
        evidence=zoo.evidence("residual"),
        skip=["stem.*"],
    )
    assert [*masks] == ["conv1.weight", "conv2.weight", "head.weight"]
    for mask in masks.values():
        gone = mask.transpose(0, 1).flatten(1).any(1).logical_not().nonzero().flatten()
        assert gone.tolist() == [2]


def test_a_sum_is_not_crossed():
    model, evidence = zoo.build("residual"), zoo.evidence("residual")
    scores = score(
        model, "bn_scale", evidence=evidence, granularity="filter", only=["conv1.weight"]
    )
    assert torch.equal(scores["conv1.weight"].flatten(), model.bn2.weight.detach().abs())
    with pytest.raises(PruningError, match=r"no BatchNorm with a scale follows layer conv2.weight"):
        score(model, "bn_scale", evidence=evidence, only=["conv2.weight"])


@pytest.mark.parametrize(
    ("name", "choice", "message"),
    [
        ("mlp", "bn_scale", "criterion 'bn_scale' needs BatchNorm; Sequential has none"),
        ("batch_norm", "bn_scale", "follows layer 0.weight, 7.weight: skip it"),
        ("batch_norm", BEFORE, "precedes layer 0.weight, 2.weight: skip it"),
        ("mlp", {"name": "bn_scale", "side": "left"}, "unknown side 'left'; choose from after"),
    ],
)
def test_what_is_missing_is_named(name, choice, message):
    with pytest.raises(PruningError, match=message):
        score(zoo.build(name), choice, evidence=zoo.evidence(name), granularity="filter")


def test_no_evidence_is_named():
    with pytest.raises(PruningError, match="'bn_scale' needs data"):
        score(plain(), "bn_scale")
