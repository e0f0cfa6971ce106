import pytest
from hypothesis import given
from hypothesis import strategies as st

from pruning import PruningError
from pruning.timetable import Timetable, timetable


def make(begin: float, end: float, every: float, unit: str = "steps") -> Timetable:
    return timetable(begin, end, every, unit=unit, steps=100, steps_per_epoch=10, method="agp")


@given(st.integers(0, 50), st.integers(0, 50), st.integers(1, 60))
def test_it_begins_at_the_begin_ends_at_the_end_and_keeps_its_period(
    begin: int, length: int, every: int
) -> None:
    times = Timetable(begin, begin + length, every)
    due = [step for step in range(begin + length + 70) if times.due(step)]
    assert due == sorted({*range(begin, begin + length, every), begin + length})
    assert times.progress(begin + length) == 1.0
    for step in range(begin, begin + length + 70):
        assert times.last(step) == max(time for time in due if time <= step)


def test_epochs_are_steps_rounded_to_the_nearest() -> None:
    assert make(0.5, 2.26, 0.1, "epochs") == Timetable(5, 23, 1)
    assert make(3, 3, 1) == Timetable(3, 3, 1)


@pytest.mark.parametrize(
    ("times", "unit", "message"),
    [
        ((7, 5, 1), "steps", "agp: begins at 7 steps, after its end at 5 steps"),
        ((0, 11, 1), "epochs", r"from 0 to 11 epochs is not within the run of 100 steps \(10 ep"),
        ((-1, 5, 1), "steps", "from -1 to 5 steps is not within"),
        ((0, 5, 0), "steps", "every 0 steps is less than one step"),
        ((0, 5, 0.01), "epochs", "every 0.01 epochs is less than one step"),
        ((0, 5, 1), "years", "unknown unit of agp 'years'; choose from steps, epochs"),
    ],
)
def test_times_that_cannot_be_are_refused(
    times: tuple[float, float, float], unit: str, message: str
) -> None:
    with pytest.raises(PruningError, match=message):
        make(*times, unit)
