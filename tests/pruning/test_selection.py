"""Exactly so many, the largest, ties by position: against sorting everything in plain Python."""

from fractions import Fraction
from itertools import count as counting
from math import inf

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from pruning import selection
from pruning.errors import PruningError
from pruning.scores import BLOCK, Elementwise
from pruning.selection import keep_largest, kept_count

DENORMAL = 1e-45
TIED = st.sampled_from([0.0, -0.0, 1.0, -1.0])
TINY = st.sampled_from([0.0, -0.0, DENORMAL, -DENORMAL, 2 * DENORMAL, 1e-38])
HUGE = st.floats(width=32, allow_nan=False, allow_infinity=False) | st.just(inf)
VALUES = st.sampled_from([TIED, TINY, HUGE, st.just(0.5), TIED | HUGE])
LAYERS = VALUES.flatmap(
    lambda values: st.lists(st.lists(values, min_size=1, max_size=24), min_size=1, max_size=4)
)


def by_sorting(scores: dict[str, Tensor], count: int, alive: dict[str, Tensor]) -> list[list[bool]]:
    """Rank every living score, largest first and equal ones by position; keep the first `count`."""
    places = [
        (-value, next(order), name, place)
        for order in [counting()]
        for name, score in scores.items()
        for place, value in enumerate(score.flatten().tolist())
        if name not in alive or alive[name].flatten().tolist()[place]
    ]
    chosen = {(name, place) for *_, name, place in sorted(places)[:count]}
    return [
        [(name, place) in chosen for place in range(score.numel())]
        for name, score in scores.items()
    ]


def flat(masks: dict[str, Tensor]) -> list[list[bool]]:
    assert all(mask.dtype == torch.bool for mask in masks.values())
    return [mask.flatten().tolist() for mask in masks.values()]


def named(layers: list[list[float]], dtype: torch.dtype) -> dict[str, Tensor]:
    return {f"layer{i}": torch.tensor(layer, dtype=dtype) for i, layer in enumerate(layers)}


def by_stable_sort(score: Tensor, count: int) -> Tensor:
    """Rank a large tensor by torch's stable sort."""
    mask = torch.zeros(score.numel(), dtype=torch.bool)
    mask[score.flatten().argsort(descending=True, stable=True)[:count]] = True
    return mask.reshape(score.shape)


def test_worked_by_hand():
    scores = {"a": torch.tensor([[3.0, 1.0, 2.0], [0.0, 5.0, 2.0]]), "b": torch.tensor([2.0, 4.0])}
    # 5, 4, 3, then the first two of the three 2s: both in a, as a comes first.
    assert flat(keep_largest(scores, 5)) == [
        [True, False, True, False, True, True],
        [False, True],
    ]
    assert keep_largest(scores, 5)["a"].shape == (2, 3)


@given(LAYERS, st.sampled_from([torch.float32, torch.float64]), st.data())
def test_equals_one_ranking_of_everything(layers, dtype, data):
    scores = named(layers, dtype)
    count = data.draw(st.integers(0, sum(map(len, layers))))
    assert flat(keep_largest(scores, count)) == by_sorting(scores, count, {})


@given(LAYERS, st.sampled_from([torch.float16, torch.bfloat16]), st.data())
def test_half_precision_is_ranked_by_what_it_holds(layers, dtype, data):
    scores = named(layers, dtype)
    count = data.draw(st.integers(0, sum(map(len, layers))))
    assert flat(keep_largest(scores, count)) == by_sorting(scores, count, {})


@given(LAYERS, st.data())
def test_what_is_not_alive_never_competes(layers, data):
    scores = named(layers, torch.float32)
    alive = {
        name: torch.tensor(data.draw(st.lists(st.booleans(), min_size=n, max_size=n)))
        for name, score in scores.items()
        if data.draw(st.booleans()) and (n := score.numel())
    }
    living = sum(
        int(alive[name].sum()) if name in alive else score.numel() for name, score in scores.items()
    )
    count = data.draw(st.integers(0, living))
    assert flat(keep_largest(scores, count, alive=alive)) == by_sorting(scores, count, alive)
    with pytest.raises(PruningError, match=f"keep {living + 1} pieces: only {living} are left"):
        keep_largest(scores, living + 1, alive=alive)


@given(LAYERS, st.data())
def test_masks_are_nested(layers, data):
    scores = named(layers, torch.float32)
    total = sum(map(len, layers))
    more = data.draw(st.integers(0, total))
    less = data.draw(st.integers(0, more))
    large, small = keep_largest(scores, more), keep_largest(scores, less)
    assert not any(bool((small[name] & ~large[name]).any()) for name in scores)


@given(LAYERS, st.data())
def test_a_scale_of_two_changes_nothing(layers, data):
    # Doubling is exact in binary and keeps the order as long as nothing overflows to infinity.
    scores = named(layers, torch.float64)
    count = data.draw(st.integers(0, sum(map(len, layers))))
    doubled = {name: score * 2 for name, score in scores.items()}
    assert flat(keep_largest(scores, count)) == flat(keep_largest(doubled, count))


def test_layers_of_different_precision_are_compared_exactly():
    # 0.1 in float32 is 0.10000000149 and in bfloat16 0.10009765625: three different numbers.
    scores = {
        "single": torch.full((2,), 0.1),
        "double": torch.tensor([0.1], dtype=torch.float64),
        "brain": torch.full((2,), 0.1, dtype=torch.bfloat16),
    }
    for count in range(6):
        assert flat(keep_largest(scores, count)) == by_sorting(scores, count, {})


def test_all_zero_and_both_signs_of_zero_are_equal():
    scores = {"a": torch.tensor([-0.0, 0.0, -0.0]), "b": torch.tensor([0.0, -0.0])}
    assert flat(keep_largest(scores, 4)) == [[True, True, True], [True, False]]


def test_elementwise_scores_are_ranked_like_tensors():
    weight = torch.tensor([[1.0, -4.0], [3.0, -2.0]])
    scores = {"a": Elementwise(weight, torch.abs)}
    assert keep_largest(scores, 2)["a"].tolist() == [[False, True], [True, False]]
    assert weight.tolist() == [[1.0, -4.0], [3.0, -2.0]]


SIZE = 5 * selection.SAMPLE + 12_345
STRIDE = SIZE // selection.SAMPLE


def periodic(size: int) -> Tensor:
    """Large exactly where the sample looks, each block anew, so that it mistakes the threshold."""
    place = torch.arange(size) % BLOCK
    offset = torch.arange(size) - place
    return ((place - (-offset) % STRIDE) % STRIDE == 0).float() * torch.arange(1, size + 1)


LARGE = {
    "random": lambda: torch.rand(SIZE, generator=torch.Generator().manual_seed(0)),
    "ascending": lambda: torch.arange(SIZE).float(),
    "descending": lambda: torch.arange(SIZE, 0, -1).float(),
    "all tied": lambda: torch.full((SIZE,), 0.25),
    "two values": lambda: (torch.arange(SIZE) % 3 == 0).float(),
    "mostly zero": lambda: torch.rand(SIZE).mul_(torch.arange(SIZE) % 1000 == 7),
    "periodic": lambda: periodic(SIZE),
    "huge range": lambda: torch.logspace(-44, 38, SIZE, dtype=torch.float64),
    "one block": lambda: (torch.arange(SIZE) < BLOCK).float() * torch.rand(SIZE),
}


@pytest.mark.parametrize("kind", LARGE)
@pytest.mark.parametrize("count", [1, 40, SIZE // 20, SIZE // 2, SIZE - 40, SIZE])
def test_large_layers_equal_a_stable_sort(kind, count):
    assert SIZE // selection.SAMPLE >= 4, "the sample would not be used"
    torch.manual_seed(1)
    score = LARGE[kind]()
    mask = keep_largest({"a": score}, count)["a"]
    assert int(mask.sum()) == count
    assert torch.equal(mask, by_stable_sort(score, count))


@pytest.mark.parametrize(("kind", "misled"), [("random", 0), ("ascending", 0), ("periodic", 1)])
def test_a_sample_that_misled_is_not_believed(kind, misled, monkeypatch):
    found = []
    split = selection._split
    monkeypatch.setattr(selection, "_split", lambda *args: found.append(split(*args)) or found[-1])
    score = LARGE[kind]()
    mask = keep_largest({"a": score}, SIZE // 2)["a"]
    ((over, between),) = found
    assert (not over < SIZE // 2 <= over + between.numel()) == misled
    assert torch.equal(mask, by_stable_sort(score, SIZE // 2))


def test_the_bracket_ranks_few_scores():
    score = LARGE["random"]()
    bracket = selection._bracket({"a": score}, SIZE // 2, {})
    _, between = selection._split({"a": score}, {}, bracket)
    assert 0 < between.numel() < SIZE // 20


def test_many_layers_and_the_dead_among_them():
    generator = torch.Generator().manual_seed(3)
    sizes = [1, 7, 300, 40_000, BLOCK + 1, 200_000, 2]
    # 100 levels for all: the threshold itself has thousands of ties, across layers.
    scores = {str(n): torch.randint(100, (n,), generator=generator).float() for n in sizes}
    alive = {str(n): torch.rand(n, generator=generator) < 0.3 for n in sizes[2:6]}
    whole = torch.cat([*scores.values()])
    living = torch.cat([alive.get(n, torch.ones(s.numel()).bool()) for n, s in scores.items()])
    for count in (1, 1000, 70_000, int(living.sum())):
        masks = keep_largest(scores, count, alive=alive)
        expected = by_stable_sort(whole.masked_fill(~living, -1), count)
        assert torch.equal(torch.cat([*masks.values()]), expected)


def test_scores_and_flags_stay_as_they_were():
    score, flags = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([True, True, False])
    keep_largest({"a": score}, 1, alive={"a": flags})
    assert score.tolist() == [1.0, 2.0, 3.0]
    assert flags.tolist() == [True, True, False]


def test_a_transposed_layer_is_ranked_by_its_own_positions():
    score = torch.tensor([[1.0, 1.0, 1.0], [1.0, 1.0, 1.0]]).t()
    assert keep_largest({"a": score}, 2)["a"].tolist() == [[True, True], [False] * 2, [False] * 2]


@given(st.integers(0, 10**9), st.floats(0, 1, exclude_max=True))
def test_the_count_is_within_half_a_piece(pieces, sparsity):
    exact = pieces * (1 - Fraction(sparsity))
    assert abs(kept_count(pieces, sparsity) - exact) <= Fraction(1, 2) + Fraction(1, 10**6)


@pytest.mark.parametrize(
    ("pieces", "sparsity", "kept"),
    [(10, 0.7, 3), (5, 0.5, 3), (1, 0.5, 1), (1, 0.51, 0), (0, 0.5, 0), (266_200, 0.95, 13_310)],
)
def test_counts_by_hand(pieces, sparsity, kept):
    assert kept_count(pieces, sparsity) == kept


@pytest.mark.parametrize("sparsity", [-0.1, 1.0, 1.5, inf, float("nan")])
def test_a_sparsity_outside_its_range_is_named(sparsity):
    with pytest.raises(PruningError, match=rf"sparsity {sparsity} is outside \[0, 1\)"):
        kept_count(10, sparsity)
