import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import PruningError, prune
from pruning.layouts import Layout
from pruning.semi_structured import competitors, parse, rows, unrows


def test_two_of_four_by_hand():
    scores = {"w": torch.tensor([[1.0, 4, 3, 2, 9, 9, 9, 9], [0, 0, 0, 1, 8, 7, 6, 5]])}
    found = competitors(scores, (2, 4), {}, {})["w"]
    # equal scores are kept by position
    assert found.int().tolist() == [[0, 1, 1, 0, 1, 1, 0, 0], [1, 0, 0, 1, 1, 1, 0, 0]]


def test_what_is_no_longer_alive_never_competes():
    scores = {"w": torch.tensor([[4.0, 3, 2, 1]])}
    alive = {"w": torch.tensor([[False, True, False, False]])}
    assert competitors(scores, (2, 4), {}, alive)["w"].tolist() == alive["w"].tolist()


def test_a_last_group_that_is_shorter_keeps_at_most_as_many():
    found = competitors({"w": torch.arange(7.0)[None]}, (2, 4), {}, {})["w"]
    assert found.int().tolist() == [[0, 0, 1, 1, 0, 1, 1]]


@given(st.sampled_from([(1, 2), (2, 4), (1, 4), (3, 8)]), st.integers(1, 5), st.integers(0, 50))
def test_the_pattern_holds_along_the_flattened_inputs(pattern, filters, seed):
    torch.manual_seed(seed)
    model = nn.Conv2d(8, filters, 2)
    target = 1 - pattern[0] / pattern[1]
    mask = prune(model, target, granularity=f"{pattern[0]}:{pattern[1]}")["weight"]
    groups = mask.flatten(1).reshape(-1, pattern[1])
    assert groups.sum(1).eq(pattern[0]).all()
    kept = model.weight.detach().abs().flatten(1).reshape(-1, pattern[1])
    assert (kept.masked_fill(~groups, 9).amin(1) >= kept.masked_fill(groups, 0).amax(1)).all()


def test_of_a_transposed_convolution_the_inputs_are_dimension_0():
    model = nn.ConvTranspose2d(8, 3, 2)
    mask = prune(model, 0.5, granularity="2:4")["weight"]
    assert mask.reshape(2, 4, 3, 2, 2).sum(1).eq(2).all()


@pytest.mark.parametrize("layout", [Layout(), Layout(output=1, input=0)])
def test_rows_are_undone(layout):
    weight = torch.arange(2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    assert torch.equal(unrows(rows(weight, layout), weight.shape, layout), weight)


def test_more_sparsity_than_the_pattern_is_one_ranking_of_what_it_leaves():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(16, 8), nn.Linear(8, 8))
    masks = prune(model, 0.75, granularity="2:4")
    assert sum(int(mask.sum()) for mask in masks.values()) == (128 + 64) // 4
    assert all(mask.reshape(-1, 4).sum(1).le(2).all() for mask in masks.values())


def test_less_sparsity_than_the_pattern_is_refused():
    with pytest.raises(PruningError, match="'2:4' prunes at least 0"):
        prune(nn.Linear(8, 8), 0.4, granularity="2:4")


@pytest.mark.parametrize("granularity", ["4:4", "0:4", "5:4"])
def test_a_pattern_that_prunes_nothing_or_everything_is_refused(granularity):
    with pytest.raises(PruningError, match=f"granularity '{granularity}' keeps"):
        prune(nn.Linear(8, 8), 0.5, granularity=granularity)


def test_what_is_no_pattern_is_none():
    assert parse("filter") is None and parse("2:4x") is None and parse("2:4") == (2, 4)


@pytest.mark.skipif(
    not torch.cuda.is_available() or torch.cuda.get_device_capability() < (8, 0),
    reason="semi-structured tensors need a CUDA GPU of compute capability 8.0 or more",
)
def test_torch_accepts_the_pattern():
    weight = nn.Linear(128, 64, bias=False, device="cuda", dtype=torch.float16)
    mask = prune(weight, 0.5, granularity="2:4")["weight"]
    sparse = torch.sparse.to_sparse_semi_structured(weight.weight.detach() * mask)
    inputs = torch.randn(128, 64, device="cuda", dtype=torch.float16)
    expected = (weight.weight.detach() * mask) @ inputs
    assert torch.allclose(sparse @ inputs, expected, rtol=1e-2, atol=1e-2)
