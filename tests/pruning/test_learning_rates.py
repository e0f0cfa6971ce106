"""How the learning rate moves: factors of the base rate by epoch."""

from math import cos, nan, pi

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import PruningError, catalogue
from pruning.learning_rates import constant, cosine, linear, multistep

EPOCHS = st.floats(0, 200)


def test_constant():
    assert [constant(epoch, 10) for epoch in (0, 9.99, 50)] == [1.0, 1.0, 1.0]


def test_multistep_drops_at_each_milestone_and_not_before():
    found = [multistep(e, 160, milestones=[80, 120], gamma=0.5) for e in (0, 79.999, 80, 119, 120)]
    assert found == [1.0, 1.0, 0.5, 0.5, 0.25]


def test_milestones_may_come_in_any_order_and_be_none():
    assert multistep(5, 10, milestones=(6, 2)) == multistep(5, 10, milestones=(2, 6))
    assert multistep(5, 10) == 1.0


def test_cosine_by_hand():
    # A quarter of the way: (1 + cos(45 degrees)) / 2 = 0.853553.
    assert cosine(2.5, 10) == pytest.approx(0.8535534)
    assert cosine(5, 10, final=0.2) == pytest.approx(0.2 + 0.8 * 0.5)
    assert cosine(10, 10, final=0.2) == pytest.approx(0.2)


def test_cosine_stays_at_its_end():
    assert cosine(25, 10, final=0.1) == pytest.approx(0.1)


def test_linear_by_hand():
    assert [linear(e, 10) for e in (0, 5, 10, 25)] == [1.0, 0.5, 0.0, 0.0]
    # Half of the run at the base rate, then a fifth left: a quarter of the fall is 0.2.
    found = [linear(e, 200, hold=0.5, final=0.2) for e in (0, 100, 125, 200)]
    assert found == pytest.approx([1.0, 1.0, 0.8, 0.2])


def test_linear_that_holds_to_the_end_never_falls():
    assert [linear(e, 10, hold=1.0) for e in (0, 9.99, 10)] == [1.0, 1.0, 1.0]


@pytest.mark.parametrize("hold", [-0.1, 1.5, nan])
def test_linear_that_holds_for_no_share_of_the_run_is_refused(hold):
    with pytest.raises(PruningError, match=f"linear': hold {hold} is no share of the run, 0 to 1"):
        linear(3, 10, hold=hold)


@given(EPOCHS, EPOCHS)
@pytest.mark.parametrize("name", ["constant", "multistep", "cosine", "linear"])
def test_no_schedule_ever_rises_or_leaves_its_range(name, one, other):
    function = catalogue.find("learning rate", name)
    settings = {"milestones": (30, 60)} if name == "multistep" else {}
    early, late = (function(epoch, 100.0, **settings) for epoch in sorted((one, other)))
    assert 1 >= early >= late >= 0


@given(st.floats(0, 1))
def test_cosine_is_the_published_formula(share):
    assert cosine(100 * share, 100) == pytest.approx(0.5 * (1 + cos(pi * share)), abs=1e-12)
