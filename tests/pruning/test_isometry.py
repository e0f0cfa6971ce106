from copy import deepcopy
from math import sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning import PruningError, prune
from pruning import masks as mask_tools
from pruning.isometry import enforce_isometry, isometry_gap


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.Flatten(), nn.Linear(8, 4)
    )


def penalty(model: nn.Module, masks: dict[str, Tensor]) -> Tensor:
    """The sum of the norms as the paper writes it, for autograd."""
    total = torch.zeros(())
    for name, weight in model.named_parameters():
        if weight.ndim > 1:
            matrix = (weight * masks[name]).flatten(1)
            total = total + (matrix @ matrix.T - torch.eye(len(matrix))).norm()
    return total


def test_one_step_by_hand() -> None:
    layer = nn.Linear(2, 2, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.tensor([[2.0, 5.0], [0.0, 1.0]]))
    masks = {"weight": torch.tensor([[True, False], [False, True]])}
    # V V^T - I = diag(3, 0), norm 3; gradient 2 diag(3, 0) V / 3 = diag(4, 0); 2 - 0.1 * 4 = 1.6
    course = enforce_isometry(layer, masks, steps=1, lr=0.1)
    assert layer.weight.tolist() == [[pytest.approx(1.6), 0.0], [0.0, 1.0]]
    assert course == [pytest.approx(3.0), pytest.approx(1.6**2 - 1)]


@settings(max_examples=20)
@given(st.integers(1, 6), st.integers(1, 6), st.floats(0, 0.9), st.integers(0, 999))
def test_a_step_is_the_gradient_of_the_masked_norm(
    outputs: int, inputs: int, sparsity: float, seed: int
) -> None:
    torch.manual_seed(seed)
    model = nn.Linear(inputs, outputs, bias=False).double()
    masks = {"weight": torch.rand(outputs, inputs) > sparsity}
    mask_tools.apply(model, masks)
    reference = deepcopy(model)
    matrix = reference.weight * masks["weight"]
    gap = (matrix @ matrix.T - torch.eye(outputs)).norm()
    (gradient,) = torch.autograd.grad(gap, reference.weight)
    assert isometry_gap(model.weight) == pytest.approx(gap.item())
    course = enforce_isometry(model, masks, steps=1, lr=0.1)
    assert course[0] == pytest.approx(gap.item())
    assert torch.allclose(model.weight, reference.weight - 0.1 * gradient)


@pytest.mark.parametrize("sparsity", [0.0, 0.5, 0.8])
def test_the_masked_gram_approaches_the_identity(sparsity: float) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(*[nn.Linear(40, 40, bias=False) for _ in range(3)])
    masks = prune(model, sparsity, allocation="layerwise")
    course = enforce_isometry(model, masks, steps=600, lr=0.1)
    assert course[-1] < 0.12 * course[0]
    for layer in model:
        gram = layer.weight @ layer.weight.T
        assert (gram.diagonal() - 1).abs().mean() < 0.1
        assert torch.linalg.svdvals(layer.weight.detach()).median() == pytest.approx(1, abs=0.1)
    mask_tools.verify(model, masks)


def test_every_layer_takes_part_and_only_weights_move() -> None:
    model = network()
    before = deepcopy(model)
    masks = {"2.weight": prune(model, 0.6)["2.weight"]}
    enforce_isometry(model, masks, steps=5)
    for (name, now), (_, then) in zip(
        model.named_parameters(), before.named_parameters(), strict=True
    ):
        assert torch.equal(now, then) == name.endswith("bias"), name
    mask_tools.verify(model, masks)


def test_the_course_is_that_of_the_paper_s_penalty() -> None:
    model = network()
    masks = prune(model, 0.3)
    mask_tools.apply(model, masks)
    reference, expected = deepcopy(model), []
    for _ in range(4):
        value = penalty(reference, masks)
        expected.append(value.item())
        reference.zero_grad()
        value.backward()
        with torch.no_grad():
            for weight in reference.parameters():
                if weight.grad is not None:
                    weight -= 0.05 * weight.grad
    assert enforce_isometry(model, masks, steps=4, lr=0.05)[:4] == pytest.approx(expected)


def test_a_layer_with_more_outputs_than_inputs_ends_at_its_floor() -> None:
    torch.manual_seed(0)
    layer = nn.Conv2d(3, 64, 3, bias=False)
    course = enforce_isometry(layer, {}, steps=2000, lr=0.02)
    assert course[-1] == pytest.approx(sqrt(64 - 27), abs=0.01)


def test_a_plateau_stops_early() -> None:
    torch.manual_seed(0)
    layer = nn.Linear(20, 20, bias=False)
    course = enforce_isometry(layer, {}, steps=5000, patience=100)
    assert 100 < len(course) < 2000
    assert min(course) < 0.1 * course[0]
    assert len(enforce_isometry(nn.Linear(9, 9), {}, steps=50, patience=100)) == 51


def test_without_steps_only_the_masks_are_applied() -> None:
    model = network()
    masks = prune(model, 0.5)
    course = enforce_isometry(model, masks, steps=0)
    assert course == [pytest.approx(penalty(model, masks).item())]
    mask_tools.verify(model, masks)


def test_a_mask_under_a_tied_weight_s_second_name_holds() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    masks = {"1.weight": torch.eye(3).bool()}
    enforce_isometry(model, masks, steps=2)
    mask_tools.verify(model, masks)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(PruningError, match=r"isometry: steps 5 must not be below 0, lr 0\.0 be"):
        enforce_isometry(network(), {}, steps=5, lr=0.0)
    with pytest.raises(PruningError, match="isometry: patience 0 is not a count"):
        enforce_isometry(network(), {}, steps=5, patience=0)
    model = network()
    with torch.no_grad():
        model[2].weight[0, 0] = torch.nan
    with pytest.raises(PruningError, match=r"norm of layer '2\.weight' is nan at step 0"):
        enforce_isometry(model, {}, steps=3)
