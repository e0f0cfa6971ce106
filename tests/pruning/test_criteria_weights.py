import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pruning import PruningError, prune, score


def layer(rows: list[list[float]]) -> nn.Module:
    weight = torch.tensor(rows)
    model = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    with torch.no_grad():
        model.weight.copy_(weight)
    return model


ROWS = [[1.0, -2.0, 3.0], [-4.0, 0.0, 0.5]]


def scored(criterion, rows=ROWS, **kwargs):
    return score(layer(rows), criterion, **kwargs)["weight"].tolist()


def test_magnitude_and_its_l1_norm():
    assert scored("magnitude") == [[1, 2, 3], [4, 0, 0.5]]
    assert scored("magnitude", granularity="filter") == [[6], [4.5]]


@pytest.mark.parametrize("granularity", ["filter", "channel"])
@pytest.mark.parametrize("p", [1, 2, 3])
def test_lp_norm_is_the_power_of_the_norm_of_a_piece(granularity, p):
    found = torch.tensor(scored({"name": "lp_norm", "p": p}, granularity=granularity))
    dim = 1 if granularity == "filter" else 0
    norms = torch.tensor(ROWS).norm(p, dim, keepdim=True)
    assert torch.allclose(found, norms**p)


def test_random_depends_on_the_generator_alone():
    first, second = scored("random"), scored("random")
    assert first == second and len({*map(tuple, first)}) == 2


def test_random_filters_go_whole():
    torch.manual_seed(0)
    masks = prune(nn.Conv2d(4, 10, 3), 0.3, criterion="random", granularity="filter")
    kept = masks["weight"].flatten(1)
    assert kept.all(1).eq(kept.any(1)).all() and int(kept.any(1).sum()) == 7


def test_fpgm_by_hand():
    # distances of (0, 0), (3, 4), (6, 8): 5 + 10, 5 + 5, 10 + 5
    scores = score(layer([[0.0, 0], [3, 4], [6, 8]]), "fpgm", granularity="filter")
    assert scores["weight"].tolist() == [[15], [10], [15]]


@given(st.integers(1, 6), st.integers(1, 4), st.integers(0, 99))
def test_fpgm_equals_the_brute_force_sum_of_distances(filters, inputs, seed):
    torch.manual_seed(seed)
    model = nn.Conv2d(inputs, filters, 2)
    found = score(model, "fpgm", granularity="filter")["weight"].flatten().tolist()
    flat = model.weight.detach().flatten(1).tolist()
    brute = [sum(math.dist(mine, other) for other in flat) for mine in flat]
    assert found == pytest.approx(brute, rel=1e-5, abs=1e-6)


def test_fpgm_of_a_transposed_convolution_looks_at_its_outputs():
    torch.manual_seed(0)
    model = nn.ConvTranspose2d(3, 5, 2)
    flat = model.weight.detach().transpose(0, 1).flatten(1)
    found = score(model, "fpgm", granularity="filter")["weight"]
    assert found.shape == (1, 5, 1, 1)
    assert torch.allclose(found.flatten(), torch.cdist(flat, flat).sum(1), atol=1e-5)


def test_lamp_by_hand():
    # squares 1, 4, 9: over 14, 13 and 9
    found = scored("lamp", [[1.0, -2.0, 3.0]])
    assert found[0] == pytest.approx([1 / 14, 4 / 13, 1])


def test_lamp_of_equal_weights_goes_by_position_and_zeros_stay_zero():
    assert scored("lamp", [[2.0, 2.0]])[0] == [0.5, 1]
    assert scored("lamp", [[0.0, 0.0]])[0] == [0, 0]


def test_lamp_never_empties_a_layer_where_magnitude_does():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 20), nn.Linear(20, 20))
    with torch.no_grad():
        model[0].weight.mul_(1e-3)
    with pytest.warns(UserWarning, match=r"layer 0.weight loses every weight"):
        prune(model, 0.9, criterion="magnitude")
    masks = prune(model, 0.9, criterion="lamp")
    assert all(mask.any() for mask in masks.values())


def test_normalised_by_hand():
    assert scored({"name": "normalised", "by": "max"}) == [[0.25, 0.5, 0.75], [1, 0, 0.125]]
    found = scored({"name": "normalised", "by": "l2", "of": {"name": "lp_norm", "p": 1}}, [[3, -4]])
    assert found[0] == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("by", ["mean", "l2", "max", "std"])
def test_normalised_scores_forget_the_scale_of_a_layer(by):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    before = prune(model, 0.5, criterion={"name": "normalised", "by": by})
    with torch.no_grad():
        model[0].weight.mul_(0.25)
    after = prune(model, 0.5, criterion={"name": "normalised", "by": by})
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_inverted_keeps_what_the_criterion_would_prune():
    masks = prune(layer(ROWS), 0.5, criterion={"name": "inverted", "of": "magnitude"})
    assert masks["weight"].tolist() == [[True, False, False], [False, True, True]]


def test_a_wrapped_criterion_that_is_unknown_is_named():
    with pytest.raises(PruningError, match="unknown criterion 'magnitud'"):
        prune(layer(ROWS), 0.5, criterion={"name": "inverted", "of": "magnitud"})
    with pytest.raises(PruningError, match="unknown by 'sum'; choose from mean"):
        prune(layer(ROWS), 0.5, criterion={"name": "normalised", "by": "sum"})
