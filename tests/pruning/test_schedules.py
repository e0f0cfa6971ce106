from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import catalogue
from pruning.schedules import geometric, linear, one_shot, polynomial

SCHEDULES = {name: entry.load() for name, entry in catalogue.entries("schedule").items()}
SPARSITY = st.floats(0, 0.999)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
@given(SPARSITY, SPARSITY, st.lists(st.floats(0, 1), min_size=2, max_size=9))
def test_from_the_initial_sparsity_to_the_final_one_without_a_step_back(
    name: str, one: float, other: float, times: list[float]
) -> None:
    schedule = SCHEDULES[name]
    initial, final = sorted((one, other))
    assert schedule(0.0, final, initial=initial) == pytest.approx(initial)
    assert schedule(1.0, final, initial=initial) == pytest.approx(final)
    values = [schedule(time, final, initial=initial) for time in sorted(times)]
    for before, after in pairwise(values):
        assert before <= after + 1e-12
    assert all(initial - 1e-12 <= value <= final + 1e-12 for value in values)


@pytest.mark.parametrize("name", sorted(SCHEDULES))
def test_time_outside_of_the_span_counts_as_its_ends(name: str) -> None:
    schedule = SCHEDULES[name]
    assert schedule(-inf, 0.8, initial=0.2) == pytest.approx(0.2)
    assert schedule(inf, 0.8, initial=0.2) == pytest.approx(0.8)


def test_equation_1_of_zhu_and_gupta_by_hand() -> None:
    # s_i = 0.5, s_f = 0.875: a fifth of the way 0.875 - 0.375 * 0.8^3, half of it - 0.375 / 8
    assert polynomial(0.2, 0.875, initial=0.5) == pytest.approx(0.683)
    assert polynomial(0.5, 0.875, initial=0.5) == pytest.approx(0.828125)
    assert polynomial(0.5, 0.875, initial=0.5, power=1.0) == linear(0.5, 0.875, initial=0.5)
    assert polynomial(0.5, 0.875, initial=0.5, power=2.0) == pytest.approx(0.78125)


def test_the_same_share_of_what_remains_in_each_round() -> None:
    # 80 % stay in each of three rounds (Frankle & Carbin): 0.8, 0.64, 0.512
    rounds = [1 - geometric(n / 3, 1 - 0.512) for n in range(4)]
    assert rounds == pytest.approx([1, 0.8, 0.64, 0.512])


def test_one_shot_is_all_or_nothing() -> None:
    assert [one_shot(time, 0.9, initial=0.1) for time in (0.0, 1e-9, 1.0)] == [0.1, 0.9, 0.9]
