from copy import deepcopy
from itertools import islice, pairwise
from math import exp
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, fit
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.during.trainable_threshold import trainable_threshold
from pruning.masks import dense
from pruning.prunables import prunable

NAME = "trainable_threshold"


def layer(*rows: list[float]) -> nn.Linear:
    """A layer without a bias, so that the gradient of the sum of its outputs at x is x."""
    model = nn.Linear(len(rows[0]), len(rows), bias=False)
    with torch.no_grad():
        model.weight.copy_(torch.tensor(rows))
    return model


def training_of(model: nn.Module, optimizer: Any = None, **changes: Any) -> Training:
    optimizer = optimizer or torch.optim.SGD(model.parameters(), lr=0.1)
    settings = {"sparsity": 0.5, "steps": 1000, "steps_per_epoch": 10}
    return Training(model, optimizer, dense(prunable(model)), **(settings | changes))


def step(model: nn.Module, optimizer: torch.optim.Optimizer, x: list[float]) -> None:
    optimizer.zero_grad()
    model(torch.tensor(x)).sum().backward()
    optimizer.step()


def near(values: Any) -> Any:
    return pytest.approx(values, abs=1e-6)


def test_two_steps_by_hand() -> None:
    model = layer([0.5, -0.3])
    training = training_of(model)
    with trainable_threshold(training, alpha=0.1) as course:
        # |W| - t = (0.5, 0.3), H = (0.4, 0.8), G W H = (0.2, 0.48)
        step(model, training.optimizer, [1.0, -2.0])
        state = course.state()
        # so t is 0.1 times 0.68 + 0.1, and W loses 0.1 times (1 + 0.2, -2 - 0.48)
        assert state["threshold/weight"].item() == near(0.078)
        assert state["whole/weight"][0].tolist() == near([0.38, -0.052])
        assert model.weight[0].tolist() == near([0.38, 0.0])
        assert course.masks["weight"].tolist() == [[True, False]]
        # |W| - t = (0.302, -0.026), H = (0.792, 1.896), G W H = (0, -0.098592); the hidden weight
        # has no part in what the network does, so of its gradient the structure alone is left
        step(model, training.optimizer, [0.0, 1.0])
        state = course.state()
        assert state["whole/weight"][0].tolist() == near([0.38, -0.052 - 0.0098592])
        assert state["threshold/weight"].item() == near(
            0.078 + 0.1 * (-0.098592 + 0.1 * exp(-0.078))
        )
    mask_tools.verify(model, course.masks)


@pytest.mark.parametrize(
    ("weight", "slope"), [(0.1, 1.6), (0.4, 0.4), (0.7, 0.4), (1.0, 0.4), (1.01, 0.0), (-3.0, 0.0)]
)
def test_the_long_tailed_estimate_of_the_slope(weight: float, slope: float) -> None:
    model = layer([weight])
    training = training_of(model)
    with trainable_threshold(training, alpha=0.0):
        model.weight.grad = torch.ones(1, 1)
        training.optimizer.step()
    assert model.weight.grad.item() == near(1 + abs(weight) * slope)


class Step(torch.autograd.Function):
    """The published layer's step, as autograd would be told of it."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tensor:
        (x,) = ctx.saved_tensors
        steep, flat = 2 - 4 * x.abs(), torch.full_like(x, 0.4)
        return grad * torch.where(x.abs() <= 0.4, steep, torch.where(x.abs() <= 1, flat, 0.0))


OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "adam": lambda p: torch.optim.Adam(p, lr=0.02),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
}


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_weights_and_thresholds_go_as_if_the_masked_layers_were_in_the_network(
    runs: Any, optimizer: str
) -> None:
    model, alpha, steps = runs.network().double(), 0.02, 25
    own = OPTIMIZERS[optimizer](model.parameters())
    with trainable_threshold(training_of(model, own), alpha=alpha) as course:
        fit(model, batches64(runs), own, runs.loss, steps=steps)
        state = course.state()

    reference = runs.network().double()
    params = dict(reference.named_parameters())
    names = [*prunable(reference)]
    shapes = {name: (len(params[name]), *[1] * (params[name].ndim - 1)) for name in names}
    t = {n: nn.Parameter(torch.zeros(s, dtype=torch.float64)) for n, s in shapes.items()}
    all_of_them = OPTIMIZERS[optimizer]([*params.values(), *t.values()])
    for images, targets in islice(batches64(runs), steps):
        masked = {n: params[n] * Step.apply(params[n].abs() - t[n]) for n in names}
        outputs = torch.func.functional_call(reference, masked, (images,))
        loss = nn.functional.cross_entropy(outputs, targets)
        loss = loss + alpha * sum(torch.exp(-each).sum() for each in t.values())
        all_of_them.zero_grad()
        loss.backward()
        all_of_them.step()
        for n in names:  # the authors' layer does this before it computes
            if (params[n].abs() > t[n]).double().mean() <= 0.01:
                t[n].detach().zero_()
    for name in names:
        assert torch.allclose(state[f"whole/{name}"], params[name], rtol=1e-9, atol=1e-12)
        assert torch.allclose(state[f"threshold/{name}"], t[name], rtol=1e-9, atol=1e-12)
        assert torch.equal(course.masks[name], params[name].abs() > t[name])
    assert 0.1 < mask_tools.sparsity(course.masks) < 0.95


def batches64(runs: Any) -> Any:
    return ((images.double(), targets) for images, targets in runs.batches())


def test_a_layer_that_would_lose_nearly_all_begins_again_with_thresholds_of_zero() -> None:
    def after_one_step(max_sparsity: float) -> tuple[list[float], list[list[bool]]]:
        model = layer([0.1, 0.2, 0.3, 2.0], [0.1, 0.2, 0.3, 0.4])
        training = training_of(model)
        with trainable_threshold(training, alpha=5.0, max_sparsity=max_sparsity) as course:
            model.weight.grad = torch.zeros(2, 4)
            training.optimizer.step()  # t = 0.1 * 5, above all but one of eight
            return course.state()["threshold/weight"].flatten().tolist(), course.masks[
                "weight"
            ].tolist()

    assert after_one_step(0.9) == ([0.5, 0.5], [[False, False, False, True], [False] * 4])
    assert after_one_step(0.875) == ([0.0, 0.0], [[True] * 4, [True] * 4])


def test_thresholds_are_one_for_each_output_whatever_the_layer(runs: Any) -> None:
    model = nn.Sequential(
        nn.Conv2d(2, 3, 3),
        nn.ConvTranspose2d(3, 5, 2),
        nn.Flatten(),
        nn.Linear(5, 4),
        nn.LSTM(4, 6),
    )
    training = runs.training(model)
    with trainable_threshold(training) as course:
        shapes = {n: list(v.shape) for n, v in course.state().items() if n.startswith("threshold/")}
    assert shapes == {
        "threshold/0.weight": [3, 1, 1, 1],
        "threshold/1.weight": [1, 5, 1, 1],
        "threshold/3.weight": [4, 1],
        "threshold/4.weight_ih_l0": [24, 1],
        "threshold/4.weight_hh_l0": [24, 1],
    }


def test_a_larger_alpha_prunes_more_and_weights_come_back(runs: Any) -> None:
    reached, back = [], False
    for alpha in (0.0, 0.01, 0.03):
        seen: list[Any] = []

        def look(step: int, course: Any, seen: list[Any] = seen) -> None:  # noqa: ARG001
            seen.append(course.masks)

        training = runs.training(runs.network(), steps=60)
        course = runs.run(training, {"name": NAME, "alpha": alpha}, look)
        mask_tools.verify(training.model, course.masks)
        reached.append(mask_tools.sparsity(course.masks))
        back |= any((new[n] & ~old[n]).any() for old, new in pairwise(seen) for n in new)
    assert reached[0] < reached[1] - 0.1 and reached[1] < reached[2] - 0.1
    assert back


def test_the_target_chooses_the_alpha(runs: Any) -> None:
    found = []
    for alpha in (0.25, {"0.5": 0.25, "0.6": 1.0}):
        training = runs.training(runs.network(), 0.5)
        state = runs.run(training, {"name": NAME, "alpha": alpha}).state()
        found.append(state["threshold/0.weight"])
    assert torch.equal(*found)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("stop", [1, 7])
def test_a_resumed_run_ends_with_the_same_bits(runs: Any, stop: int, optimizer: str) -> None:
    choice = {"name": NAME, "alpha": 0.1}

    def training(model: nn.Module, **changes: Any) -> Training:
        made = {"optimizer": OPTIMIZERS[optimizer](model.parameters())}
        return runs.training(model, **(made | changes))

    whole = training(runs.network())
    expected = runs.run(whole, choice)
    part = training(runs.network())
    state = deepcopy(runs.run(part, choice, until=stop).state())
    kept = deepcopy(state)
    rest = training(part.model, optimizer=part.optimizer, start=stop, state=state)
    found = runs.run(rest, choice)
    assert all(map(torch.equal, part.model.parameters(), whole.model.parameters()))
    assert found.state().keys() == expected.state().keys()
    assert all(torch.equal(found.state()[name], v) for name, v in expected.state().items())
    assert all(torch.equal(state[name], value) for name, value in kept.items())


def test_thresholds_follow_the_learning_rate_of_their_layer_s_weights(runs: Any) -> None:
    model = runs.network()
    groups = [
        {"params": model[0].parameters(), "lr": 1.0},
        {"params": [*model[1].parameters(), *model[4].parameters()]},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.25)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=0.5)
    training = runs.training(model, optimizer=optimizer)
    with trainable_threshold(training, alpha=0.125) as course:
        for expected in ([0.125, 0.03125], None):
            for parameter in model.parameters():
                parameter.grad = torch.zeros_like(parameter)
            optimizer.step()
            schedule.step()
            found = [
                course.state()[f"threshold/{n}"].max().item() for n in ("0.weight", "4.weight")
            ]
            if expected:
                assert found == expected
        pushed = [0.125 + 0.0625 * exp(-0.125), 0.03125 + 0.015625 * exp(-0.03125)]
        assert found == near(pushed)
    assert [len(group["params"]) for group in optimizer.param_groups] == [2, 4]


def test_clipping_bounds_what_the_network_sees_and_leaves_the_penalty_alone() -> None:
    model = layer([3.0, 4.0])
    training = training_of(model)
    with trainable_threshold(training, alpha=0.5) as course:
        inputs = iter([torch.tensor([30.0, 40.0])])
        fit(model, inputs, training.optimizer, lambda m, x: m(x).sum(), steps=1, clip=0.5)
        # G = (0.3, 0.4); no |W| within 1 of t, so t has the penalty alone
        assert course.state()["whole/weight"][0].tolist() == near([2.97, 3.96])
        assert course.state()["threshold/weight"].item() == near(0.05)


def test_the_loss_scale_of_float16_leaves_no_trace(runs: Any) -> None:
    found = []
    for scale in (None, 8.0):
        model = runs.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
        with trainable_threshold(runs.training(model, optimizer=optimizer), alpha=0.5) as course:
            runs.loss(model, next(runs.batches())).backward()
            if scale is not None:
                for parameter in model.parameters():
                    parameter.grad *= scale
                optimizer.grad_scale, optimizer.found_inf = torch.tensor(scale), torch.tensor(0.0)
            optimizer.step()
            found.append(course.state())
    assert all(torch.allclose(found[0][n].double(), v.double()) for n, v in found[1].items())


def test_a_step_that_float16_overflows_is_left_out(runs: Any) -> None:
    model = runs.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    with trainable_threshold(runs.training(model, optimizer=optimizer), alpha=0.5) as course:
        before = course.state()
        for parameter in model.parameters():
            parameter.grad = torch.full_like(parameter, torch.inf)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(1.0)
        optimizer.step()
        assert all(torch.equal(before[name], value) for name, value in course.state().items())


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": -1.0}, r"trainable_threshold: alpha -1\.0 is no number from 0 upwards"),
        ({"alpha": "much"}, "trainable_threshold: alpha 'much' is no number"),
        ({"alpha": {"0.9": 1.0}}, r"alpha has no value for the target sparsity 0\.5; it has 0\.9"),
        ({"alpha": {"high": 1.0}}, "alpha is given for 'high', which is no sparsity"),
        (
            {"max_sparsity": {"4.*": 0.0, "*": 1}},
            r"max_sparsity of layer '4\.weight' is 0\.0, not in",
        ),
        ({"limit": 1}, "unknown setting of during 'trainable_threshold' 'limit'; choose from alp"),
    ],
)
def test_bad_settings_are_refused(runs: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        runs.run(runs.training(runs.network()), {"name": NAME} | settings)


def test_a_layer_whose_thresholds_cannot_train_is_named(runs: Any) -> None:
    model = runs.network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(PruningError, match=r"the optimizer does not train layer '4\.weight'"):
        runs.run(runs.training(model, optimizer=first), NAME)
    masks = dense(prunable(model))
    model[4].weight.requires_grad_(False)
    with pytest.raises(
        PruningError, match=r"the optimizer does not train layer '4\.weight', so no"
    ):
        runs.run(runs.training(model, masks=masks), NAME)
    model[4].weight.requires_grad_(True)
    nn.init.zeros_(model[4].weight)
    with pytest.raises(PruningError, match=r"layer '4\.weight' holds nothing but zeros"):
        runs.run(runs.training(model), NAME)


def test_an_optimizer_that_thresholds_cannot_have_is_named(runs: Any) -> None:
    class Bound(torch.optim.SGD):
        def __init__(self, params: Any, teacher: nn.Module) -> None:
            super().__init__(params, lr=0.1)
            self.teacher = teacher

    model = runs.network()
    training = runs.training(model, optimizer=Bound(model.parameters(), model))
    with pytest.raises(PruningError, match="trainable_threshold: Bound cannot train thresholds: "):
        runs.run(training, NAME)


def test_a_layer_that_took_no_part_is_pushed_by_the_penalty_alone(runs: Any) -> None:
    model = runs.network()
    training = training_of(model)
    with resolve("during", {"name": NAME, "alpha": 1.0})(training) as course:
        model[4].weight.grad = torch.zeros_like(model[4].weight)
        training.optimizer.step()
        state = course.state()
    for name in ("0.weight", "4.weight"):
        assert state[f"threshold/{name}"].flatten().tolist() == near(
            [0.1] * len(model[int(name[0])].weight)
        )
