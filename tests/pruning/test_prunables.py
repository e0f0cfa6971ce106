"""Which parameters are up for pruning."""

import pytest
import torch
from torch import nn

from pruning.errors import PruningError
from pruning.prunables import prunable


class Mixed(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3)
        self.norm = nn.BatchNorm2d(2)
        self.encoder = nn.ModuleDict({"fc": nn.Linear(2, 3), "norm": nn.LayerNorm(3)})
        self.gate = nn.Parameter(torch.ones(3, 2))
        self.head = nn.Linear(3, 2, bias=False)


ALL = ["conv.weight", "encoder.fc.weight", "head.weight"]


def test_matrices_and_kernels_in_the_order_of_the_model():
    model = Mixed()
    params = prunable(model)
    assert [*params] == ALL
    assert params["conv.weight"] is model.conv.weight


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["*orm.weight"], ["norm.weight", "encoder.norm.weight"]),
        (["encoder.fc.*"], ["encoder.fc.weight", "encoder.fc.bias"]),
        (["head.*", "conv.weight"], ["conv.weight", "head.weight"]),
        (["gate"], ["gate"]),
        (["conv.[wb]*"], ["conv.weight", "conv.bias"]),
    ],
)
def test_only_names_by_pattern_in_the_order_of_the_model(only, expected):
    assert [*prunable(Mixed(), only=only)] == expected


def test_skip_takes_away():
    assert [*prunable(Mixed(), skip=["head.*"])] == ALL[:2]
    assert [*prunable(Mixed(), only=["encoder.*"], skip=["*.bias", "*norm*"])] == [ALL[1]]


def test_patterns_may_come_from_a_generator():
    patterns = (name for name in ("conv.*",))
    assert [*prunable(Mixed(), only=patterns)] == ["conv.weight", "conv.bias"]


@pytest.mark.parametrize("kind", ["only", "skip"])
def test_a_pattern_without_a_match_tells_the_names(kind):
    with pytest.raises(PruningError, match=r"'fc\*' matches no parameter; .*encoder\.fc\.weight"):
        prunable(Mixed(), **{kind: ["conv.*", "fc*"]})


@pytest.mark.parametrize("settings", [{"skip": ["*"]}, {"only": []}])
def test_nothing_left_is_an_error(settings):
    with pytest.raises(PruningError, match="Mixed has nothing to prune"):
        prunable(Mixed(), **settings)
    with pytest.raises(PruningError, match="ReLU has nothing to prune"):
        prunable(nn.ReLU())


def test_frozen_layers_are_not_pruned_unless_named():
    model = Mixed()
    model.encoder.requires_grad_(False)
    assert [*prunable(model)] == ["conv.weight", "head.weight"]
    assert [*prunable(model, only=["encoder.fc.weight"])] == ["encoder.fc.weight"]


def test_a_weight_used_twice_appears_once():
    model = nn.Sequential(nn.Embedding(5, 3), nn.Linear(3, 3), nn.Linear(3, 5, bias=False))
    model[2].weight = model[0].weight
    assert [*prunable(model)] == ["0.weight", "1.weight"]
    shared = nn.Linear(3, 3)
    assert [*prunable(nn.Sequential(shared, nn.ReLU(), shared))] == ["0.weight"]


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (nn.Conv1d(2, 3, 2), ["weight"]),
        (nn.ConvTranspose2d(2, 3, 2), ["weight"]),
        (nn.Conv3d(2, 3, 2), ["weight"]),
        (nn.Bilinear(2, 3, 4), ["weight"]),
        (nn.Embedding(4, 3), ["weight"]),
        (nn.EmbeddingBag(4, 3), ["weight"]),
        (nn.LSTM(2, 3), ["weight_ih_l0", "weight_hh_l0"]),
        (nn.GRUCell(2, 3), ["weight_ih", "weight_hh"]),
        (nn.MultiheadAttention(4, 2), ["in_proj_weight", "out_proj.weight"]),
    ],
    ids=lambda value: type(value).__name__,
)
def test_every_kind_of_layer(module, names):
    assert [*prunable(module)] == names
