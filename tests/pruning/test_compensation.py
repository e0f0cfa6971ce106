"""What kept weights do when others go: by hand, against plain least squares, on every geometry."""

import copy

import pytest
import torch
from torch import Tensor, nn

from pruning import Evidence, PruningError, classification, prune, score
from pruning.compensation import l_obs
from pruning.masks import apply

ROWS = torch.tensor([[1.0, 1.0], [1.0, 0.0]])
"""H = ((1, 1/2), (1/2, 1/2)), of determinant 1/4, and H^-1 = ((2, -2), (-2, 4))."""


def line(weights: list[list[float]], bias: list[float] | None = None) -> nn.Linear:
    layer = nn.Linear(len(weights[0]), len(weights), bias=bias is not None)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(weights))
        if bias is not None:
            layer.bias.copy_(torch.tensor(bias))
    return layer


def evidence(*batches: Tensor) -> Evidence:
    return Evidence(batches, lambda model, batch: model(batch).sum(), lambda batch: (batch,))


def masked(*kept: list[bool]) -> dict[str, Tensor]:
    return {"weight": torch.tensor(kept)}


def pruned(model: nn.Module, masks: dict[str, Tensor], seen: Evidence, **settings) -> nn.Module:
    """Return a copy of `model` that is compensated and pruned."""
    result = copy.deepcopy(model)
    result.load_state_dict(l_obs(model, masks, seen, **settings), strict=False)
    apply(result, masks)
    return result


def test_a_score_is_half_the_squared_weight_over_the_diagonal_of_the_inverse():
    found = score(
        line([[2.0, -3.0]]), {"name": "l_obs", "damping": 0}, evidence=evidence(ROWS[:1], ROWS[1:])
    )
    assert found["weight"].flatten().tolist() == pytest.approx([4 / 4, 9 / 8])


def test_damping_is_in_units_of_the_mean_of_the_diagonal():
    # mean 3/4, so 1/4 is added: ((5/4, 1/2), (1/2, 3/4)) of determinant 11/16
    found = score(
        line([[2.0, -3.0]]), {"name": "l_obs", "damping": 1 / 3}, evidence=evidence(ROWS)
    )["weight"]
    assert found.flatten().tolist() == pytest.approx(
        [4 / 2 / (3 / 4 * 16 / 11), 9 / 2 / (5 / 4 * 16 / 11)]
    )


def test_a_bias_is_the_weight_of_a_constant_input():
    # one input x in {0, 2} and 1: H = ((2, 1), (1, 1)), H^-1 = ((1, -1), (-1, 2))
    layer, seen = line([[3.0]], [4.0]), evidence(torch.tensor([[0.0], [2.0]]))
    exact = {"name": "l_obs", "damping": 0}
    found = score(layer, exact, evidence=seen, only=["*"])
    assert found["weight"].item() == pytest.approx(9 / 2)
    assert found["bias"].item() == pytest.approx(16 / 4)
    # without its weight it gives the mean of its outputs, 4 and 10
    without = pruned(layer, masked([False]), seen, damping=0)
    assert without.weight.item() == 0 and without.bias.item() == pytest.approx(7)
    # without its bias: the slope through zero that is nearest to (2, 10)
    masks = {"weight": torch.tensor([[True]]), "bias": torch.tensor([False])}
    through_zero = pruned(layer, masks, seen, damping=0)
    assert through_zero.bias.item() == 0 and through_zero.weight.item() == pytest.approx(5)


def test_one_weight_goes_as_in_the_paper_s_formula():
    # -w_q / [H^-1]_qq H^-1 e_q: of q = 2, 3 / 4 (-2, 4) = (-3/2, 3); of q = 1, -2 / 2 (2, -2)
    layer = line([[2.0, -3.0], [2.0, -3.0], [2.0, -3.0], [2.0, -3.0]])
    masks = masked([True, False], [False, True], [True, True], [False, False])
    found = l_obs(layer, masks, evidence(ROWS), damping=0)["weight"]
    assert found[0].tolist() == pytest.approx([0.5, 0.0])
    assert found[1].tolist() == pytest.approx([0.0, -1.0])
    assert found[2].tolist() == [2.0, -3.0] and found[3].tolist() == [0.0, 0.0]


def squared_error(model: nn.Module, dense: nn.Module, inputs: Tensor) -> float:
    with torch.no_grad():
        return float((model(inputs) - dense(inputs)).square().sum())


LAYERS = {
    "linear": (lambda: nn.Linear(12, 7), (3, 40, 12)),
    "no bias": (lambda: nn.Linear(12, 7, bias=False), (60, 12)),
    "conv1d": (lambda: nn.Conv1d(3, 4, 5, padding=2, padding_mode="circular"), (5, 3, 20)),
    "conv2d": (lambda: nn.Conv2d(3, 5, (3, 2), stride=2, padding=1, dilation=2), (6, 3, 11, 9)),
    "same": (lambda: nn.Conv2d(2, 3, 4, padding="same", padding_mode="reflect"), (4, 2, 8, 8)),
    "grouped": (lambda: nn.Conv2d(6, 4, 3, groups=2), (4, 6, 7, 7)),
    "depthwise": (lambda: nn.Conv2d(4, 8, 3, groups=4, bias=False), (4, 4, 7, 7)),
    "conv3d": (lambda: nn.Conv3d(2, 3, 2, padding=1), (3, 2, 4, 4, 4)),
    "one image": (lambda: nn.Conv2d(3, 4, 3), (3, 9, 9)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_no_other_kept_weights_are_nearer_to_the_outputs_of_before(name):
    torch.manual_seed(1)
    layer, shape = LAYERS[name][0]().double(), LAYERS[name][1]
    inputs = torch.randn(shape, dtype=torch.float64).cumsum(-1)  # neighbours are alike
    masks = prune(layer, 0.6, criterion="random")
    best = pruned(layer, masks, evidence(inputs), damping=1e-9)
    least = squared_error(best, layer, inputs)
    plain = copy.deepcopy(layer)
    apply(plain, masks)
    assert least < 0.95 * squared_error(plain, layer, inputs)
    for seed in range(3):
        moved, noise = copy.deepcopy(best), torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in moved.parameters():
                step = torch.randn(parameter.shape, generator=noise, dtype=torch.float64)
                parameter.add_(1e-3 * step)
        apply(moved, masks)
        assert squared_error(moved, layer, inputs) > least


def test_rows_that_are_solved_together_and_alone_agree(monkeypatch):
    torch.manual_seed(2)
    layer, inputs = nn.Linear(30, 20).double(), torch.randn(90, 30, dtype=torch.float64)
    masks = prune(layer, 0.5, criterion="random")
    together = l_obs(layer, masks, evidence(inputs))
    monkeypatch.setattr("pruning.compensation.ROOM", 1)
    alone = l_obs(layer, masks, evidence(inputs))
    assert all(torch.allclose(together[name], alone[name]) for name in together)


def test_the_patches_of_a_large_batch_are_looked_at_in_parts(monkeypatch):
    torch.manual_seed(3)
    layer, inputs = nn.Conv2d(2, 3, 3), torch.randn(7, 2, 9, 9)
    whole = score(layer, "l_obs", evidence=evidence(inputs))["weight"]
    monkeypatch.setattr("pruning.layer_hessians.ROOM", 2000)
    assert torch.allclose(score(layer, "l_obs", evidence=evidence(inputs))["weight"], whole)


def images(examples: int = 64) -> Evidence:
    torch.manual_seed(5)
    return classification([(torch.randn(examples, 3, 6, 6), torch.randint(4, (examples,)))])


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Dropout(0.5)),
        *(nn.Flatten(), nn.Linear(128, 4)),
    )


def test_the_model_and_what_loses_nothing_are_left_as_they_were():
    model = network()
    before = copy.deepcopy(model)
    masks, seen = prune(model, 0.5, criterion="l_obs", evidence=images()), images()
    noise = torch.random.get_rng_state()
    masks["0.weight"][:] = True
    masks["5.weight"][1] = True
    found = l_obs(model, masks, seen)
    assert torch.equal(torch.random.get_rng_state(), noise)
    assert {*found} == {"5.weight", "5.bias"}
    assert found["5.weight"].dtype == torch.float32
    assert not found["5.weight"][~masks["5.weight"]].any()
    assert torch.equal(found["5.weight"][1], model[5].weight[1])
    assert found["5.bias"][1] == model[5].bias[1] and found["5.bias"][0] != model[5].bias[0]
    for name, value in before.state_dict().items():
        assert torch.equal(model.state_dict()[name], value)
    assert model.training and not any(module._forward_pre_hooks for module in model.modules())
    everything = {name: torch.ones_like(mask) for name, mask in masks.items()}
    assert l_obs(model, everything, images()) == {}


def test_weights_pruned_before_change_nothing_again():
    torch.manual_seed(6)
    layer, inputs = nn.Linear(10, 6), torch.randn(50, 10)
    masks = prune(layer, 0.5)
    once = pruned(layer, masks, evidence(inputs))
    twice = l_obs(once, masks, evidence(inputs))
    assert torch.equal(twice["weight"], once.weight) and torch.equal(twice["bias"], once.bias)


def test_a_weight_that_two_layers_share_answers_to_the_inputs_of_both():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = line([[2.0, -3.0]]), line([[0.0, 0.0]])
            self.second.weight = self.first.weight

        def forward(self, rows: Tensor) -> Tensor:
            return self.first(rows[:1]) + self.second(rows[1:])

    found = score(Twice(), {"name": "l_obs", "damping": 0}, evidence=evidence(ROWS))
    assert found["first.weight"].flatten().tolist() == pytest.approx([1, 9 / 8])


def test_a_bias_that_layers_of_other_weights_share_stays_and_is_no_input():
    torch.manual_seed(8)
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4))
    model[1].bias = model[0].bias
    inputs = torch.randn(30, 4)
    found = l_obs(model, prune(model, 0.5, allocation="layerwise"), evidence(inputs))
    assert {*found} == {"0.weight", "1.weight"}
    alone = nn.Linear(4, 4, bias=False)
    alone.weight = model[0].weight
    masks = {"weight": prune(model, 0.5, allocation="layerwise")["0.weight"]}
    assert torch.equal(l_obs(alone, masks, evidence(inputs))["weight"], found["0.weight"])


def test_a_layer_whose_weight_is_computed_is_no_hindrance_to_others():
    computed = nn.utils.parametrizations.spectral_norm(nn.Linear(2, 2))
    model, seen = nn.Sequential(line([[2.0, -3.0], [1.0, 0.0]]), computed), evidence(ROWS)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    masks = prune(model, 0.5, criterion="l_obs", evidence=seen, only=["0.*"])
    assert {*l_obs(model, masks, seen)} == {"0.weight"}
    for name, value in model.state_dict().items():
        assert torch.equal(value, before[name])
    with pytest.raises(
        PruningError, match=r"layer '1\.\S*' belongs to \w+; it looks at the inputs"
    ):
        score(model, "l_obs", evidence=seen, only=["1.*"])


def test_dead_inputs_cost_nothing_and_fail_nothing():
    layer = line([[2.0, 1.0, -3.0]])
    inputs = torch.cat([torch.zeros(2, 1), ROWS], 1)
    found = score(layer, "l_obs", evidence=evidence(inputs))["weight"][0]
    assert found[0] < 1e-4 < found[1:].min()
    nothing = line([[2.0, 1.0]])
    assert score(nothing, "l_obs", evidence=evidence(torch.zeros(4, 2)))["weight"].gt(0).all()


class Idle(nn.Module):
    """A network with a layer that nothing passes through."""

    def __init__(self) -> None:
        super().__init__()
        self.used, self.idle = nn.Linear(2, 2), nn.Linear(2, 2)

    def forward(self, rows: Tensor) -> Tensor:
        return self.used(rows)


@pytest.mark.parametrize(
    ("model", "settings", "message"),
    [
        (nn.LSTM(2, 3), {}, r"layer 'weight_ih_l0' belongs to LSTM; it looks at the inputs of Lin"),
        (nn.ConvTranspose1d(2, 3, 1), {}, r"layer 'weight' belongs to ConvTranspose1d"),
        (Idle(), {}, r"layer 'idle.weight' read nothing: skip the layer"),
        (line([[1.0, 2.0]]), {"damping": -1.0}, r"damping -1\.0 is not a number of at least 0"),
        (line([[1.0, 2.0]]), {"batches": 0}, r"batches 0 is not a count of at least 1"),
        (line([[1.0, 2.0]]), {"damping": 0}, r"'weight': the Hessian cannot be inverted: raise d"),
        (line([[1.0]]), {}, r"cannot {doing} Linear: mat1 and mat2 shapes"),
    ],
)
def test_what_cannot_be_is_told_in_one_line(model, settings, message):
    seen = evidence(torch.ones(4, 2))
    of_score, of_change = (message.replace("{doing}", verb) for verb in ("score", "correct"))
    with pytest.raises(PruningError, match=f"^criterion 'l_obs'.*{of_score}") as told:
        score(model, {"name": "l_obs", **settings}, evidence=seen)
    assert "\n" not in str(told.value)
    masks = {
        name: torch.zeros_like(parameter, dtype=torch.bool)
        for name, parameter in model.named_parameters()
        if parameter.ndim > 1
    }
    if "inverted" not in message:  # with nothing kept there is nothing to invert
        with pytest.raises(PruningError, match=f"^compensation 'l_obs'.*{of_change}"):
            l_obs(model, masks, seen, **settings)


def test_no_evidence_is_an_error():
    with pytest.raises(PruningError, match=r"^criterion 'l_obs' needs data"):
        prune(line([[1.0]]), 0.5, criterion="l_obs")


def test_a_trained_network_stands_it_where_plain_magnitude_breaks():
    torch.manual_seed(7)
    teacher = nn.Sequential(nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 5))
    inputs = torch.randn(600, 4) @ torch.randn(4, 20) + 0.1 * torch.randn(600, 20)
    masks = prune(teacher, 0.7, allocation="layerwise")
    plain = copy.deepcopy(teacher)
    apply(plain, masks)
    better = pruned(teacher, masks, evidence(inputs))
    assert squared_error(better, teacher, inputs) < 0.3 * squared_error(plain, teacher, inputs)
