"""Bad input to shrinking is named, in one line."""

import pytest
import torch
from torch import nn

from pruning.errors import PruningError
from pruning.shrinking.check import relative_difference
from pruning.shrinking.rebuild import apply_plan
from pruning.shrinking.shrink_network import shrink, shrink_plan
from tests.pruning import channel_zoo as zoo


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
    with pytest.raises(PruningError, match=message) as caught:
        shrink(mlp(), masks, X)
    assert "\n" not in str(caught.value)


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
    with pytest.raises(PruningError, match=r"the shrunk Scaled differs .* times what is allowed"):
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
    with pytest.raises(PruningError, match=r"does not run on fewer channels.*six, please"):
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
