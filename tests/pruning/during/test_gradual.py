from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import PruningError, prune
from pruning import masks as mask_tools
from pruning.criteria.weights import random
from pruning.evidence import Evidence
from pruning.selection import kept_count

WEIGHTS = 36 + 108
pytestmark = pytest.mark.filterwarnings("ignore::pruning.pruner.LayerCollapse")


def cubic(step: int, begin: int, end: int, every: int, first: float, final: float) -> float:
    """Zhu & Gupta's equation 1 at the last update up to `step`; `end` is always an update."""
    last = end if step >= end else begin + (step - begin) // every * every
    return final + (first - final) * (1 - (last - begin) / (end - begin)) ** 3


@settings(max_examples=30)
@given(
    begin=st.integers(0, 5),
    length=st.integers(1, 9),
    every=st.integers(1, 9),
    first=st.floats(0, 0.3),
    final=st.floats(0.3, 0.95),
    start=st.integers(0, 14),
)
def test_the_sparsity_at_every_step_is_the_formula(
    runs: Any, begin: int, length: int, every: int, first: float, final: float, start: int
) -> None:
    end, every = begin + length, min(every, length)
    kept = {}

    def look(step: int, course: Any) -> None:
        kept[step] = mask_tools.kept(course.masks)
        mask_tools.verify(training.model, course.masks)

    training = runs.training(runs.network(), final, steps=15, start=start)
    choice = {"name": "gradual", "initial": first, "begin": begin, "end": end, "frequency": every}
    runs.run(training, choice, look)
    assert list(kept) == list(range(start, 16))
    for step, count in kept.items():
        expected = cubic(step, begin, end, every, first, final) if step >= begin else 0.0
        assert count == kept_count(WEIGHTS, expected)


def test_by_hand_with_a_span_that_the_frequency_does_not_divide(runs: Any) -> None:
    # 0.8 (1 - (1 - p)^3) at p = 0, 0.4, 0.8 and 1: of 144 weights 0, 90.3, 114.3 and 115.2 go
    sparsities = {}
    training = runs.training(runs.network(), 0.8, steps=12)
    runs.run(
        training,
        {"name": "gradual", "begin": 2, "end": 7, "frequency": 2},
        lambda step, course: sparsities.update({step: WEIGHTS - mask_tools.kept(course.masks)}),
    )
    assert list(sparsities.values()) == [0, 0, 0, 0, 90, 90, 114, 115, 115, 115, 115, 115, 115]


@pytest.mark.parametrize(
    ("schedule", "halfway"),
    [("linear", 0.4), ({"name": "polynomial", "power": 2}, 0.6), ("geometric", 1 - 0.2**0.5)],
)
def test_any_schedule_in_epochs(runs: Any, schedule: Any, halfway: float) -> None:
    seen = {}
    training = runs.training(runs.network(), 0.8)
    choice = {"name": "gradual", "schedule": schedule, "unit": "epochs", "begin": 0.5, "end": 2.5}
    runs.run(
        training,
        {**choice, "frequency": 1},
        lambda step, course: seen.update({step: mask_tools.kept(course.masks)}),
    )
    assert seen[5] == seen[2] == WEIGHTS
    assert seen[6] == seen[9] == kept_count(WEIGHTS, halfway)
    assert seen[10] == seen[12] == kept_count(WEIGHTS, 0.8)


def test_masks_are_nested_and_pruned_weights_never_come_back(runs: Any) -> None:
    seen: list[dict[str, torch.Tensor]] = []

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        if seen:
            assert all(not (mask & ~seen[-1][name]).any() for name, mask in course.masks.items())
        seen.append(course.masks)

    noise = partial(prune, criterion=random, evidence=Evidence((), *(2 * [lambda *_: ()])))
    training = runs.training(runs.network(), 0.9, choose=noise)
    runs.run(training, {"name": "gradual", "frequency": 1}, look)


@pytest.mark.parametrize("granularity", ["weight", "kernel", "filter", "channel"])
@pytest.mark.parametrize("allocation", ["global", "layerwise", "erk"])
@pytest.mark.parametrize("criterion", ["magnitude", "random", {"name": "lp_norm", "p": 2.0}])
def test_every_criterion_granularity_and_allocation(
    runs: Any, criterion: Any, granularity: str, allocation: str
) -> None:
    axes = {"criterion": criterion, "granularity": granularity, "allocation": allocation}
    training = runs.training(runs.network(), 0.6, choose=partial(prune, **axes))
    course = runs.run(training, {"name": "gradual", "end": 8, "frequency": 4})
    mask_tools.verify(training.model, course.masks)
    for dim in {"filter": (1, 2, 3), "kernel": (2, 3), "channel": (0, 2, 3)}.get(granularity, ()):
        mask = course.masks["0.weight"]
        assert torch.equal(mask, mask.all(dim, keepdim=True).expand_as(mask))
    assert not all(mask.all() for mask in course.masks.values())


def test_a_later_round_starts_from_the_masks_and_the_sparsity_of_the_one_before(runs: Any) -> None:
    model = runs.network()
    before = prune(model, 0.5)
    seen = {}
    training = runs.training(model, 0.9, masks=before, initial=0.5)
    course = runs.run(
        training,
        {"name": "gradual", "begin": 4, "end": 8, "frequency": 2},
        lambda step, course: seen.update({step: mask_tools.kept(course.masks)}),
    )
    assert seen[0] == seen[4] == kept_count(WEIGHTS, 0.5)
    assert seen[6] == kept_count(WEIGHTS, 0.9 - 0.4 * 0.5**3)
    assert seen[12] == kept_count(WEIGHTS, 0.9)
    assert all(not (mask & ~before[name]).any() for name, mask in course.masks.items())


@pytest.mark.parametrize("stop", [3, 4, 5, 9])
def test_a_resumed_run_ends_with_the_same_bits(runs: Any, stop: int) -> None:
    choice = {"name": "gradual", "begin": 2, "end": 8, "frequency": 2}
    whole = runs.training(runs.network(), 0.8)
    expected = runs.run(whole, choice)
    part = runs.training(runs.network(), 0.8)
    state = runs.run(part, choice, until=stop).state()
    rest = runs.training(
        part.model, 0.8, optimizer=part.optimizer, start=stop, state=deepcopy(state)
    )
    found = runs.run(rest, choice)
    assert all(map(torch.equal, part.model.parameters(), whole.model.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"begin": 8, "end": 4}, "gradual: begins at 8 steps, after its end at 4 steps"),
        ({"end": 13}, "from 0 to 13 steps is not within the run of 12 steps"),
        (
            {"end": 3, "frequency": 20, "unit": "epochs"},
            "gradual: frequency 20 is longer than the time from begin 0 to end 3 epochs",
        ),
        ({"initial": 0.9}, r"gradual: cannot go from sparsity 0\.9 to 0\.8; it only rises"),
        ({"schedule": "quartic"}, "gradual: unknown schedule 'quartic'; choose from geometric,"),
        ({"finish": 3}, "unknown setting of during 'gradual' 'finish'; choose from schedule,"),
    ],
)
def test_bad_settings_are_told_before_training(runs: Any, choice: Any, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        runs.run(runs.training(runs.network(), 0.8), {"name": "gradual", **choice})


def test_masks_of_after_the_pruning_are_refused(runs: Any) -> None:
    model = runs.network()
    training = runs.training(model, 0.8, masks=prune(model, 0.8))
    with pytest.raises(PruningError, match=r"already prune 0\.7986 of .* of before this pruning"):
        runs.run(training, "gradual")
