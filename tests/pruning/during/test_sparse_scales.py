from typing import Any

import pytest
import torch
from torch import nn

from pruning import PruningError, fit, prune
from pruning import masks as mask_tools
from pruning.during.sparse_scales import slimming


def scales(model: Any) -> Any:
    return model[1].weight


def test_the_penalty_by_hand(runs: Any) -> None:
    model = runs.network()
    with torch.no_grad():
        scales(model).copy_(torch.tensor([2.0, -1.0, 0.0, 0.5]))
    training = runs.training(
        model, optimizer=torch.optim.SGD(model.parameters(), lr=1.0, momentum=0.9)
    )
    with slimming(training, strength=0.25):
        for parameter in model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        training.optimizer.step()
    assert scales(model).tolist() == [1.75, -0.75, 0.0, 0.25]
    assert model[1].bias.tolist() == [0.0] * 4


def test_it_is_added_once_a_step_whatever_the_number_of_backward_passes(runs: Any) -> None:
    model = runs.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    with slimming(runs.training(model, optimizer=optimizer), strength=0.5, scale=0.5):
        assert scales(model).tolist() == [0.5] * 4
        for _ in range(3):
            (0.0 * scales(model).sum()).backward()
        optimizer.step()
        assert scales(model).tolist() == [0.0] * 4


def test_scales_become_sparser_than_without(runs: Any) -> None:
    sums = []
    for strength in (0.0, 0.1):
        training = runs.training(runs.network(), steps=40)
        runs.run(training, {"name": "slimming", "strength": strength})
        sums.append(scales(training.model).abs().sum().item())
    assert sums[1] < 0.8 * sums[0]


def test_masks_are_held(runs: Any) -> None:
    model = runs.network()
    masks = prune(model, 0.5)
    training = runs.training(model, masks=masks)
    course = runs.run(training, "slimming", lambda *_: mask_tools.verify(model, masks))
    assert all(torch.equal(course.masks[name], mask) for name, mask in masks.items())


def test_clipping_and_loss_scaling_do_not_touch_the_penalty(runs: Any) -> None:
    found = []
    for precision in ("float32", "float16"):
        model = runs.network()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        with slimming(runs.training(model, optimizer=optimizer), strength=0.125, scale=0.5):
            fit(
                model,
                runs.batches(),
                optimizer,
                lambda m, b: 0.0 * runs.loss(m, b),
                steps=2,
                clip=1e-3,
                precision=precision,
            )
        found.append(scales(model).tolist())
    assert found == [[0.25] * 4] * 2


def test_a_fused_optimizer_that_undoes_the_loss_scale_itself_gets_a_scaled_penalty(
    runs: Any,
) -> None:
    model = runs.network()
    optimizer = torch.optim.SGD(model.parameters(), lr=1.0, fused=True)
    with slimming(runs.training(model, optimizer=optimizer), strength=0.25):
        scales(model).grad = torch.zeros(4)
        optimizer.grad_scale, optimizer.found_inf = torch.tensor(8.0), torch.tensor(0.0)
        optimizer.step()
    assert scales(model).tolist() == [0.75] * 4


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.Sequential(nn.Linear(2, 2)), {}, "slimming: Sequential has no BatchNorm layer with"),
        (nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2, affine=False)), {}, "no BatchNorm"),
        (None, {"strength": -1.0}, r"slimming: strength -1\.0 is not at least 0"),
    ],
)
def test_bad_input_is_refused(runs: Any, model: Any, settings: Any, message: str) -> None:
    training = runs.training(model or runs.network())
    with pytest.raises(PruningError, match=message), slimming(training, **settings):
        pass


def test_nothing_stays_behind(runs: Any) -> None:
    model = runs.network()
    training = runs.training(model)
    with slimming(training, strength=0.5):
        pass
    before = scales(model).clone()
    scales(model).grad = torch.zeros(4)
    model[0].weight.grad = None
    torch.optim.SGD([scales(model)], lr=1.0).step()
    training.optimizer.param_groups[0]["weight_decay"] = 0.0
    training.optimizer.step()
    assert torch.equal(scales(model), before)
