from copy import deepcopy
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning import PruningError, fit, prune
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.masks import dense
from pruning.selection import keep_largest, kept_count
from tests.pruning.during.vector import Vector

EVERY_STEP = {"name": "splicing", "power": 0.0}


def largest(model: nn.Module, sparsity: float, **_: Any) -> dict[str, Tensor]:
    sizes = {name: weight.detach().abs() for name, weight in model.named_parameters()}
    return keep_largest(sizes, kept_count(sum(map(Tensor.numel, sizes.values())), sparsity))


def train(
    model: nn.Module, xs: list[list[float]], choice: dict[str, Any], **changes: Any
) -> tuple[list[list[float]], list[list[bool]]]:
    """Return the weights that the network shows and the masks, at the start and after each step."""
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    masks = dense(dict(model.named_parameters()))
    settings = {"sparsity": 0.5, "steps": 1000, "steps_per_epoch": 10, "choose": largest} | changes
    training = Training(model, optimizer, masks, **settings)
    weights, seen = [], []

    with resolve("during", choice)(training) as course:

        def look(step: int, loss: Any) -> None:  # noqa: ARG001
            weights.append(model.weight.tolist())
            seen.append(course.masks["weight"].tolist())

        look(0, None)
        given_ = iter(torch.tensor(xs))
        hooks = [course.hook, look]
        fit(model, given_, optimizer, lambda m, x: m(x), steps=len(xs), hooks=hooks)
    return weights, seen


def test_a_pruned_weight_trains_on_unseen_and_comes_back_by_hand() -> None:
    # mean |w| is 2.5, so with c = 0 T = 2.5: gone up to 2.25, back above 2.75
    model = Vector(1.0, -2.0, 3.0, 4.0)
    pushes = [[-1.0, 0.0, 0.0, 0.0], [-0.5, 0.5, 0.6, 0.0], [-1.0, 0.0, 0.3, 0.0]]
    weights, seen = train(model, pushes, EVERY_STEP | {"c": 0.0})
    # all of W: (1, -2, 3, 4), (2, -2, 3, 4), (2.5, -2.5, 2.4, 4), (3.5, -2.5, 2.1, 4)
    assert seen[0] == [False, False, True, True]
    assert weights[0] == [0.0, 0.0, 3.0, 4.0]
    assert weights[1] == [0.0, 0.0, 3.0, 4.0]
    assert seen[2] == [False, False, True, True]  # 2.5 is not enough to return, 2.4 to leave
    assert weights[2] == pytest.approx([0.0, 0.0, 2.4, 4.0])
    assert seen[3] == [True, False, False, True]
    assert weights[3] == pytest.approx([3.5, 0.0, 0.0, 4.0])


def test_the_forward_pass_is_masked_and_the_gradient_is_not() -> None:
    model = Vector(1.0, 4.0)
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9, weight_decay=0.1)
    masks = dense(dict(model.named_parameters()))
    training = Training(model, optimizer, masks, 0.5, 100, 10, choose=largest)
    with resolve("during", {"name": "splicing", "stop": 1})(training) as course:
        for _ in range(2):
            optimizer.zero_grad()
            value = model(torch.tensor([0.25, 0.25]))
            value.backward()
            optimizer.step()
            course.hook(1, value)
        # step 1: 1 - (0.25 + 0.1) = 0.65; step 2: velocity 0.9 * 0.35 + 0.25 + 0.065 = 0.63
        assert course.state()["whole/weight"][0].item() == pytest.approx(0.65 - 0.63)
        assert model.weight[0].item() == 0.0
    mask_tools.verify(model, course.masks)


def test_without_c_what_is_pruned_returns_over_a_margin_and_the_budget_holds_by_hand() -> None:
    # two of four stay; a pruned weight counts 0.9 / 1.1 of what it is
    model = Vector(1.0, -2.0, 3.0, 4.0)
    pushes = [[0.0, 1.2, 0.0, 0.0], [0.0, 0.6, 0.0, 0.0], [0.0, 0.0, 0.0, 0.75]]
    weights, seen = train(model, pushes, EVERY_STEP)
    # all of W: (1, -2, 3, 4), (1, -3.2, 3, 4), (1, -3.8, 3, 4), (1, -3.8, 3, 3.25)
    assert seen[0] == [False, False, True, True]
    assert seen[1] == [False, False, True, True]  # 3.2 x 0.9 / 1.1 = 2.62, below 3
    assert seen[2] == [False, True, False, True]  # 3.11, above it
    assert weights[2] == pytest.approx([0.0, -3.8, 0.0, 4.0])
    assert seen[3] == [False, True, False, True]  # 3 is now 2.45


@pytest.mark.filterwarnings("ignore::pruning.pruner.LayerCollapse")
@pytest.mark.parametrize("allocation", ["global", "layerwise"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_without_c_every_change_keeps_exactly_the_target(
    runs: Any, sparsity: float, allocation: str
) -> None:
    training = runs.training(runs.network(), sparsity, choose=partial(prune, allocation=allocation))
    sizes = [mask.numel() for mask in training.masks.values()]

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        found = [int(mask.sum()) for mask in course.masks.values()]
        if allocation == "global":
            assert sum(found) == kept_count(sum(sizes), sparsity)
        else:
            assert found == [kept_count(size, sparsity) for size in sizes]

    runs.run(training, EVERY_STEP, look)


def test_what_an_earlier_round_pruned_counts_in_the_target(runs: Any) -> None:
    model = runs.network()
    masks = prune(model, 0.3, allocation="layerwise")
    mask_tools.apply(model, masks)
    layerwise = partial(prune, allocation="layerwise")
    training = runs.training(model, 0.6, masks=masks, initial=0.3, choose=layerwise)
    with resolve("during", "splicing")(training) as course:
        found = course.masks.values()
        assert all(int(mask.sum()) == kept_count(mask.numel(), 0.6) for mask in found)


@given(st.floats(0, 3), st.lists(st.floats(-4, 4), min_size=2, max_size=20))
def test_the_two_thresholds(c: float, values: list[float]) -> None:
    size = torch.tensor(values).double().abs()
    if not size.any():
        return
    used = size[size > 0]
    variance = (used.square().mean() - used.mean() ** 2).clamp(min=0)
    threshold = float(used.mean() + c * variance.sqrt())
    model = Vector(*values)
    _, seen = train(model, [], EVERY_STEP | {"c": c})
    for kept, value in zip(seen[0], size.tolist(), strict=True):
        if value < 0.9 * threshold - 1e-4:
            assert not kept
        if value > 0.9 * threshold + 1e-4:
            assert kept


def test_changes_become_rarer_and_stop() -> None:
    def changes(gamma: float, stop: int) -> list[int]:
        """The weight crosses both thresholds in turn, so that every update changes the mask."""
        model = Vector(3.0, 3.0, 0.001)
        swing = [[3.0, 0.0, 0.0], [-3.0, 0.0, 0.0]] * 100
        _, seen = train(model, swing, {"name": "splicing", "c": 0.0, "gamma": gamma, "stop": stop})
        first = [mask[0] for mask in seen]
        return [k for k in range(1, 201) if first[k] != first[k - 1]]

    assert changes(0.0, 200) == list(range(1, 200))
    assert changes(0.0, 50) == list(range(1, 50))
    rare = changes(1.0, 200)
    # the chances 1 / (1 + k) add up to 4.9 over 200 steps, and half of the updates change nothing
    assert 1 <= len(rare) <= 12
    assert rare == changes(1.0, 200)


@pytest.mark.parametrize("stop", [1, 5, 11])
def test_a_resumed_run_ends_with_the_same_bits(runs: Any, stop: int) -> None:
    choice = {"name": "splicing", "gamma": 0.3}
    whole = runs.training(runs.network(), 0.6)
    expected = runs.run(whole, choice)
    part = runs.training(runs.network(), 0.6)
    optimizer = part.optimizer
    state = deepcopy(runs.run(part, choice, until=stop).state())
    kept = deepcopy(state)
    rest = runs.training(part.model, 0.6, optimizer=optimizer, start=stop, state=state)
    found = runs.run(rest, choice)
    assert all(torch.equal(state[name], value) for name, value in kept.items())
    assert all(map(torch.equal, part.model.parameters(), whole.model.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


def test_pruned_weights_are_hidden_at_every_step_and_some_come_back(runs: Any) -> None:
    seen: list[dict[str, Tensor]] = []

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        mask_tools.verify(training.model, course.masks)
        seen.append(course.masks)

    training = runs.training(runs.network(), 0.6, steps=40)
    runs.run(training, EVERY_STEP | {"high": 1.0}, look)
    back = [(now[name] & ~before[name]).any() for before, now in pairwise(seen) for name in now]
    assert any(back)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"low": 1.2}, r"splicing: low 1\.2 and high 1\.1 are not 0 < low <= high"),
        ({"gamma": -1.0}, r"splicing: gamma -1\.0 is below 0"),
    ],
)
def test_bad_settings_are_refused(runs: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        runs.run(runs.training(runs.network()), {"name": "splicing"} | settings)


def test_a_layer_of_zeros_is_named() -> None:
    with pytest.raises(PruningError, match="splicing: layer 'weight' holds nothing but zeros"):
        train(Vector(0.0, 0.0), [], EVERY_STEP | {"c": 0.0})


def test_a_threshold_is_saved_in_the_precision_that_it_is_compared_in() -> None:
    model = Vector(0.1, 0.2, 0.4, 0.8)
    masks = dense(dict(model.named_parameters()))
    training = Training(
        model, torch.optim.SGD(model.parameters(), lr=1.0), masks, 0.5, steps=9, steps_per_epoch=3
    )
    mean = model.weight.detach().double().mean()
    assert mean != mean.float()
    with resolve("during", EVERY_STEP | {"c": 0.0})(training) as course:
        assert course.state()["threshold/weight"] == mean
