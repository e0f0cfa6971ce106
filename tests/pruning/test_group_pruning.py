"""Groups pruned whole, by hand; nothing that was pruned comes back; and the rest shrinks away."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pruning import PruningError
from pruning.coupling.groups import channels
from pruning.group_pruning import joined, prune_groups
from pruning.shrinking.shrink_network import shrink


class Sum(nn.Module):
    """Two layers whose four outputs are added; a third reads them."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(1, 4), nn.Linear(1, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(functional.relu(self.a(x) + self.b(x)))


def network() -> Sum:
    model = Sum()
    with torch.no_grad():
        model.a.weight.copy_(torch.tensor([[1.0], [-2.0], [3.0], [4.0]]))
        model.b.weight.copy_(torch.tensor([[9.0], [3.0], [-1.0], [2.0]]))
    return model


EXAMPLE = torch.zeros(2, 1)
GROUPS = channels(network(), EXAMPLE)


def kept(masks) -> list[int]:
    """Return the outputs that stay, the same in both layers and their biases."""
    found = {tuple(masks[name].reshape(4).tolist()) for name in ("a.weight", "b.weight", "a.bias")}
    assert len(found) == 1
    return [index for index, stays in enumerate(found.pop()) if stays]


@pytest.mark.parametrize(
    ("coupled", "stay"),
    [
        ("sum", [0, 3]),  # 10, 5, 4, 6
        ("max", [0, 3]),  # 9, 3, 3, 4
    ],
)
def test_the_best_groups_stay(coupled, stay):
    masks = prune_groups(network(), 0.5, GROUPS, coupled=coupled)
    assert kept(masks) == stay
    assert bool(masks["c.weight"].all())  # its outputs are the network's: they stay


def test_what_was_pruned_goes_first_whatever_its_score():
    before = prune_groups(network(), 0.25, GROUPS, coupled="sum")
    assert kept(before) == [0, 1, 3]
    better = network()
    with torch.no_grad():
        better.a.weight[2] = 100.0
    after = prune_groups(better, 0.5, GROUPS, coupled="sum", previous=before)
    assert kept(after) == [0, 3]
    free = prune_groups(better, 0.5, GROUPS, previous=before, allow_regrowth=True)
    assert kept(free) == [0, 2]


def test_a_channel_that_nothing_feeds_goes_first_though_it_has_weights():
    model = nn.Sequential(nn.Linear(1, 4), nn.ReLU(), nn.Linear(4, 1))
    with torch.no_grad():
        model[2].weight.copy_(torch.tensor([[9.0, 3.0, 2.0, 1.0]]))
    groups = channels(model, EXAMPLE)
    before = {"0.weight": torch.tensor([[False], [True], [True], [True]])}
    before["0.bias"] = before["0.weight"][:, 0]
    masks = prune_groups(
        model, 0.5, groups, granularity="channel", skip=["0.weight"], previous=before
    )
    assert masks["0.bias"].tolist() == [False, True, True, False]


def test_a_lower_sparsity_brings_nothing_back():
    before = prune_groups(network(), 0.5, GROUPS)
    assert kept(prune_groups(network(), 0.25, GROUPS, previous=before)) == kept(before)


def test_masks_join_on_the_device_of_the_first():
    here = {"a": torch.tensor([True, True]), "b": torch.tensor([True, False])}
    assert joined(here, {"b": torch.tensor([False, True])})["b"].tolist() == [False, False]
    there = {"a": torch.ones(2, dtype=torch.bool, device="meta")}
    assert joined(there, here)["a"].is_meta


def test_the_masks_are_all_that_shrink_needs():
    model = network()
    smaller = shrink(model, prune_groups(model, 0.5, GROUPS), EXAMPLE, groups=GROUPS)
    assert smaller.a.weight.shape == smaller.b.weight.shape == (2, 1)
    assert smaller.c.weight.shape == (2, 2)


def test_at_least_and_in_multiples():
    assert kept(prune_groups(network(), 0.99, GROUPS, min_keep=2)) == [0, 3]
    assert kept(prune_groups(network(), 0.7, GROUPS, round_to=2)) == [0, 3]


def test_bad_choices_are_named():
    with pytest.raises(PruningError, match="unknown granularity of groups 'weight'"):
        prune_groups(network(), 0.5, GROUPS, granularity="weight")
    with pytest.raises(PruningError, match="unknown how 'median'"):
        prune_groups(network(), 0.5, GROUPS, coupled="median")
