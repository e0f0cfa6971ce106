"""Who keeps how many: ERK, ratios by layer, and the guards of every allocation."""

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st
from torch import nn

from pruning import PruningError, prune
from pruning.budgets import proportional
from pruning.selection import kept_count


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 10), nn.ReLU(), nn.Linear(10, 10), nn.Linear(10, 4))


NAMES = ["0.weight", "2.weight", "3.weight"]


def counts(sparsity, allocation, **kwargs) -> list[int]:
    masks = prune(network(), sparsity, allocation=allocation, **kwargs)
    assert [*masks] == NAMES
    return [int(mask.sum()) for mask in masks.values()]


def test_erk_by_hand():
    # dimensions add to 30, 20, 14; at 136 of 340 kept all are scaled by 136 / 64 = 2.125:
    # 63.75, 42.5 and 29.75, rounded to the total
    assert counts(0.6, "erk") == [64, 42, 30]


def test_erk_solves_again_without_the_layers_that_are_full():
    # at 204 kept: scale 3.1875 would keep 44.6 of 40; without it 164 / 50 = 3.28
    assert counts(0.4, "erk") == [98, 66, 40]


def test_erk_is_the_published_density():
    shapes = ((64, 3, 3, 3), (128, 64, 3, 3), (10, 128))
    model = nn.Sequential(nn.Conv2d(3, 64, 3), nn.Conv2d(64, 128, 3), nn.Linear(128, 10))
    masks = prune(model, 0.9, allocation="erk")
    raw = [sum(shape) / torch.Size(shape).numel() for shape in shapes]
    densities = [float(mask.float().mean()) for mask in masks.values()]
    free = [(d, r) for d, r in zip(densities, raw, strict=True) if d < 1]
    assert len(free) > 1
    scales = [d / r for d, r in free]
    assert scales == pytest.approx([scales[0]] * len(scales), rel=0.01)


@given(st.floats(0, 0.99), st.integers(0, 5), st.floats(0.5, 1))
def test_erk_is_exact_whatever_the_guards(sparsity, least, most):
    allocation = {"name": "erk", "min_keep": least, "max_sparsity": most}
    total = int(340 * (1 - sparsity) + 0.5)
    guards = [max(least, round(n * (1 - most) + 0.4999)) for n in (200, 100, 40)]
    assume(sum(guards) + 3 <= total)
    found = counts(sparsity, allocation, on_collapse="warn") if total else None
    assert sum(found) == total
    assert all(have >= want - 1 for have, want in zip(found, guards, strict=True))


@given(
    st.lists(st.tuples(st.floats(0.1, 10), st.integers(0, 5), st.integers(5, 50)), min_size=1),
    st.floats(0, 1),
)
def test_proportional_shares_add_up_within_their_bounds(layers, where):
    weights, lows, highs = (list(column) for column in zip(*layers, strict=True))
    total = sum(lows) + int(where * (sum(highs) - sum(lows)))
    found = proportional(weights, total, lows, highs)
    assert sum(found) == total
    assert all(lo <= n <= hi for lo, n, hi in zip(lows, found, highs, strict=True))
    free = [n / w for n, w, lo, hi in zip(found, weights, lows, highs, strict=True) if lo < n < hi]
    if free:
        assert max(free) - min(free) <= 2 / min(weights)


def test_ratios_by_list_and_by_pattern():
    assert counts(None, {"name": "per_layer", "ratios": [0.5, 0.25, 0.0]}) == [100, 75, 40]
    by_name = {"name": "per_layer", "ratios": {"0.*": 0.5, "[02].*": 0.1}}
    assert counts(None, by_name) == [100, 90, 40]
    assert counts(0.99, {**by_name, "rest": 0.75}) == [100, 90, 10]


def test_ratios_round_to_the_nearest_or_down():
    # filters: 10, 10 and 4, of which 5.3, 5.3 and 2.12 or 3.7, 3.7 and 1.48 are to stay
    def filters(ratio, rounding):
        choice = {"name": "per_layer", "ratios": ratio, "rounding": rounding}
        masks = prune(network(), None, allocation=choice, granularity="filter")
        return [int(mask.any(1).sum()) for mask in masks.values()]

    assert filters(0.47, "nearest") == [5, 5, 2]
    assert filters(0.63, "nearest") == [4, 4, 1]
    assert filters(0.63, "down") == [3, 3, 1]
    # 10 * (1 - 0.9) is a hair below 1 in binary, and means 1
    assert filters({"[02].*": 0.9}, "down") == [1, 1, 4]


POINTS = [{"0.*": 0.5, "2.*": 0.2, "3.*": 0.0}, [0.9, 0.6, 0.25], {"*": 1.0}]


def test_layers_pass_through_their_points():
    # 200, 100 and 40 weights: at the points 100, 80, 40 and 20, 40, 30 stay
    choice = {"name": "interpolated", "ratios": POINTS}
    assert counts(0, choice) == [200, 100, 40]
    assert counts(1 - 220 / 340, choice) == [100, 80, 40]
    assert counts(1 - 155 / 340, choice) == [60, 60, 35]
    assert counts(1 - 90 / 340, choice) == [20, 40, 30]
    assert counts(1 - 9 / 340, choice) == [2, 4, 3]


@given(st.floats(0, 0.99))
def test_what_lies_between_points_is_exact_in_all(sparsity):
    found = counts(sparsity, {"name": "interpolated", "ratios": POINTS[:2]})
    assert sum(found) == kept_count(340, sparsity)


def test_a_layer_takes_what_guards_leave_to_it():
    guard = {"name": "interpolated", "ratios": [[0.5, 0.5, 1.0]], "max_sparsity": [1.0, 1.0, 0.5]}
    assert counts(1 - 140 / 340, guard) == [80, 40, 20]


def test_a_ratio_of_one_removes_the_layer():
    with pytest.warns(UserWarning, match=r"layer 3.weight loses every weight"):
        assert counts(None, {"name": "per_layer", "ratios": {"3.*": 1.0}}) == [200, 100, 0]


@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
def test_no_layer_loses_more_than_its_maximum(allocation):
    found = counts(0.9, {"name": allocation, "max_sparsity": {"3.*": 0.5, "*": 0.96}})
    assert found[2] >= 20 and found[0] >= 8 and found[1] >= 4
    if allocation != "layerwise":
        assert sum(found) == 34


def test_guards_by_layer():
    found = counts(0.6, {"name": "global", "min_keep": {"2.*": 90}})
    assert found[1] == 90 and sum(found) == 136
    guard = {"name": "per_layer", "ratios": 0.9, "min_keep": [1, 2, 30]}
    assert counts(None, guard) == [20, 10, 30]


@pytest.mark.parametrize(
    ("allocation", "sparsity", "message"),
    [
        (
            {"name": "global", "min_keep": 15},
            0.9,
            "'global' at sparsity 0.9: keeps 34 pieces, but min_keep 15 .* ask for 45, 15 of them "
            "in layer '0.weight'",
        ),
        (
            {"name": "erk", "max_sparsity": 0.5},
            0.9,
            "'erk' at sparsity 0.9: cannot keep 34: the layers allow 170 to 340",
        ),
        ({"name": "global", "min_keep": -1}, 0.5, "min_keep of layer '0.weight' is -1.0, not a"),
        ({"name": "global", "min_keep": 0.5}, 0.5, "min_keep of layer '0.weight' is 0.5, not a co"),
        ({"name": "erk", "max_sparsity": 2}, 0.5, "max_sparsity of layer '0.weight' is 2.0, outs"),
        ({"name": "layerwise", "min_keep": {"fc.*": 1}}, 0.5, r"min_keep: pattern 'fc\.\*' match"),
        ({"name": "per_layer", "ratios": 1.5}, None, "ratio of layer '0.weight' is 1.5, outside"),
        ({"name": "per_layer", "ratios": [0.5]}, None, "ratios has 1 values for 3 layers"),
        ({"name": "per_layer", "ratios": True}, None, "ratios of layer '0.weight' is True, not a"),
        (
            {"name": "per_layer", "ratios": 0.5, "rounding": "up"},
            None,
            "unknown rounding 'up'; choose from nearest, down",
        ),
        ({"name": "interpolated", "ratios": 0.5}, 0.5, "ratios 0.5 are no list of points"),
        ({"name": "interpolated", "ratios": []}, 0.5, r"ratios \[\] are no list of points"),
        ({"name": "interpolated", "ratios": [{"0.*": 0.5}]}, 0.5, "point 1 of ratios: no pattern"),
        (
            {"name": "interpolated", "ratios": [0.5, [0.6, 0.4, 0.5]]},
            0.5,
            "point 2 of ratios: 0.4 for layer '2.weight' is above 1 or below that of the point be",
        ),
        ({"name": "interpolated", "ratios": [1.5]}, 0.5, "1.5 for layer '0.weight' is above 1"),
        ({"name": "per_layer"}, None, "'per_layer' needs a value for its setting 'ratios'"),
        ({"min_keep": 3}, 0.5, "has no 'name'"),
    ],
)
def test_what_cannot_be_reached_names_method_layer_and_value(allocation, sparsity, message):
    with pytest.raises(PruningError, match=message):
        prune(network(), sparsity, allocation=allocation)
