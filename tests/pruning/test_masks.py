"""Masks on a model, counted, and packed into bits."""

from math import nan

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import masks as mask_tools
from pruning.errors import PruningError

MASK = torch.tensor([[True, False, True], [False, False, True]])


def linear():
    model = nn.Sequential(nn.Linear(3, 2))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0, -2.0, 3.0], [-4.0, 5.0, -6.0]]))
    return model


def test_apply_zeroes_what_is_pruned_and_nothing_else():
    model = linear()
    bias = model[0].bias.detach().clone()
    mask_tools.apply(model, {"0.weight": MASK})
    assert model[0].weight.tolist() == [[1.0, 0.0, 3.0], [0.0, 0.0, -6.0]]
    assert torch.equal(model[0].bias, bias)
    mask_tools.verify(model, {"0.weight": MASK})


def test_apply_zeroes_nan_and_infinity_too():
    model = linear()
    with torch.no_grad():
        model[0].weight[0, 1], model[0].weight[1, 0] = nan, float("inf")
    with pytest.raises(PruningError, match=r"net: 3 pruned weights of layer '0\.weight' are not"):
        mask_tools.verify(model, {"0.weight": MASK}, where="net")
    mask_tools.apply(model, {"0.weight": MASK})
    assert model[0].weight.tolist() == [[1.0, 0.0, 3.0], [0.0, 0.0, -6.0]]


@pytest.mark.parametrize("value", [1e-45, -3.0, nan])
def test_a_single_pruned_weight_that_is_not_zero_is_told(value):
    model = linear()
    mask_tools.apply(model, {"0.weight": MASK})
    with torch.no_grad():
        model[0].weight[1, 1] = value
    with pytest.raises(PruningError, match=r"1 pruned weights of layer '0\.weight' are not zero"):
        mask_tools.verify(model, {"0.weight": MASK})


def test_masks_of_a_tied_weight_join_under_its_first_name_on_its_device():
    model = nn.Sequential(nn.Linear(2, 1, device="meta"), nn.Linear(2, 1, device="meta"))
    model[1].weight = model[0].weight
    masks = {"1.weight": torch.ones(1, 2).bool(), "0.bias": torch.ones(1).bool()}
    found = mask_tools.by_first_name(model, masks)
    assert [*found] == ["0.weight", "0.bias"]
    assert all(mask.is_meta for mask in found.values())
    model = nn.Sequential(nn.Linear(2, 1), nn.Linear(2, 1))
    model[1].weight = model[0].weight
    pair = {"1.weight": torch.tensor([[True, False]]), "0.weight": torch.tensor([[True, True]])}
    assert mask_tools.by_first_name(model, pair)["0.weight"].tolist() == [[True, False]]
    with pytest.raises(PruningError, match=r"here: the model has no parameter '2\.weight'"):
        mask_tools.by_first_name(model, {"2.weight": torch.ones(1).bool()}, where="here")


def test_tied_weights_are_masked_under_either_name():
    for name in ("0.weight", "1.weight"):
        model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
        model[1].weight = model[0].weight
        mask_tools.apply(model, {name: torch.eye(3).bool()})
        assert int(torch.count_nonzero(model[0].weight)) == 3


@pytest.mark.parametrize(
    ("masks", "told"),
    [
        ({"1.weight": MASK}, r"file: the model has no parameter '1\.weight'; it has .*0\.weight"),
        ({"0.weight": MASK.t()}, r"mask '0\.weight' has shape \(3, 2\), its parameter \(2, 3\)"),
        ({"0.weight": MASK.float()}, r"mask '0\.weight' is torch\.float32, expected torch\.bool"),
    ],
)
def test_masks_that_do_not_fit_are_refused(masks, told):
    with pytest.raises(PruningError, match=told):
        mask_tools.check(masks, linear(), where="file")
    with pytest.raises(PruningError):
        mask_tools.apply(linear(), masks)


def test_counts_by_hand():
    masks = {"a": MASK, "b": torch.tensor([True, False]), "c": torch.zeros(2, 1).bool()}
    assert mask_tools.kept(masks) == 4
    assert mask_tools.sparsity(masks) == pytest.approx(0.6)
    rows = [(r.layer, r.shape, r.weights, r.kept, r.sparsity) for r in mask_tools.layers(masks)]
    assert rows == [("a", (2, 3), 6, 3, 0.5), ("b", (2,), 2, 1, 0.5), ("c", (2, 1), 2, 0, 1.0)]
    assert mask_tools.collapsed(masks) == ["c"]


def test_no_masks_and_dense_masks():
    assert mask_tools.sparsity({}) == 0.0
    dense = mask_tools.dense(dict(linear().named_parameters()))
    assert dense["0.weight"].tolist() == [[True] * 3] * 2
    assert (mask_tools.sparsity(dense), mask_tools.collapsed(dense)) == (0.0, [])


@given(st.lists(st.integers(0, 5), min_size=0, max_size=4), st.data())
def test_bits_come_back(shape, data):
    count = torch.Size(shape).numel()
    flags = data.draw(st.lists(st.booleans(), min_size=count, max_size=count))
    mask = torch.tensor(flags, dtype=torch.bool).reshape(shape)
    bits = mask_tools.pack(mask)
    assert (bits.dtype, bits.numel()) == (torch.uint8, -(-count // 8))
    assert torch.equal(mask_tools.unpack(bits, shape), mask)


@pytest.mark.parametrize("count", [1, 7, 8, 9, 1001])
def test_sizes_around_a_byte(count):
    mask = torch.arange(count) % 3 == 0
    assert torch.equal(mask_tools.unpack(mask_tools.pack(mask), (count,)), mask)
    for wrong in (count + 8, max(count - 8, 0)):
        with pytest.raises(PruningError, match="are not the bits of a mask"):
            mask_tools.unpack(mask_tools.pack(mask), (wrong,))


def test_the_first_weight_is_the_highest_bit():
    assert mask_tools.pack(torch.tensor([True] + [False] * 8)).tolist() == [128, 0]


def test_a_transposed_mask_is_packed_by_position():
    mask = MASK.t()
    assert torch.equal(mask_tools.unpack(mask_tools.pack(mask), (3, 2)), mask)


def test_bits_of_another_type_are_refused():
    with pytest.raises(PruningError, match=r"1 bytes of torch\.int64 are not the bits"):
        mask_tools.unpack(torch.tensor([3]), (2, 3))
