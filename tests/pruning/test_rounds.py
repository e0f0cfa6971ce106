"""The sparsity of each round."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning.errors import PruningError
from pruning.rounds import round_sparsities


def test_a_quarter_a_round_until_more_than_85_percent():
    remaining = [100 * (1 - sparsity) for sparsity in round_sparsities(0.25, 0.85)]
    assert [f"{share:.2f}" for share in remaining] == [
        *("75.00", "56.25", "42.19", "31.64", "23.73", "17.80", "13.35")
    ]


def test_it_stops_only_once_more_is_pruned():
    assert round_sparsities(0.5, 0.0) == [0.5]
    assert round_sparsities(0.5, 0.5) == [0.5, 0.75]
    assert round_sparsities(0.5, 0.74) == [0.5, 0.75]


@given(st.floats(0.05, 0.95), st.floats(0, 0.99))
def test_every_round_takes_its_fraction_of_the_rest(fraction, until):
    sparsities = round_sparsities(fraction, until)
    assert sparsities[-1] > until
    assert all(sparsity <= until for sparsity in sparsities[:-1])
    for before, after in pairwise([0.0, *sparsities]):
        assert (1 - after) / (1 - before) == pytest.approx(1 - fraction)


@pytest.mark.parametrize("fraction", [0.0, 1.0, -0.5, float("nan")])
def test_a_fraction_outside_its_range_is_named(fraction):
    with pytest.raises(PruningError, match=rf"fraction {fraction} .*outside \(0, 1\)"):
        round_sparsities(fraction, 0.85)


@pytest.mark.parametrize("until", [-0.1, 1.0, float("nan")])
def test_a_stop_outside_its_range_is_named(until):
    with pytest.raises(PruningError, match=rf"stopping sparsity {until} is outside \[0, 1\)"):
        round_sparsities(0.25, until)
