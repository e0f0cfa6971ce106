"""Bad input to shrinking is named, in one line."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from pruning.coupling.choosing import group_masks
from pruning.coupling.groups import channels
from pruning.coupling.scoring import whole
from pruning.errors import PruningError
from pruning.shrinking.budget import sparsity_for
from pruning.shrinking.check import relative_difference
from pruning.shrinking.rebuild import apply_plan
from pruning.shrinking.shrink_network import shrink, shrink_plan
from tests.pruning import channel_zoo as zoo


@contextmanager
def refused(model: nn.Module, message: str) -> Iterator[None]:
    """Expect a refusal in one line that leaves the model, in training, as it was."""
    model.train()
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(PruningError, match=message) as caught:
        yield
    assert "\n" not in str(caught.value)
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    for module in model.modules():
        assert module.training and not module._forward_hooks and not module._forward_pre_hooks


def mlp() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 6, bias=False), nn.ReLU(), nn.Linear(6, 2))


def rows(model: nn.Module, name: str, gone: list[int]) -> dict[str, torch.Tensor]:
    mask = torch.ones_like(model.get_parameter(name), dtype=torch.bool)
    mask[gone] = False
    return {name: mask}


X = torch.randn(3, 4)


@pytest.mark.parametrize(
    ("masks", "message"),
    [
        ({"conv.weight": torch.ones(2, 2, dtype=torch.bool)}, "no parameter 'conv.weight'"),
        ({"0.weight": torch.ones(6, 5, dtype=torch.bool)}, r"'0.weight' has shape \(6, 5\)"),
        ({"0.weight": torch.ones(6, 4)}, "expected torch.bool"),
        ({"0.weight": torch.zeros(6, 4, dtype=torch.bool)}, "layer 0.weight is masked whole"),
    ],
)
def test_masks_that_do_not_fit(masks, message):
    model = mlp()
    with refused(model, message):
        shrink(model, masks, X)


@pytest.mark.parametrize("known", [False, True], ids=["groups searched", "groups given"])
@pytest.mark.parametrize(
    ("inputs", "message"),
    [
        (torch.randn(3, 5), r"example inputs \[\(3, 5\)\] do not run through Sequential: Runtime"),
        (torch.zeros(3, 4, device="meta"), "example inputs are on meta, the model is on cpu"),
    ],
)
def test_inputs_that_do_not_fit(inputs, message, known):
    model = mlp()
    groups = channels(model, X) if known else None
    with refused(model, message):
        shrink(model, rows(model, "0.weight", [1]), inputs, groups=groups)
    with refused(model, message):
        sparsity_for(model, inputs, lambda _: {}, macs=0.5, groups=groups)


def test_a_batch_of_one_through_a_norm_of_a_model_in_training_is_no_error():
    model = nn.Sequential(nn.Linear(4, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 2)).train()
    groups = channels(model, X[:1])
    scores = {"0.weight": torch.arange(6.0)[:, None]}
    options = {"macs": 0.5, "groups": groups}
    assert sparsity_for(model, X[:1], lambda s: group_masks(scores, groups, s), **options) < 0.6


def test_control_flow_that_depends_on_values():
    class Branching(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x) if x.sum() > 0 else self.b(-x)

    model = Branching()
    with refused(model, "Branching cannot be exported.*stays masked"):
        shrink(model, rows(model, "a.weight", [1]), X)


def test_scores_and_masks_of_another_network_than_the_groups():
    groups = channels(mlp(), X)
    with pytest.raises(PruningError, match="without a parameter 'conv"):
        group_masks({"conv.weight": torch.ones(6, 1)}, groups, 0.5)
    with pytest.raises(PruningError, match="without a parameter 'conv"):
        whole({"conv.weight": torch.ones(6, 4, dtype=torch.bool)}, groups)


def test_a_layer_of_which_nothing_is_read_has_collapsed():
    mask = torch.ones(6, 4, dtype=torch.bool)
    mask[:3] = False
    columns = torch.ones(2, 6, dtype=torch.bool)
    columns[:, 3:] = False
    with pytest.raises(PruningError, match=r"layer '0.weight' loses all of its 6 channels"):
        shrink(mlp(), {"0.weight": mask, "2.weight": columns}, X)


def test_a_senseless_multiple():
    with pytest.raises(PruningError, match="round_to 0"):
        shrink(mlp(), {}, X, round_to=0)


def test_a_forward_whose_result_depends_on_the_number_of_channels():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

        def forward(self, x):
            x = self.a(x)
            return self.b(x / x.shape[1])

    model = Scaled()
    with refused(model, r"the shrunk Scaled differs .* times what is allowed"):
        shrink(model, rows(model, "a.weight", [1, 2]), X)


def test_a_forward_that_insists_on_its_width():
    class Strict(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b = nn.Linear(4, 6, bias=False), nn.Linear(6, 2)

        def forward(self, x):
            x = self.a(x)
            if x.shape[1] != 6:
                raise ValueError("six, please")
            return self.b(x)

    model = Strict()
    with refused(model, r"does not run on fewer channels.*six, please"):
        shrink(model, rows(model, "a.weight", [1, 2]), X)


def test_a_plan_of_another_model_is_refused():
    model = zoo.build("pre_activation")
    masks = rows(model, "conv1.weight", [0, 1])
    masks |= {name: torch.arange(6) > 1 for name in ("bn2.weight", "bn2.bias")}
    plan = shrink_plan(model, masks, zoo.example("pre_activation"))
    assert plan["kept"]["conv2.weight"] == {"1": [2, 3, 4, 5]}
    with pytest.raises(PruningError, match="Sequential has no parameter or buffer"):
        apply_plan(mlp(), plan)
    with pytest.raises(PruningError, match="format 3, expected 1"):
        apply_plan(mlp(), plan | {"format": 3})
    with pytest.raises(PruningError, match=r"positions up to 9 of dimension 1 .* is \(6, 4\)"):
        apply_plan(mlp(), {"format": 1, "kept": {"0.weight": {"1": [0, 9]}}, "modules": {}})
    with pytest.raises(PruningError, match="Sequential has no module 'bn1'"):
        apply_plan(mlp(), {"format": 1, "kept": {}, "modules": {"bn1": {"select": [0]}}})


def test_differences_are_relative_to_the_largest_value():
    one = torch.tensor([3.0, -4.0])
    assert relative_difference(one, one + torch.tensor([0.0, 0.02])) == pytest.approx(0.005)
    assert relative_difference(one, torch.tensor([3.0, torch.nan])) == float("inf")
    nans = torch.tensor([2.0, torch.nan])
    assert relative_difference(nans, nans.clone()) == 0.0
    assert relative_difference(torch.zeros(2), torch.full((2,), 1e-30)) == float("inf")
    assert relative_difference(torch.tensor([1, 2]), torch.tensor([1, 3])) == float("inf")
