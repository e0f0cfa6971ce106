import json

import pytest
import torch
from torch import nn

from pruning import PruningError, prune
from pruning.thresholds import sensitivity_thresholds


def model() -> nn.Module:
    """Weights 1, -1, 3, -3 (sigma sqrt(20 / 3)) and 0, 0, 2, 2 (sigma sqrt(4 / 3))."""
    network = nn.Sequential(nn.Linear(4, 1), nn.Linear(2, 2))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, -1.0, 3.0, -3.0]]))
        network[1].weight.copy_(torch.tensor([[0.0, 0.0], [2.0, 2.0]]))
    return network


def kept(masks):
    return {name: mask.flatten().int().tolist() for name, mask in masks.items()}


def test_s_times_the_unbiased_deviation_of_the_signed_weights():
    found = sensitivity_thresholds(model(), 0.5)
    assert found["0.weight"] == pytest.approx(0.5 * (20 / 3) ** 0.5)
    assert found["1.weight"] == pytest.approx(0.5 * (4 / 3) ** 0.5)


def test_s_for_all_or_by_layer():
    # 0.5 sigma is 1.29 and 0.58; 1.2 sigma of the first layer is 3.098
    assert kept(prune(model(), allocation={"name": "threshold", "s": 0.5})) == {
        "0.weight": [0, 0, 1, 1],
        "1.weight": [0, 0, 1, 1],
    }
    choice = {"name": "threshold", "s": {"0.*": 0.3, "*": 2.0}}
    with pytest.warns(UserWarning, match=r"^layer 1.weight loses every weight"):
        masks = prune(model(), allocation=choice)
    assert kept(masks)["0.weight"] == [1, 1, 1, 1]


def test_later_rounds_use_the_thresholds_of_the_first_pruning():
    network = model()
    carried = json.loads(json.dumps(sensitivity_thresholds(network, 0.5)))
    allocation = {"name": "threshold", "thresholds": carried}
    first = prune(network, allocation=allocation)
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[0.0, 0.0, 1.3, 1.2]]))
    second = prune(network, allocation=allocation, previous=first)
    # 1.29 still cuts; half the deviation of today's weights would be 0.36
    assert kept(second)["0.weight"] == [0, 0, 1, 0]


def test_what_was_pruned_stays_pruned():
    network = model()
    first = prune(network, allocation="threshold")
    with torch.no_grad():
        network[0].weight.fill_(9.0)
    choice = {"name": "threshold", "thresholds": {"0.weight": 1.0, "1.weight": 1.0}}
    again = prune(network, allocation=choice, previous=first)
    assert torch.equal(again["0.weight"], first["0.weight"])
    back = prune(network, allocation=choice, previous=first, allow_regrowth=True)
    assert back["0.weight"].all()


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"s": -1}, "'threshold' at sparsity None: s of layer '0.weight' is -1.0, below zero"),
        ({"s": [1.0]}, "s has 1 values for 2 layers: 0.weight, 1.weight"),
        ({"s": {"conv*": 1.0}}, r"s: pattern 'conv\*' matches no layer"),
        ({"s": {"0.*": 1.0}}, "no pattern of .* matches layer '1.weight'"),
        ({"s": "high"}, "s of layer '0.weight' is 'high', not a number"),
        ({"thresholds": {"0.weight": 1.0}}, "no threshold for layer '1.weight'; there are"),
    ],
)
def test_a_setting_that_makes_no_sense_is_named(choice, message):
    with pytest.raises(PruningError, match=message):
        prune(model(), allocation={"name": "threshold", **choice})


def test_a_single_weight_has_no_deviation():
    with pytest.raises(PruningError, match="layer 'weight' has one weight"):
        sensitivity_thresholds(nn.Linear(1, 1), 1.0)
