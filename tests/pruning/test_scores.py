"""What a criterion may return, and scores looked at a block at a time."""

from math import inf, nan

import pytest
import torch

from pruning.errors import PruningError
from pruning.scores import BLOCK, Elementwise, as_tensor, blocks, check_scores, materialise

PARAMS = {"conv": torch.ones(2, 3, 2, 2), "fc": torch.ones(2, 3)}


def scores(**changed):
    return {"conv": torch.ones(2, 3, 2, 2), "fc": torch.ones(2, 3)} | changed


@pytest.mark.parametrize(
    "shape", [(2, 3, 2, 2), (2, 3, 2, 1), (2, 3, 1, 1), (2, 1, 1, 1), (1,) * 4]
)
def test_every_granularity_is_welcome(shape):
    check_scores(scores(conv=torch.ones(shape)), PARAMS, "mine")


def test_infinity_ranks_first_and_is_allowed():
    check_scores(scores(fc=torch.full((2, 3), inf)), PARAMS, "mine")


@pytest.mark.parametrize("value", [3e38, -3e38])  # six of them add up to more than float32 holds
def test_scores_whose_sum_overflows_are_allowed(value):
    check_scores(scores(fc=torch.full((2, 3), value)), PARAMS, "mine")


@pytest.mark.parametrize(("value", "told"), [(nan, "NaN"), (-inf, "-inf")])
def test_infinity_hides_no_score_without_a_rank(value, told):
    broken = torch.full((2, 3), inf)
    broken[1, 1] = value
    with pytest.raises(PruningError, match=f"'mine' returned {told} for layer 'fc'"):
        check_scores(scores(fc=broken), PARAMS, "mine")


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 2, 3), (3, 3, 2, 2), (2, 3, 2, 2, 1), ()])
def test_a_wrong_shape_is_named_with_the_right_one(shape):
    with pytest.raises(PruningError) as error:
        check_scores(scores(conv=torch.ones(shape)), PARAMS, "mine")
    assert "'mine'" in str(error.value)
    assert f"shape {shape} for layer 'conv'" in str(error.value)
    assert "(2, 3, 2, 2)" in str(error.value)


def test_a_missing_layer_is_named():
    with pytest.raises(PruningError, match="'mine' returned no score for layer 'fc'"):
        check_scores({"conv": torch.ones(2, 3, 2, 2)}, PARAMS, "mine")


def test_a_foreign_layer_is_named():
    with pytest.raises(PruningError, match=r"'mine' scored 'fc\.bias', which is not prunable"):
        check_scores(scores(**{"fc.bias": torch.ones(2)}), PARAMS, "mine")


@pytest.mark.parametrize(("value", "told"), [(nan, "NaN"), (-inf, "-inf")])
@pytest.mark.parametrize("place", [0, 5])
def test_a_score_without_a_rank_is_refused(value, told, place):
    broken = torch.ones(6)
    broken[place] = value
    with pytest.raises(PruningError, match=f"'mine' returned {told} for layer 'fc'"):
        check_scores(scores(fc=broken.view(2, 3)), PARAMS, "mine")
    lazy = Elementwise(broken.view(2, 3), torch.clone)
    with pytest.raises(PruningError, match=f"'mine' returned {told} for layer 'fc'"):
        check_scores(scores(fc=lazy), PARAMS, "mine")


def test_a_nan_in_the_last_block_is_found():
    weight = torch.ones(BLOCK + 3, 1)
    broken = weight.clone()
    broken[-1] = nan
    with pytest.raises(PruningError, match="NaN"):
        check_scores({"fc": broken}, {"fc": weight}, "mine")


@pytest.mark.parametrize("answer", [None, torch.ones(2, 3), [torch.ones(2, 3)]])
def test_what_is_no_mapping_is_refused(answer):
    with pytest.raises(PruningError, match=f"a {type(answer).__name__}, not scores by layer name"):
        check_scores(answer, PARAMS, "mine")


def test_integers_are_refused():
    with pytest.raises(PruningError, match=r"torch\.int64 for layer 'fc', not floats"):
        check_scores(scores(fc=torch.ones(2, 3, dtype=torch.int64)), PARAMS, "mine")


@pytest.mark.parametrize("size", [1, BLOCK - 1, BLOCK, BLOCK + 1, 2 * BLOCK + 5])
def test_blocks_cover_everything_once(size):
    weight = -torch.arange(size).float()
    parts = [*blocks(Elementwise(weight, torch.abs))]
    assert torch.equal(torch.cat([block for _, block in parts]), weight.abs())
    assert [start for start, _ in parts] == [*range(0, size, BLOCK)]
    assert max(block.numel() for _, block in parts) <= BLOCK


def test_the_dead_are_last():
    alive = torch.tensor([[True, False], [False, True]])
    for score in (torch.ones(2, 2), Elementwise(torch.ones(2, 2), torch.abs)):
        ((start, block),) = blocks(score, alive)
        assert (start, block.tolist()) == (0, [1.0, -inf, -inf, 1.0])


def test_lazy_scores_are_the_same_numbers():
    weight = torch.tensor([[-2.0, 1.0, 0.0], [3.0, -0.5, 4.0]])
    lazy = Elementwise(weight, torch.square)
    assert (lazy.shape, lazy.numel()) == (weight.shape, 6)
    assert as_tensor(lazy).tolist() == [[4.0, 1.0, 0.0], [9.0, 0.25, 16.0]]
    assert materialise({"a": lazy, "b": weight})["b"] is weight
