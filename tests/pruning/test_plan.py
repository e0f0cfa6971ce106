import pytest
import torch
from torch import nn

from pruning import PruningError
from pruning.plan import Planned, plan


def model() -> nn.Module:
    network = nn.Sequential(nn.Linear(2, 2), nn.ReLU(), nn.Linear(2, 3))
    with torch.no_grad():
        network[0].weight.copy_(torch.tensor([[1.0, 2.0], [3.0, 9.0]]))
        network[2].weight.fill_(0.5)
    return network


def test_a_row_for_every_matched_layer():
    rows = plan(model(), 0.4, granularity="filter")
    assert rows == [
        Planned("0.weight", (2, 2), pieces=2, pieces_kept=2, weights=4, kept=4),
        Planned("2.weight", (3, 2), pieces=3, pieces_kept=1, weights=6, kept=2),
    ]
    assert rows[1].sparsity == pytest.approx(2 / 3) and not rows[1].dies


def test_what_would_die_is_said_without_a_warning():
    rows = plan(model(), 0.6)
    assert [row.dies for row in rows] == [False, True]


def test_patterns_and_choices_are_those_of_prune():
    rows = plan(model(), 0.5, only=iter(["*.weight"]), skip=iter(["0.*"]), criterion="random")
    assert [(row.layer, row.kept) for row in rows] == [("2.weight", 3)]
    with pytest.raises(PruningError, match="unknown criterion 'magnet'"):
        plan(model(), 0.5, criterion="magnet")


def test_the_model_is_left_as_it_was():
    network = model()
    plan(network, 0.6)
    assert network[2].weight.eq(0.5).all()
