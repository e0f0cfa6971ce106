"""Multiply-adds, counted by hand."""

import torch
from torch import nn

from pruning.macs import macs, macs_by_layer
from pruning.models import build


def test_lenet5_by_layer():
    found = macs_by_layer(build({"factory": "lenet5"}), torch.zeros(1, 1, 28, 28))
    assert found == {
        "conv1": 20 * 25 * 24 * 24,
        "conv2": 50 * 20 * 25 * 8 * 8,
        "fc1": 800 * 500,
        "fc2": 500 * 10,
    }


def test_the_batch_counts():
    model = nn.Linear(3, 5)
    assert macs(model, torch.zeros(7, 3)) == 7 * 15
    assert macs_by_layer(model, {"input": torch.zeros(2, 3)}) == {"": 30}


def test_grouped_and_transposed_convolutions():
    model = nn.Sequential(
        nn.ConvTranspose2d(4, 6, 2, stride=2, groups=2), nn.Conv2d(6, 8, 3, groups=2)
    )
    assert macs_by_layer(model, torch.zeros(1, 4, 5, 5)) == {
        "0": 4 * 3 * 4 * 25,
        "1": 8 * 3 * 9 * 64,
    }


def test_attention_counts_its_scores_and_sums():
    model = nn.MultiheadAttention(8, 2, batch_first=True)
    x = torch.zeros(2, 3, 8)
    projections = 2 * 3 * (8 * 24 + 8 * 8)
    assert macs(model, (x, x, x)) == projections + 2 * (2 * 2 * 3 * 3 * 4)


def test_recurrence_counts_every_gate_in_every_step():
    found = macs_by_layer(build({"factory": "lstm_lm"}), torch.zeros(2, 7, dtype=torch.int64))
    assert found["lstm"] == 2 * 7 * 4 * 256 * (64 + 256 + 256 + 256)
    assert found["decoder"] == 2 * 7 * 256 * 65


def test_published_counts():
    """Li et al. 2017, table 1: 1.25e8, 2.53e8 and 3.13e8."""
    image = torch.zeros(1, 3, 32, 32)
    assert macs(build({"factory": "resnet56"}), image) == 125_485_696
    assert macs(build({"factory": "resnet110"}), image) == 252_887_680
    assert macs(build({"factory": "vgg16_bn", "hidden": 512}), image) == 313_463_808


def test_the_model_is_left_as_it_is():
    model = nn.Sequential(nn.Dropout(), nn.Linear(3, 2)).train()
    macs(model, torch.zeros(1, 3))
    assert model[0].training
    assert not any(module._forward_hooks for module in model.modules())
