"""Who pays for the budget: global and layer-wise, by hand and against one plain ranking."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pruning.allocation import global_, layerwise
from pruning.errors import PruningError
from pruning.selection import kept_count

A = torch.tensor([[6.0, 5.0, 4.0], [3.0, 2.0, 1.0]])
B = torch.tensor([[0.9, 0.8, 0.7], [0.6, 0.5, 0.4]])
SPARSITIES = st.floats(0, 1, exclude_max=True)
LEVELS = st.lists(
    st.lists(st.integers(0, 4).map(float), min_size=1, max_size=20), min_size=1, max_size=4
)


def run(allocation, scores, sparsity, alive=None, **settings):
    return allocation(scores, scores, sparsity, alive or {}, **settings)


def kept(masks):
    return {name: int(mask.sum()) for name, mask in masks.items()}


def named(levels):
    return {f"layer{i}": torch.tensor(values) for i, values in enumerate(levels)}


def test_global_ranks_all_layers_at_once():
    masks = run(global_, {"a": A, "b": B}, 0.5)
    assert masks["a"].all()
    assert not masks["b"].any()
    masks = run(global_, {"a": A, "b": B}, 0.25)  # nine stay: all of a, and 0.9, 0.8, 0.7
    assert masks["b"].tolist() == [[True, True, True], [False, False, False]]


def test_layerwise_ranks_every_layer_alone():
    masks = run(layerwise, {"a": A, "b": B}, 0.5)
    for mask in masks.values():
        assert mask.tolist() == [[True, True, True], [False, False, False]]


@given(LEVELS, SPARSITIES)
def test_global_keeps_exactly_its_budget(levels, sparsity):
    scores = named(levels)
    total = sum(map(len, levels))
    assert sum(kept(run(global_, scores, sparsity)).values()) == kept_count(total, sparsity)


@given(LEVELS, SPARSITIES)
def test_global_is_one_ranking_over_all_layers(levels, sparsity):
    scores = named(levels)
    line = torch.cat([*scores.values()])
    order = sorted(range(line.numel()), key=lambda place: -line[place].item())  # stable
    best = set(order[: kept_count(line.numel(), sparsity)])
    found = torch.cat([*run(global_, scores, sparsity).values()])
    assert {place for place, stays in enumerate(found.tolist()) if stays} == best


@given(LEVELS, SPARSITIES)
def test_layerwise_keeps_exactly_its_budget_in_every_layer(levels, sparsity):
    scores = named(levels)
    found = kept(run(layerwise, scores, sparsity))
    assert found == {name: kept_count(s.numel(), sparsity) for name, s in scores.items()}


@given(LEVELS, SPARSITIES, SPARSITIES)
@pytest.mark.parametrize("allocation", [global_, layerwise])
def test_more_sparsity_only_takes_away(allocation, levels, one, other):
    scores = named(levels)
    wide = run(allocation, scores, min(one, other))
    narrow = run(allocation, scores, max(one, other))
    assert not any(bool((narrow[name] & ~wide[name]).any()) for name in scores)


@given(LEVELS, SPARSITIES, st.integers(0, 25))
def test_min_keep_holds_and_costs_nothing(levels, sparsity, least):
    scores = named(levels)
    budget = kept_count(sum(map(len, levels)), sparsity)
    floors = {name: min(least, score.numel()) for name, score in scores.items()}
    if sum(floors.values()) > budget:
        with pytest.raises(PruningError, match=f"keeps {budget} pieces, but min_keep {least}"):
            run(global_, scores, sparsity, min_keep=least)
        return
    found = run(global_, scores, sparsity, min_keep=least)
    assert sum(kept(found).values()) == budget
    assert all(kept(found)[name] >= floors[name] for name in scores)
    # A layer above its guard keeps what the plain ranking keeps, or less, where guards were paid.
    plain = run(global_, scores, sparsity)
    for name, floor in floors.items():
        if kept(found)[name] > floor:
            assert not bool((found[name] & ~plain[name]).any())


def test_min_keep_keeps_the_best_of_a_weak_layer():
    masks = run(global_, {"a": A, "b": B}, 0.5, min_keep=2)
    assert masks["a"].tolist() == [[True, True, True], [True, False, False]]
    assert masks["b"].tolist() == [[True, True, False], [False, False, False]]


def test_layerwise_min_keep_may_exceed_the_budget_of_a_layer():
    found = kept(run(layerwise, {"a": A, "b": B[:1]}, 0.9, min_keep=2))
    assert found == {"a": 2, "b": 2}


@pytest.mark.parametrize("allocation", [global_, layerwise])
def test_the_dead_stay_dead(allocation):
    alive = {"a": torch.tensor([[False, False, True], [True, True, True]])}
    masks = run(allocation, {"a": A, "b": B}, 0.5, alive)
    assert not masks["a"][0, :2].any()
    assert sum(kept(masks).values()) == 6


def test_a_layer_with_too_few_left_is_named():
    alive = {"b": torch.zeros(2, 3, dtype=torch.bool)}
    with pytest.raises(PruningError, match="layer 'b': cannot keep 3 pieces: only 0 are left"):
        run(layerwise, {"a": A, "b": B}, 0.5, alive)


@pytest.mark.parametrize("allocation", [global_, layerwise])
def test_pieces_are_counted_not_weights(allocation):
    filters = {"conv": torch.tensor([3.0, 1.0, 2.0, 4.0]).view(4, 1, 1, 1)}
    params = {"conv": torch.ones(4, 3, 5, 5)}
    masks = allocation(filters, params, 0.5, {})
    assert masks["conv"].flatten().tolist() == [True, False, False, True]
