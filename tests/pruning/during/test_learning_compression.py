from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, fit, prune
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.during.learning_compression import learning_compression
from pruning.masks import dense
from pruning.selection import keep_largest, kept_count
from tests.pruning.during.vector import Vector

BY_STEP = {"name": "learning_compression", "unit": "steps"}


def largest(model: nn.Module, sparsity: float, *, allow_regrowth: bool) -> dict[str, Tensor]:
    assert allow_regrowth
    sizes = {name: weight.detach().abs() for name, weight in model.named_parameters()}
    return keep_largest(sizes, kept_count(sum(map(Tensor.numel, sizes.values())), sparsity))


def setting(model: nn.Module, lr: float = 0.25, **changes: Any) -> Training:
    optimizer = torch.optim.SGD(model.parameters(), lr=lr)
    masks = dense(dict(model.named_parameters()))
    settings = {"sparsity": 0.5, "steps": 6, "steps_per_epoch": 2, "choose": largest} | changes
    return Training(model, optimizer, masks, **settings)


def train(training: Training, xs: list[list[float]], choice: dict[str, Any]) -> list[list[float]]:
    """Return the weights after each step, and after the course."""
    weights = []
    with resolve("during", choice)(training) as course:
        hooks = [course.hook, lambda *_: weights.append(training.model.weight.tolist())]
        batches = iter(torch.tensor(xs))
        fit(training.model, batches, training.optimizer, lambda m, x: m(x), steps=6, hooks=hooks)
    return [*weights, training.model.weight.tolist()]


def test_the_two_steps_and_the_multipliers_by_hand() -> None:
    model = Vector(1.0, -4.0)
    training = setting(model, steps=3)
    choice = BY_STEP | {"mu": 1.0, "growth": 2.0, "frequency": 1}
    with resolve("during", choice)(training) as course:

        def step(*gradient: float) -> dict[str, Tensor]:
            model.weight.grad = torch.tensor(gradient)
            training.optimizer.step()
            course.hook(len(done), torch.zeros(()))
            done.append(model.weight.tolist())
            return course.state()

        done: list[Any] = [model.weight.tolist()]
        assert course.masks["weight"].tolist() == [False, True]  # direct: theta (0, -4)
        # mu 1: w - 0.25 (0 + 1 * (w - theta)) = (0.75, -4)
        state = step(0.0, 0.0)
        assert done[1] == [0.75, -4.0]
        # theta (0, -4), lambda = 0 - 1 * (0.75, 0), mu 2
        assert state["theta/weight"].tolist() == [0.0, -4.0]
        assert state["multiplier/weight"].tolist() == [-0.75, 0.0]
        assert state["mu"].item() == 2.0
        # the pull is mu (w - theta) - lambda = (1.5 + 0.75, 0); the loss pulls by (-13.25, -4)
        state = step(-13.25, -4.0)
        assert done[2] == [0.75 - 0.25 * (-13.25 + 2.25), -4.0 - 0.25 * -4.0]  # (3.5, -3)
        # w - lambda / mu = (3.875, -3): the first is now the larger, theta (3.875, 0)
        assert course.masks["weight"].tolist() == [True, False]
        assert state["theta/weight"].tolist() == [3.875, 0.0]
        # lambda = (-0.75, 0) - 2 * ((3.5, -3) - (3.875, 0)) = (0, 6), mu 4
        assert state["multiplier/weight"].tolist() == [0.0, 6.0]
        # the pull is 4 * ((3.5, -3) - (3.875, 0)) - (0, 6) = (-1.5, -18): w (3.875, 1.5)
        # w - lambda / mu = (3.875, 0), and w becomes theta at the end
        step(0.0, 0.0)
        assert done[3] == [3.875, 0.0]
    mask_tools.verify(model, course.masks)


def test_without_multipliers_it_is_the_quadratic_penalty_by_hand() -> None:
    model = Vector(1.0, -4.0)
    choice = BY_STEP | {"mu": 1.0, "growth": 2.0, "frequency": 2, "multipliers": False}
    seen = train(setting(model), [[0.0, 0.0]] * 6, choice)
    # theta (0, -4) throughout; mu 1 for two steps, 2 for two, 4 for two: times 3/4, 1/2 and 0
    assert [first for first, _ in seen] == [0.75, 0.5625, 0.28125, 0.140625, 0.0, 0.0, 0.0]


def test_the_copy_is_seen_at_the_end_alone() -> None:
    model = Vector(1.0, 2.0, -3.0, 4.0)
    seen = train(setting(model, lr=0.01), [[0.1, 0.1, 0.1, 0.1]] * 6, BY_STEP | {"frequency": 2})
    assert [sum(value == 0 for value in values) for values in seen] == [0] * 5 + [2, 2]


@pytest.mark.parametrize("allocation", ["global", "layerwise"])
@pytest.mark.parametrize("granularity", ["weight", "filter"])
def test_every_c_step_keeps_exactly_the_target(
    runs: Any, allocation: str, granularity: str
) -> None:
    choose = partial(prune, allocation=allocation, granularity=granularity)
    training = runs.training(runs.network(), 0.5, choose=choose)
    filters = {name: len(mask) for name, mask in training.masks.items()}
    weights = {name: mask.numel() for name, mask in training.masks.items()}
    sizes = filters if granularity == "filter" else weights

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        rows = {name: mask.flatten(1) for name, mask in course.masks.items()}
        if granularity == "filter":
            assert all(torch.equal(row.any(1), row.all(1)) for row in rows.values())
            rows = {name: row.any(1) for name, row in rows.items()}
        found = {name: int(row.sum()) for name, row in rows.items()}
        if allocation == "global":
            assert sum(found.values()) == kept_count(sum(sizes.values()), 0.5)
        else:
            assert found == {name: kept_count(size, 0.5) for name, size in sizes.items()}

    course = runs.run(training, BY_STEP | {"frequency": 3}, look)
    mask_tools.verify(training.model, course.masks)


def test_weights_and_their_pruned_copy_become_one(runs: Any) -> None:
    def thrown_away(growth: float) -> float:
        """Return the norm of what the last C step prunes, as it was a step before."""
        training = runs.training(runs.network(), 0.8, steps=60)
        last: dict[str, Tensor] = {}

        def keep(step: int, course: Any) -> None:  # noqa: ARG001
            if step == 59:
                last.update(deepcopy(training.model.state_dict()))

        choice = BY_STEP | {"mu": 1e-2, "growth": growth, "frequency": 4}
        masks = runs.run(training, choice, keep).masks
        return float(torch.cat([last[name][~mask] for name, mask in masks.items()]).norm())

    assert thrown_away(1.6) < 0.5 * thrown_away(1.0)


def test_it_loses_less_than_pruning_at_once(runs: Any) -> None:
    def loss_of(model: Any) -> float:
        model.eval()
        with torch.no_grad():
            return float(sum(runs.loss(model, next(runs.batches(k))) for k in range(40)))

    start = runs.training(runs.network(), steps=60)
    runs.run(start, "none")
    direct = deepcopy(start.model)
    mask_tools.apply(direct, prune(direct, 0.8))
    training = runs.training(start.model, 0.8, steps=60)
    course = runs.run(training, BY_STEP | {"mu": 0.01, "growth": 1.4, "frequency": 4})
    mask_tools.verify(start.model, course.masks)
    assert mask_tools.sparsity(course.masks) == pytest.approx(0.8, abs=0.005)
    assert loss_of(start.model) < loss_of(direct)


def test_after_an_early_end_the_masks_are_held_and_what_is_kept_trains(runs: Any) -> None:
    model = runs.network()
    seen: dict[int, Any] = {}

    def look(step: int, course: Any) -> None:
        zeros = {name: weight == 0 for name, weight in training.weights().items()}
        seen[step] = deepcopy((model.state_dict(), course.masks, zeros))

    training = runs.training(model, 0.6)
    course = runs.run(training, {"name": "learning_compression", "end": 2}, look)  # of 3 epochs
    assert not any(zero.any() for zero in seen[7][2].values())
    for step in (8, 9, 12):
        for name, mask in course.masks.items():
            assert torch.equal(seen[step][1][name], mask)
            assert torch.equal(seen[step][2][name], ~mask)
    kept = course.masks["0.weight"]
    assert (seen[8][0]["0.weight"] != seen[12][0]["0.weight"])[kept].all()


@pytest.mark.parametrize("end", [None, 8])
@pytest.mark.parametrize("stop", [1, 4, 7, 8, 11])
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_a_resumed_run_ends_with_the_same_bits(
    runs: Any, stop: int, end: int | None, optimizer: str
) -> None:
    choice = BY_STEP | {"frequency": 3, "end": end, "mu": 0.1}

    def training(seed: int, **changes: Any) -> Training:
        model = runs.network(seed)
        made = torch.optim.Adam(model.parameters(), lr=0.01)
        given = {"optimizer": made} if optimizer == "adam" else {}
        return runs.training(model, 0.6, **given, **changes)  # type: ignore[no-any-return]

    saved: dict[str, Any] = {}

    def checkpoint(step: int, course: Any) -> None:
        if step == stop:
            parts = whole.model.state_dict(), whole.optimizer.state_dict(), course.state()
            saved["all"] = deepcopy(parts)

    whole = training(0)
    expected = runs.run(whole, choice, checkpoint)
    weights, state, of_course = saved["all"]
    rest = training(3, start=stop, state=of_course)
    rest.model.load_state_dict(weights)
    rest.optimizer.load_state_dict(state)
    found = runs.run(rest, choice)
    assert all(map(torch.equal, rest.model.parameters(), whole.model.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


@pytest.mark.parametrize("stop", [3, 4])
def test_a_run_that_stops_early_ends_pruned(runs: Any, stop: int) -> None:
    model = runs.network()
    course = runs.run(runs.training(model, 0.6), "learning_compression", until=stop)
    mask_tools.verify(model, course.masks)
    kept = sum(map(int, (mask.sum() for mask in course.masks.values())))
    assert (
        kept
        == kept_count(36 + 108, 0.6)
        == sum(int(weight.count_nonzero()) for weight in (model[0].weight, model[4].weight))
    )


def test_a_start_after_the_end_prunes_at_once_and_holds(runs: Any) -> None:
    model = runs.network()
    masks = prune(model, 0.6)
    course = runs.run(
        runs.training(model, 0.6, start=9), BY_STEP | {"frequency": 2, "end": 8}, until=12
    )
    assert all(torch.equal(course.masks[name], mask) for name, mask in masks.items())
    mask_tools.verify(model, course.masks)


def test_what_an_earlier_round_pruned_may_come_back(runs: Any) -> None:
    model = runs.network()
    before = {name: ~mask for name, mask in prune(model, 0.5).items()}  # the larger half
    mask_tools.apply(model, before)
    training = runs.training(model, 0.7, masks=before, steps=40, initial=0.5)
    course = runs.run(training, BY_STEP | {"frequency": 5})
    assert any((mask & ~before[name]).any() for name, mask in course.masks.items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mu": 0.0}, r"learning_compression: mu 0\.0 is not above 0"),
        ({"mu": -1.0}, r"learning_compression: mu -1\.0 is not above 0"),
        ({"growth": 0.9}, r"learning_compression: growth 0\.9 is below 1"),
        ({"frequency": 0.1}, r"learning_compression: every 0\.1 epochs is less than one step"),
        ({"end": 4}, r"learning_compression: from 0 to 4 epochs is not within the run of 12"),
        ({"unit": "years"}, "unknown unit of learning_compression 'years'; choose from steps"),
    ],
)
def test_bad_settings_are_refused(runs: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message) as caught:
        runs.run(runs.training(runs.network()), {"name": "learning_compression"} | settings)
    assert "\n" not in str(caught.value)


def test_masks_may_name_more_than_the_layers_up_for_pruning() -> None:
    """Filters that go whole take their biases with them."""
    model = nn.Linear(3, 4)

    def rows(model: Any, sparsity: float, **_: Any) -> dict[str, Tensor]:  # noqa: ARG001
        kept = model.weight.detach().abs().sum(1) >= model.weight.detach().abs().sum(1).median()
        return {"weight": kept[:, None].expand(4, 3).clone(), "bias": kept}

    training = Training(
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        dense({"weight": model.weight}),
        sparsity=0.25,
        steps=6,
        steps_per_epoch=2,
        choose=rows,
    )
    with learning_compression(training, mu=0.5) as course:
        fit(
            model,
            iter(torch.randn(6, 5, 3)),
            training.optimizer,
            lambda m, x: m(x).square().mean(),
            steps=6,
            hooks=[course.hook],
        )
    assert not model.bias[~course.masks["bias"]].any()
    assert model.bias[course.masks["bias"]].all()
