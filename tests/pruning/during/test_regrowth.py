from copy import deepcopy
from math import cos, pi
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning import PruningError, prune
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.evidence import Evidence
from tests.pruning.during.vector import Vector

QUICK = [
    {"name": "rigl", "frequency": 1},
    {"name": "rigl", "frequency": 3, "end": 10},
    {"name": "set", "frequency": 1},
    {"name": "set", "frequency": 2, "unit": "steps"},
]


def one_update(
    choice: dict[str, Any], weights: list[float], gradient: list[float]
) -> tuple[list[bool], list[float]]:
    """Return mask and weights after one step without learning rate and the update after it."""
    model = Vector(*weights)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0, momentum=0.9)
    masks = {"weight": torch.tensor(weights) != 0}
    training = Training(model, optimizer, masks, 0.5, steps=4, steps_per_epoch=1)
    with resolve("during", choice)(training) as course:
        value = model(torch.tensor(gradient))
        value.backward()
        optimizer.step()
        course.hook(1, value)
        moments = optimizer.state[model.weight]["momentum_buffer"]
        assert not moments[~course.masks["weight"]].any()
        assert not moments[course.masks["weight"] & ~masks["weight"]].any()
    return course.masks["weight"].tolist(), model.weight.tolist()


def test_rigl_drops_the_smallest_and_grows_the_steepest_by_hand() -> None:
    # fraction 0.8 / 2 * (1 + cos(pi / 2)) = 0.4 of five weights: the two smallest go
    mask, weights = one_update(
        {"name": "rigl", "frequency": 1, "fraction": 0.8, "end": 2},
        [1.0, -0.2, 3.0, 0.1, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0],
        [0.0, 0.1, 9.0, 0.2, 0.0, -4.0, 3.0, 0.5, -1.0, 2.0],
    )
    assert mask == [True, False, True, False, True, True, True, False, False, False]
    assert weights == [1.0, 0.0, 3.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 0.0]


def test_rigl_may_grow_what_it_drops_and_then_keeps_its_value() -> None:
    mask, weights = one_update(
        {"name": "rigl", "frequency": 1, "fraction": 1.0, "end": 2},
        [1.0, -0.5, 0.0, 0.0],
        [0.0, 5.0, 1.0, 1.0],
    )
    assert mask == [True, True, False, False]
    assert weights == [1.0, -0.5, 0.0, 0.0]


def test_set_drops_on_both_sides_of_zero_by_hand() -> None:
    # half of four positive and of two negative weights: 0.1, 0.2 and -0.3 go, three others grow
    weights = [0.1, 0.4, 0.2, 0.3, -0.3, -9.0, *[0.0] * 6]
    mask, after = one_update({"name": "set", "frequency": 1, "fraction": 0.5}, weights, [1.0] * 12)
    assert mask[1] and mask[3] and mask[5]
    assert sum(mask) == 6
    for place in (0, 2, 4):
        assert after[place] == (pytest.approx(weights[place]) if mask[place] else 0.0)
    assert not any(after[6:])


def test_set_grows_anywhere() -> None:
    grown = torch.zeros(60)
    for seed in range(60):
        model = Vector(*[1.0] * 20, *[0.0] * 40)
        masks = {"weight": model.weight.detach() != 0}
        optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
        training = Training(model, optimizer, masks, 0.5, steps=4, steps_per_epoch=1, seed=seed)
        with resolve("during", "set")(training) as course:
            course.hook(1, torch.zeros(()))
        grown += course.masks["weight"] & ~masks["weight"]
    # six of the 46 free places a time (some are those just dropped): 7.8 times each, expected
    assert 200 < grown.sum() < 60 * 6 + 1
    assert grown[20:].min() >= 1 and grown[20:].max() < 20


def start(runs: Any, sparsity: float, **changes: Any) -> Training:
    model = runs.network()
    noise = Evidence((), *(2 * [lambda *_: ()]))
    masks = prune(model, sparsity, criterion="random", allocation="erk", evidence=noise)
    return runs.training(model, sparsity, masks=masks, **changes)


@pytest.mark.parametrize("choice", QUICK, ids=str)
@settings(max_examples=12)
@given(sparsity=st.floats(0.2, 0.9))
def test_the_sparsity_of_every_layer_is_constant_at_every_step(
    runs: Any, choice: Any, sparsity: float
) -> None:
    training = start(runs, sparsity)
    counts = {name: int(mask.sum()) for name, mask in training.masks.items()}
    seen: list[dict[str, Tensor]] = []

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        assert {name: int(mask.sum()) for name, mask in course.masks.items()} == counts
        mask_tools.verify(training.model, course.masks)
        seen.append(course.masks)

    runs.run(training, choice, look)
    assert any(not torch.equal(seen[0][name], seen[-1][name]) for name in counts)


def test_rigl_grows_where_the_dense_gradient_of_the_masked_network_is_largest(runs: Any) -> None:
    training = start(runs, 0.7)
    model, fraction = training.model, 0.3
    before: dict[str, Any] = {}
    gradient: dict[str, Tensor] = {}
    updates = 0

    def look(step: int, course: Any) -> None:
        nonlocal updates
        for name, mask in course.masks.items() if before else ():
            old = before["masks"][name]
            if step in (2, 4, 6, 8):
                grown, out = mask & ~old, ~mask & ~old
                expected = int(fraction / 2 * (1 + cos(pi * step / 9)) * int(old.sum()))
                assert int(grown.sum()) <= expected
                updates += int(grown.sum())
                if grown.any():
                    least = gradient[name].abs()[grown].min()
                    assert least >= gradient[name].abs()[out].max()
            else:
                assert torch.equal(mask, old)
        before["masks"] = course.masks
        copy = deepcopy(model)
        batch = next(runs.batches(step))
        runs.loss(copy, batch).backward()
        gradient.update({n: p.grad for n, p in copy.named_parameters() if p.grad is not None})

    runs.run(training, {"name": "rigl", "frequency": 2, "fraction": fraction, "end": 9}, look)
    assert updates > 4


def test_left_to_itself_rigl_moves_in_a_run_of_twelve_steps(runs: Any) -> None:
    training = start(runs, 0.5)
    before = training.current()
    after = runs.run(training, "rigl").masks
    assert any(not torch.equal(before[name], mask) for name, mask in after.items())


def test_left_to_itself_set_moves_in_the_middle_of_a_single_epoch(runs: Any) -> None:
    training = start(runs, 0.5, steps_per_epoch=12)
    before = training.current()
    after = runs.run(training, "set").masks
    assert any(not torch.equal(before[name], mask) for name, mask in after.items())


def test_gradients_accumulated_over_several_backward_passes_are_added_up() -> None:
    model = Vector(1.0, 0.5, 0.0, 0.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    masks = {"weight": model.weight.detach() != 0}
    training = Training(model, optimizer, masks, 0.5, steps=4, steps_per_epoch=1)
    method = resolve("during", {"name": "rigl", "frequency": 1, "fraction": 1.0, "end": 2})
    with method(training) as course:
        for x in ([0.0, 0.0, 2.0, 0.0], [0.0, 0.0, 2.0, 3.0]):
            model(torch.tensor(x)).backward()
        course.hook(1, torch.zeros(()))
    assert course.masks["weight"].tolist() == [True, False, True, False]


@pytest.mark.parametrize("stop", [3, 4, 8])
@pytest.mark.parametrize("choice", QUICK, ids=str)
def test_a_resumed_run_ends_with_the_same_bits(runs: Any, choice: Any, stop: int) -> None:
    whole, part = start(runs, 0.6), start(runs, 0.6)
    expected = runs.run(whole, choice)
    state = runs.run(part, choice, until=stop).state()
    rest = runs.training(part.model, 0.6, optimizer=part.optimizer, start=stop, state=state)
    found = runs.run(rest, choice)
    assert all(map(torch.equal, part.model.parameters(), whole.model.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ({"name": "rigl", "frequency": 0}, "rigl: every 0 steps is less than one step"),
        (
            {"name": "rigl", "frequency": 9},
            "rigl: every 9 steps is not before the end after 9",
        ),
        (
            {"name": "set", "frequency": 3},
            "set: every 3 epochs is not before the end",
        ),
        ({"name": "rigl", "end": 13}, "rigl: end 13 is not within the run of 12 steps"),
        ({"name": "rigl", "fraction": 0.0}, r"rigl: fraction 0\.0 is not within \(0, 1\]"),
        ({"name": "set", "unit": "years"}, "unknown unit of set 'years'; choose from steps, ep"),
    ],
)
def test_bad_settings_are_refused(runs: Any, choice: Any, message: str) -> None:
    with pytest.raises(PruningError, match=message):
        runs.run(start(runs, 0.5), choice)


def test_masks_that_prune_nothing_are_refused(runs: Any) -> None:
    with pytest.raises(PruningError, match="set: the masks it starts from prune nothing"):
        runs.run(runs.training(runs.network()), "set")
