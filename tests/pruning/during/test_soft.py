from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

from pruning import PruningError, fit, prune
from pruning import masks as mask_tools
from pruning.during.soft import soft

PUBLISHED = {
    "criterion": {"name": "lp_norm", "p": 2.0},
    "granularity": "filter",
    "allocation": "layerwise",
    "only": ["0.weight"],
}


def zero_filters(model: Any) -> list[int]:
    return [k for k, filter_ in enumerate(model[0].weight) if not filter_.any()]


def test_the_filters_of_smallest_norm_become_zero_after_each_epoch_and_train_on(runs: Any) -> None:
    model = runs.network()
    zeros: dict[int, list[int]] = {}
    norms: dict[int, Tensor] = {}

    def look(step: int, course: Any) -> None:  # noqa: ARG001
        zeros[step] = zero_filters(model)
        norms[step] = model[0].weight.detach().flatten(1).norm(dim=1)

    choose = partial(prune, **PUBLISHED)
    course = runs.run(runs.training(model, 0.5, choose=choose), "soft", look)
    # four steps an epoch, three epochs, two of four filters
    assert {step: len(found) for step, found in zeros.items() if found} == {4: 2, 8: 2, 12: 2}
    for step in (4, 8):
        assert norms[step + 1].min() > 0, "zeroed filters are updated"
    kept = course.masks["0.weight"].flatten(1).all(1)
    assert [k for k in range(4) if not kept[k]] == zeros[12]
    mask_tools.verify(model, course.masks)


def test_a_zeroed_filter_recovers_where_it_grows_beyond_another(runs: Any) -> None:
    model = runs.network()
    choose = partial(prune, **PUBLISHED)
    training = runs.training(model, 0.5, choose=choose)
    with torch.no_grad():
        model[0].weight.copy_(
            torch.tensor([1.0, 2.0, 3.0, 4.0]).view(4, 1, 1, 1).expand(4, 1, 3, 3)
        )
    with soft(training, frequency=1, unit="steps") as course:
        course.hook(1, torch.zeros(()))
        assert zero_filters(model) == [0, 1]
        with torch.no_grad():
            model[0].weight[0].add_(3.5)  # what a few steps of training could do
        course.hook(2, torch.zeros(()))
        assert zero_filters(model) == [1, 2]
    assert not course.masks["0.weight"][[1, 2]].any()
    assert course.masks["0.weight"][[0, 3]].all()


def test_the_loop_is_not_touched_between_two_zeroings(runs: Any) -> None:
    model, free = runs.network(), runs.network()
    runs.run(runs.training(model, 0.5, steps=3), {"name": "soft", "frequency": 9}, until=3)
    plain = runs.training(free, 0.5, steps=3)
    runs.run(plain, "none")
    masks = prune(free, 0.5)
    mask_tools.apply(free, masks)
    assert all(map(torch.equal, model.parameters(), free.parameters()))


@pytest.mark.parametrize("granularity", ["weight", "filter", "channel"])
def test_a_rising_share_with_any_granularity(runs: Any, granularity: str) -> None:
    shares: dict[int, float] = {}

    def look(step: int, course: Any) -> None:
        shares[step] = mask_tools.sparsity(course.masks)

    choose = partial(prune, granularity=granularity, allocation="layerwise")
    training = runs.training(runs.network(), 0.5, choose=choose)
    runs.run(training, {"name": "soft", "schedule": "linear"}, look)
    assert shares[3] == 0 <= shares[4] <= shares[8] <= shares[12]
    assert shares[12] == pytest.approx(0.5, abs=0.15)


@pytest.mark.parametrize("stop", [2, 4, 7])
def test_a_resumed_run_ends_with_the_same_bits(runs: Any, stop: int) -> None:
    whole, part = (runs.training(runs.network(), 0.5) for _ in range(2))
    expected = runs.run(whole, "soft")
    saved: dict[str, Any] = {}

    def checkpoint(step: int, loss: Tensor) -> None:  # noqa: ARG001
        if step == stop:
            saved["model"] = deepcopy(part.model.state_dict())
            saved["optimizer"] = deepcopy(part.optimizer.state_dict())
            saved["state"] = course.state()

    with soft(part) as course:
        hooks = [course.hook, checkpoint]
        fit(part.model, runs.batches(), part.optimizer, runs.loss, steps=12, hooks=hooks)
    rest = runs.training(runs.network(3), 0.5, start=stop, state=saved["state"])
    rest.model.load_state_dict(saved["model"])
    rest.optimizer.load_state_dict(saved["optimizer"])
    found = runs.run(rest, "soft")
    assert all(map(torch.equal, rest.model.parameters(), whole.model.parameters()))
    assert all(torch.equal(found.masks[name], mask) for name, mask in expected.masks.items())


@pytest.mark.parametrize("stop", [11, 12])
def test_the_last_choice_is_made_once(runs: Any, stop: int) -> None:
    calls = []

    def draw(_: Any, sparsity: float, *, allow_regrowth: bool) -> dict[str, Tensor]:
        assert allow_regrowth
        calls.append(sparsity)
        return {"0.weight": torch.rand(4, 1, 1, 1).expand(4, 1, 3, 3) > 0.5}

    training = runs.training(runs.network(), 0.5, choose=draw)
    course = runs.run(training, "soft", until=stop)
    assert calls == [0.5] * 3
    kept = training.model[0].weight[course.masks["0.weight"]]
    assert kept.all()


def test_a_period_under_a_step_is_refused(runs: Any) -> None:
    with pytest.raises(PruningError, match=r"soft: every 0\.1 epochs is less than one step"):
        runs.run(runs.training(runs.network()), {"name": "soft", "frequency": 0.1})
