import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import prune
from pruning.controls import shuffle
from pruning.layouts import layouts


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_every_layer_keeps_its_count(seed, sparsity):
    torch.manual_seed(seed)
    network = nn.Sequential(nn.Linear(9, 7), nn.Linear(7, 5))
    masks = prune(network, sparsity, allocation="layerwise")  # a global one may empty a layer
    shuffled = shuffle(masks, generator(seed))
    assert {n: int(m.sum()) for n, m in shuffled.items()} == {
        n: int(m.sum()) for n, m in masks.items()
    }


def test_the_places_change_and_depend_on_the_generator_alone():
    masks = {"w": torch.arange(1000).reshape(10, 100) < 300}
    first, second, other = (shuffle(masks, generator(seed))["w"] for seed in (0, 0, 1))
    assert torch.equal(first, second) and not torch.equal(first, other)
    # 30 % kept by chance in the first three rows, where all was kept before
    assert 60 < int(first[:3].sum()) < 120
    assert masks["w"][:3].all()


@pytest.mark.parametrize("granularity", ["filter", "channel", "kernel", "vector", "column"])
@pytest.mark.parametrize("kind", [nn.Conv2d, nn.ConvTranspose2d])
def test_pieces_move_whole(granularity, kind):
    torch.manual_seed(0)
    model = kind(12, 16, 3)
    masks = prune(model, 0.5, granularity=granularity)
    places = layouts(model, {"weight": model.weight})
    found = shuffle(masks, generator(), granularity=granularity, layouts=places)["weight"]
    expected = prune(model, 0.5, criterion="random", granularity=granularity)["weight"]
    assert found.shape == expected.shape and found.sum() == expected.sum()
    assert not torch.equal(found, masks["weight"])
    transposed = kind is nn.ConvTranspose2d
    inside = {"filter": (0,), "channel": (1,), "kernel": (0, 1), "vector": (0, 1, 2)}
    outside = inside.get(granularity, (0, 1, 3))
    if transposed and granularity in ("filter", "channel"):
        outside = (1 - outside[0],)
    dims = [d for d in range(4) if d not in outside]
    assert torch.equal(found.float().amax(dims), found.float().amin(dims))


def test_groups_of_a_pattern_move_whole():
    torch.manual_seed(0)
    masks = prune(nn.Linear(18, 6), 0.6, granularity="2:4")
    found = shuffle(masks, generator(), granularity="2:4")["weight"]
    assert found.sum() == masks["weight"].sum() and not torch.equal(found, masks["weight"])
    assert found[:, :16].reshape(-1, 4).sum(1).le(2).all()
