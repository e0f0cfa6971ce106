import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import PruningError
from pruning.threshold_ramp import ThresholdRamp


def test_the_ramp_by_hand() -> None:
    # theta = 2 * 3 * 100 / (2 * 1000 + 3 * 2000) = 0.075; phi = 2 theta = 0.15
    ramp = ThresholdRamp(start=500, ramp=1500, end=3500, frequency=100, ratio=2.0)
    assert ramp.slope(3.0) == pytest.approx(0.075)
    assert ramp.threshold(600, 3.0) == pytest.approx(0.075 * 101 / 100)
    assert ramp.threshold(1400, 3.0) == pytest.approx(0.075 * 901 / 100)
    assert ramp.threshold(1500, 3.0) == pytest.approx((0.075 * 1001 + 0.15 * 1) / 100)
    assert ramp.threshold(3400, 3.0) == pytest.approx((0.075 * 1001 + 0.15 * 1901) / 100)


@given(st.integers(0, 10**4), st.integers(1, 10**5), st.integers(1, 10**5))
def test_with_the_ratio_of_the_paper_its_line_meets_q_at_the_end(
    start: int, first: int, second: int
) -> None:
    ramp = ThresholdRamp(start, start + first, start + first + second, 1)
    # the steps start and ramp count on both sides: theta + phi of one step more than q
    assert ramp.threshold(ramp.end, 7.0) == pytest.approx(7.0 + 2.5 * ramp.slope(7.0))
    assert ramp.slope(7.0) * (first + 1.5 * second) == pytest.approx(7.0)


@given(st.integers(0, 50), st.integers(1, 200), st.integers(1, 200), st.floats(1.0, 2.0))
def test_it_rises_linearly_in_q_and_only_between_start_and_end(
    start: int, first: int, second: int, ratio: float
) -> None:
    ramp = ThresholdRamp(start, start + first, start + first + second, 1, ratio)
    due = [step for step in range(ramp.end + 9) if ramp.due(step)]
    assert due == list(range(start + 1, ramp.end))
    values = [ramp.threshold(step, 1.0) for step in due]
    assert values == sorted(values) and values[0] > 0
    assert ramp.threshold(due[-1], 2.5) == pytest.approx(2.5 * values[-1])


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ((5, 5, 10, 1), "start 5, ramp 5 and end 10"),
        ((0, 20, 10, 1), "start 0, ramp 20 and end 10"),
        ((0, 5, 10, 10), "frequency 10 gives no update between steps 0 and 10"),
        ((0, 5, 10, 0), "frequency 0 gives no update"),
        ((0, 5, 10, 1, 0.0), r"ratio 0\.0 of the slopes is not above 0"),
    ],
)
def test_impossible_ramps_are_refused(times: tuple[int, int, int, int], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        ThresholdRamp(*times)
