"""What is a piece: sums worked out by hand and pieces that live or die as one."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import PruningError
from pruning.granularity import GRANULARITIES, alive, any_kept, check, coarsen, expand, piece_shape
from pruning.scores import Elementwise

CONV = torch.arange(24.0).view(2, 3, 2, 2)
KINDS = [*GRANULARITIES]

# Sums of 0..23 over what lies within a piece of a (2, 3, 2, 2) kernel.
BY_HAND = {
    "weight": (2, 3, 2, 2),
    "vector": [[[[1.0], [5.0]], [[9.0], [13.0]], [[17.0], [21.0]]], None],
    "column": [[[[2.0, 4.0]], [[10.0, 12.0]], [[18.0, 20.0]]], None],
    "kernel": [[[[6.0]], [[22.0]], [[38.0]]], [[[54.0]], [[70.0]], [[86.0]]]],
    "filter": [[[[66.0]]], [[[210.0]]]],
    "channel": [[[[60.0]], [[92.0]], [[124.0]]]],
}


def coarse(score, granularity, **settings):
    return coarsen({"conv": score}, {"conv": CONV}, granularity, **settings)["conv"]


def test_a_single_weight_is_its_own_piece():
    assert coarse(CONV, "weight") is CONV


@pytest.mark.parametrize("granularity", ["vector", "column"])
def test_sums_along_a_kernel(granularity):
    assert coarse(CONV, granularity)[0].tolist() == BY_HAND[granularity][0]


@pytest.mark.parametrize("granularity", ["kernel", "filter", "channel"])
def test_sums_over_larger_pieces(granularity):
    assert coarse(CONV, granularity).tolist() == BY_HAND[granularity]
    lazy = Elementwise(-CONV, torch.abs)
    assert coarse(lazy, granularity).tolist() == BY_HAND[granularity]


def test_reductions_by_hand():
    score = torch.tensor([[1.0, 2.0, 6.0], [0.0, 5.0, 1.0]])
    for reduce, expected in {"sum": [9, 6], "mean": [3, 2], "max": [6, 5]}.items():
        found = coarsen({"fc": score}, {"fc": score}, "filter", reduce=reduce)["fc"]
        assert found.tolist() == [[value] for value in expected]
    found = coarsen({"fc": score}, {"fc": score}, "channel")["fc"]
    assert found.tolist() == [[1.0, 7.0, 7.0]]


def test_scores_already_coarse_stay_and_go_on_to_coarser():
    vectors = coarse(CONV, "vector")
    assert coarse(vectors, "vector") is vectors
    assert torch.equal(coarse(vectors, "filter"), coarse(CONV, "filter"))


def test_scores_coarser_than_asked_are_refused():
    with pytest.raises(PruningError, match=r"layer 'conv'.*\(2, 1, 1, 1\).*coarser.*'kernel'"):
        coarse(coarse(CONV, "filter"), "kernel")


def test_unknown_names_tell_the_choices():
    with pytest.raises(PruningError, match="unknown granularity 'row'; choose from weight, vector"):
        check("row")
    with pytest.raises(PruningError, match="unknown reduction 'min'; choose from sum, mean, max"):
        coarse(CONV, "filter", reduce="min")


@given(st.lists(st.integers(1, 5), min_size=2, max_size=5), st.sampled_from(KINDS), st.data())
def test_pieces_are_whole_or_nothing(shape, granularity, data):
    weight = torch.ones(shape)
    pieces = piece_shape(tuple(shape), granularity)
    kept = data.draw(st.lists(st.booleans(), min_size=len(shape)))
    flags = torch.zeros(pieces, dtype=torch.bool)
    flags.view(-1)[: len(kept)] = torch.tensor(kept)[: flags.numel()]
    mask = expand({"a": flags}, {"a": weight})["a"]
    assert mask.shape == weight.shape
    assert mask.is_contiguous()
    assert int(mask.sum()) * flags.numel() == int(flags.sum()) * weight.numel()
    # And back: a piece is alive exactly if it was kept.
    assert torch.equal(alive({"a": mask}, {"a": flags.float()})["a"], flags)


def test_one_kept_weight_keeps_its_piece_alive():
    mask = torch.zeros(2, 3, 2, 2, dtype=torch.bool)
    mask[1, 2, 0, 1] = True
    assert any_kept(mask, (2, 1, 1, 1)).flatten().tolist() == [False, True]
    assert any_kept(mask, (1, 3, 1, 1)).flatten().tolist() == [False, False, True]
    assert any_kept(mask, (2, 3, 2, 2)) is mask
    assert any_kept(mask, (1, 1, 1, 1)).item() is True


def test_a_layer_that_was_never_masked_has_no_flags():
    assert alive({}, {"a": torch.ones(2, 3)}) == {}
