from copy import deepcopy
from functools import partial
from math import exp, log
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import PruningError, fit, prune
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Training
from pruning.masks import dense
from pruning.prunables import prunable
from pruning.rewind import capture, restore
from pruning.selection import kept_count

pytestmark = pytest.mark.filterwarnings("ignore::pruning.pruner.LayerCollapse")
NAME = {"name": "variational_dropout"}
AT_ONCE = NAME | {"begin": 0, "end": 0, "threshold": 3.0}


def line(*weights: float) -> nn.Sequential:
    """Return one layer of one output."""
    model = nn.Sequential(nn.Linear(len(weights), 1, bias=False))
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([weights]))
    return model


def of(model: nn.Module, **changes: Any) -> Training:
    settings = {"sparsity": 0.5, "steps": 100, "steps_per_epoch": 10} | changes
    optimizer = changes.pop("optimizer", None) or torch.optim.SGD(model.parameters(), lr=1.0)
    settings.pop("optimizer", None)
    return Training(model, optimizer, dense(prunable(model)), **settings)


def still_step(training: Training, course: Any, step: int) -> None:
    """Make a step in which the loss says nothing."""
    training.optimizer.zero_grad()
    value = 0.0 * training.model(torch.ones(1, training.model[0].in_features)).sum()
    value.backward()
    training.optimizer.step()
    course.hook(step, value.detach())


def slope(alpha: float) -> float:
    rise = 1 / (1 + exp(-1.8732 - 1.48695 * alpha))
    return -(0.63576 * 1.48695 * rise * (1 - rise) + 0.5 / (1 + exp(alpha)))


def test_the_divergence_by_hand() -> None:
    training = of(line(1.0, -0.5))
    with resolve("during", AT_ONCE | {"log_sigma2": 0.0, "samples": 10})(training) as course:
        still_step(training, course, 1)
        state = course.state()
    # log alpha is 0 - log theta^2: 0 and log 4; it rises with log sigma^2 and falls by 2 / theta
    pulls = [slope(0.0) / 10, slope(log(4)) / 10]
    assert state["log_sigma2/0.weight"][0].tolist() == pytest.approx([-pull for pull in pulls])
    expected = [1 + 2 * pulls[0], -0.5 - 4 * pulls[1]]
    assert state["mean/0.weight"][0].tolist() == pytest.approx(expected)
    assert training.model[0].weight[0].tolist() == pytest.approx(expected)


def test_its_share_rises_from_begin_to_end_and_times_strength() -> None:
    choice = NAME | {"begin": 1, "end": 5, "unit": "steps", "strength": 2.0, "samples": 1000}
    training = of(line(1.0), sparsity=0.0)
    seen = []
    with resolve("during", choice | {"log_sigma2": 0.0, "threshold": 3.0})(training) as course:
        for step in range(1, 9):
            before = course.state()["log_sigma2/0.weight"].item()
            alpha = before - 2 * log(abs(course.state()["mean/0.weight"].item()))
            still_step(training, course, step)
            moved = course.state()["log_sigma2/0.weight"].item() - before
            seen.append(moved / (-2 * slope(alpha) / 1000))
    assert seen == pytest.approx([0, 0, 0.25, 0.5, 0.75, 1, 1, 1], abs=1e-3)


def test_unless_set_the_samples_are_the_batch_s_rows_times_an_epoch_s_steps() -> None:
    training = of(line(1.0), steps_per_epoch=7)
    with resolve("during", AT_ONCE)(training) as course:
        assert "samples" not in course.state()
        training.model(torch.ones(4, 1)).sum().backward()
        training.optimizer.step()
        assert course.state()["samples"].item() == 28
    resumed = of(line(1.0), steps_per_epoch=7, state=course.state(), start=1)
    with resolve("during", AT_ONCE)(resumed) as course:
        resumed.model(torch.ones(3, 1)).sum().backward()
        resumed.optimizer.step()
        assert course.state()["samples"].item() == 28


def test_noise_is_added_in_training_mode_alone_and_has_the_output_s_deviation() -> None:
    training = of(line(2.0, 0.0))
    inputs = torch.tensor([[1.0, 3.0]]).expand(20_000, 2)
    with resolve("during", AT_ONCE | {"log_sigma2": log(0.25)})(training) as course:
        first, second = training.model(inputs), training.model(inputs)
        training.model.eval()
        assert (training.model(inputs) == 2.0).all()
        training.model.train()
        course.hook(1, torch.zeros(()))
        third = training.model(inputs)
        copied = deepcopy(training.model)
        assert (copied(inputs) == 2.0).all()
    assert first.mean().item() == pytest.approx(2.0, abs=0.05)
    # sigma^2 = 1/4 for both weights, a pruned one too: sqrt((1 + 9) / 4)
    assert first.std().item() == pytest.approx(2.5**0.5, abs=0.03)
    assert not torch.equal(first, second) and not torch.equal(first, third)
    assert (training.model(inputs) == 2.0).all()


def test_above_the_threshold_a_weight_is_hidden_and_below_it_comes_back() -> None:
    # log alpha is -2 log theta: 4.6 for 0.1, 0 for 1
    training = of(line(0.1, 1.0))
    seen = []
    with resolve("during", AT_ONCE | {"log_sigma2": 0.0, "strength": 0.0})(training) as course:
        (log_sigma2,) = training.optimizer.param_groups[-1]["params"]
        weight = training.model[0].weight
        for step, push in enumerate(([0.0, -4.0], [2.0, 0.0]), start=1):
            seen.append((course.masks["0.weight"][0].tolist(), weight[0].tolist()))
            training.model(torch.ones(1, 2)).sum().backward()
            weight.grad.zero_()
            log_sigma2.grad.copy_(torch.tensor([push]))
            training.optimizer.step()
            course.hook(step, torch.zeros(()))
        seen.append((course.masks["0.weight"][0].tolist(), weight[0].tolist()))
    assert seen[0] == ([False, True], [0.0, 1.0])
    assert seen[1] == ([False, False], [0.0, 0.0])  # log alpha is 4.6 and 4
    assert seen[2] == ([True, False], [pytest.approx(0.1), 0.0])  # 2.6 and 4
    mask_tools.verify(training.model, course.masks)


def test_the_loss_does_not_move_a_pruned_weight() -> None:
    training = of(line(0.01, 1.0))
    with resolve("during", AT_ONCE | {"log_sigma2": 0.0, "strength": 0.0})(training) as course:
        training.model(torch.ones(1, 2)).sum().backward()
        assert training.model[0].weight.grad[0].tolist() == [0.0, 1.0]
        training.optimizer.step()
        assert course.state()["mean/0.weight"][0, 0].item() == pytest.approx(0.01)


@pytest.mark.parametrize("allocation", ["global", "layerwise"])
@pytest.mark.parametrize("sparsity", [0.1, 0.5, 0.9])
def test_without_a_threshold_the_share_rises_to_exactly_the_target(
    runs: Any, sparsity: float, allocation: str
) -> None:
    training = runs.training(runs.network(), sparsity, choose=partial(prune, allocation=allocation))
    sizes = [mask.numel() for mask in training.masks.values()]
    kept = {}

    def look(step: int, course: Any) -> None:
        mask_tools.verify(training.model, course.masks)
        kept[step] = [int(mask.sum()) for mask in course.masks.values()]

    runs.run(training, NAME | {"begin": 1, "unit": "steps", "end": 2}, look)
    for step, share in {0: 0.0, 1: 0.0, 5: 0.5, 9: 1.0, 12: 1.0}.items():
        wanted = sparsity * share
        if allocation == "global":
            assert sum(kept[step]) == kept_count(sum(sizes), wanted)
        else:
            assert kept[step] == [kept_count(size, wanted) for size in sizes]


def test_without_a_threshold_the_largest_log_alpha_goes(runs: Any) -> None:
    training = runs.training(runs.network(), 0.6)
    ratios: dict[str, Tensor] = {}

    def look(step: int, course: Any) -> None:
        if step == 8:  # as the last masks are chosen after step 9, of what then was
            state = course.state()
            ratios.update(
                {
                    n: state[f"log_sigma2/{n}"] - 2 * state[f"mean/{n}"].abs().log()
                    for n in course.masks
                }
            )

    course = runs.run(training, NAME | {"begin": 0, "unit": "steps", "end": 8}, look, until=8)
    gone = torch.cat([ratios[name][~mask] for name, mask in course.masks.items()])
    kept = torch.cat([ratios[name][mask] for name, mask in course.masks.items()])
    assert gone.numel() > 0 and gone.min() >= kept.max()


MAKE: dict[str, Any] = {
    "sgd": partial(torch.optim.SGD, lr=0.05, momentum=0.9, weight_decay=1e-3),
    "adam": partial(torch.optim.Adam, lr=0.01, weight_decay=0.1),
    "fused": partial(torch.optim.Adam, lr=0.01, fused=True),
    "adagrad": partial(torch.optim.Adagrad, lr=0.05, initial_accumulator_value=0.1),
}


@pytest.mark.parametrize("threshold", [None, 3.0])
@pytest.mark.parametrize("optimizer", MAKE)
@pytest.mark.parametrize("stop", [1, 9])
def test_a_resumed_run_ends_with_the_same_bits(
    runs: Any, stop: int, optimizer: str, threshold: float | None
) -> None:
    choice = NAME | {"threshold": threshold, "log_sigma2": -3.0}

    def training(**changes: Any) -> Training:
        model = runs.network()
        made = MAKE[optimizer](model.parameters())
        return runs.training(model, 0.6, optimizer=made, **changes)

    whole = training()
    expected = runs.run(whole, choice).state()
    saved: list[Any] = []

    def look(step: int, course: Any) -> None:
        if step == stop:
            saved.extend((capture(part.model, part.optimizer, step), course.state()))

    part = training()
    runs.run(part, choice, look, until=stop)
    rest = training(start=stop, state=saved[1])
    restore(rest.model, saved[0], optimizer=rest.optimizer)
    found = runs.run(rest, choice).state()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) for key, value in expected.items())
    assert all(map(torch.equal, rest.model.parameters(), whole.model.parameters()))


def test_log_sigma2_is_trained_without_weight_decay_and_leaves_the_optimizer(runs: Any) -> None:
    model = runs.network()
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.01, weight_decay=0.1)
    training = runs.training(model, optimizer=optimizer)
    with resolve("during", NAME)(training) as course:
        own = optimizer.param_groups[1]
        assert (own["weight_decay"], own["lr"], len(own["params"])) == (0.0, 0.01, 2)
        fit(model, runs.batches(), optimizer, runs.loss, steps=2, hooks=[course.hook])
        assert all(optimizer.state[variance] for variance in own["params"])
    assert len(optimizer.param_groups) == 1
    assert optimizer.state.keys() == set(model.parameters())
    modules = [*model.modules()]
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in modules)


def test_log_sigma2_has_the_settings_of_its_layer_s_group(runs: Any) -> None:
    model = runs.network()
    groups = [
        {"params": model[0].parameters(), "momentum": 0.5},
        {"params": [*model[1].parameters(), *model[4].parameters()], "lr": 0.25},
    ]
    optimizer = torch.optim.SGD(groups, lr=0.125, momentum=0.9, weight_decay=0.1)
    with resolve("during", NAME)(runs.training(model, optimizer=optimizer)):
        own = [(g["lr"], g["momentum"], g["weight_decay"]) for g in optimizer.param_groups[2:]]
        shapes = [g["params"][0].shape for g in optimizer.param_groups[2:]]
    assert own == [(0.125, 0.5, 0.0), (0.25, 0.9, 0.0)]
    assert shapes == [model[0].weight.shape, model[4].weight.shape]
    assert len(optimizer.param_groups) == 2


def test_a_loop_may_zero_the_gradients_of_the_model_alone(runs: Any) -> None:
    found = []
    for whose in ("model", "optimizer"):
        training = runs.training(runs.network())
        with resolve("during", AT_ONCE)(training) as course:
            for step, batch in zip(range(3), runs.batches(), strict=False):
                getattr(training, whose).zero_grad()
                runs.loss(training.model, batch).backward()
                training.optimizer.step()
                course.hook(step + 1, torch.zeros(()))
            found.append(course.state())
    assert all(torch.equal(found[0][key], value) for key, value in found[1].items())


@pytest.mark.filterwarnings("ignore:The .grad attribute")  # torch._dynamo looks at it
def test_a_compiled_model_has_the_same_noise_and_is_not_compiled_anew_for_it(runs: Any) -> None:
    torch._dynamo.reset()
    graphs: list[Any] = []
    counts, weights = [], []

    def backend(graph: Any, _: Any) -> Any:
        graphs.append(graph)
        return graph.forward

    for compiled in (False, True):
        training = runs.training(runs.network())
        called = torch.compile(training.model, backend=backend) if compiled else training.model
        with resolve("during", AT_ONCE)(training) as course:
            for step, batch in zip(range(6), runs.batches(), strict=False):
                training.optimizer.zero_grad()
                runs.loss(called, batch).backward()
                training.optimizer.step()
                course.hook(step + 1, torch.zeros(()))
                counts.append(len(graphs))
        weights.append([weight.detach() for weight in training.model.parameters()])
    assert all(map(torch.equal, *weights))
    assert 0 < counts[-4] == counts[-1]


def test_adagrad_starts_its_sums_as_it_does_elsewhere() -> None:
    model = line(1.0, -0.5)
    adagrad = torch.optim.Adagrad(model.parameters(), lr=1.0, initial_accumulator_value=0.1)
    training = of(model, optimizer=adagrad)
    with resolve("during", AT_ONCE | {"log_sigma2": 0.0, "samples": 1})(training) as course:
        still_step(training, course, 1)
        found = course.state()["log_sigma2/0.weight"][0].tolist()
    pulls = [-slope(0.0), -slope(log(4))]
    assert found == pytest.approx([pull / (0.1 + pull**2) ** 0.5 for pull in pulls])


def test_loss_scaling_and_clipping_do_not_touch_the_divergence(runs: Any) -> None:
    found = []
    for precision, clip in (("float32", None), ("float16", None), ("float32", 1e-9)):
        model = runs.network()
        training = runs.training(model, optimizer=torch.optim.SGD(model.parameters(), lr=100.0))
        with resolve("during", AT_ONCE | {"samples": 100})(training) as course:
            fit(
                training.model,
                runs.batches(),
                training.optimizer,
                lambda m, b: 0.0 * runs.loss(m, b).float(),
                steps=3,
                precision=precision,
                clip=clip,
                hooks=[course.hook],
            )
            found.append(course.state())
    names = [name for name in found[0] if name.startswith(("mean/", "log_sigma2/"))]
    assert (found[0]["log_sigma2/0.weight"] > -10).any()
    for other in found[1:]:
        assert all(torch.equal(found[0][name], other[name]) for name in names)


def test_a_fused_optimizer_that_undoes_the_loss_scale_itself_gets_a_scaled_divergence() -> None:
    model = line(1.0, -0.5)
    training = of(model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0, fused=True))
    choice = AT_ONCE | {"log_sigma2": 0.0, "samples": 10}
    with resolve("during", choice)(training) as course:
        training.optimizer.grad_scale = torch.tensor(8.0)
        training.optimizer.found_inf = torch.tensor(0.0)
        still_step(training, course, 1)
        found = course.state()["log_sigma2/0.weight"][0].tolist()
    assert found == pytest.approx([-slope(0.0) / 10, -slope(log(4)) / 10])


def test_what_tells_nothing_is_pruned_and_what_tells_is_kept() -> None:
    draw = torch.Generator().manual_seed(0)
    inputs = torch.randn(512, 20, generator=draw)
    labels = (inputs[:, 0] > inputs[:, 1]).long()  # eighteen inputs tell nothing
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 2))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    masks = dense(prunable(model))
    training = Training(model, optimizer, masks, sparsity=0.8, steps=800, steps_per_epoch=8)

    def batches() -> Any:
        while True:
            yield from zip(inputs.split(64), labels.split(64), strict=True)

    with resolve("during", NAME | {"threshold": 3.0})(training) as course:
        fit(
            model,
            batches(),
            optimizer,
            lambda m, b: nn.functional.cross_entropy(m(b[0]), b[1]),
            steps=800,
            hooks=[course.hook],
        )
    mask_tools.verify(model, course.masks)
    first = course.masks["0.weight"]
    assert first[:, 2:].float().mean() < 0.05
    assert int(first[:, :2].sum()) > 1
    assert mask_tools.sparsity(course.masks) > 0.8
    assert (model(inputs).argmax(1) == labels).float().mean() > 0.95


class Bare(nn.Module):
    """Uses the weight of a layer that it never calls."""

    def __init__(self) -> None:
        super().__init__()
        self.hidden = nn.Linear(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.hidden.weight)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (
            nn.Embedding(3, 2),
            "'weight' is a weight of Embedding, and noise is known for those of Lin",
        ),
        (nn.Sequential(nn.LSTM(2, 2)), "'0.weight_ih_l0' is a weight of LSTM, and noise is known"),
        (nn.ConvTranspose2d(1, 1, 2), "'weight' is a weight of ConvTranspose2d, and noise"),
    ],
)
def test_a_layer_whose_noise_is_not_known_is_named(model: nn.Module, message: str) -> None:
    with pytest.raises(PruningError, match=message), resolve("during", NAME)(of(model)):
        pass


def test_a_layer_that_is_never_called_is_named() -> None:
    training = of(Bare())
    with (
        pytest.raises(PruningError, match=r"the layer of 'hidden\.weight' is never called"),
        resolve("during", NAME)(training),
    ):
        training.model(torch.ones(1, 2)).sum().backward()
        training.optimizer.step()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"strength": -1.0}, r"variational_dropout: strength -1\.0 is not at least 0"),
        ({"strength": float("nan")}, "variational_dropout: strength nan is not at least 0"),
        ({"begin": 2, "end": 1}, "cannot rise from step 8 to step 4; choose 0 <= begin <= end"),
        ({"unit": "weeks"}, "unknown unit of variational_dropout 'weeks'"),
        (
            {"begin": 10, "end": 10, "unit": "steps"},
            "variational_dropout: begins at 10 steps, after",
        ),
        ({"samples": 0}, "variational_dropout: samples 0 is not a count of at least 1"),
        ({"samples": 2.5}, r"variational_dropout: samples 2\.5 is not a count of at least 1"),
    ],
)
def test_bad_settings_are_refused(runs: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(PruningError, match=message):
        runs.run(runs.training(runs.network()), NAME | settings)


def test_samples_that_nothing_tells_are_asked_for() -> None:
    class Fixed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(1, 1)

        def forward(self) -> Tensor:
            return self.layer(torch.ones(1, 1))

    training = of(Fixed())
    with pytest.raises(PruningError, match="set samples"), resolve("during", NAME)(training):
        training.model().sum().backward()
        training.optimizer.step()
