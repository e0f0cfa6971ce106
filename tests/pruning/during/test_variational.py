"""Weights as normal distributions, against autograd."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning.during._variational import divergence_slope, output_deviation, squares


def divergence(alpha: Tensor) -> Tensor:
    """Molchanov et al. 2017, equation 14, its sign turned."""
    rise = torch.sigmoid(1.87320 + 1.48695 * alpha)
    return 0.63576 - 0.63576 * rise + 0.5 * torch.log(1 + torch.exp(-alpha))


@given(st.floats(-7.99, 7.99))
def test_the_slope_is_that_of_the_published_approximation(value: float) -> None:
    alpha = torch.tensor(value, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(divergence(alpha), alpha)
    assert divergence_slope(alpha.detach()).item() == pytest.approx(slope.item(), rel=1e-9)


def test_beyond_its_limits_nothing_pulls_and_the_ratio_is_left_as_it_was() -> None:
    alpha = torch.tensor([-9.0, -8.0, 8.0, 60.0])
    assert divergence_slope(alpha).tolist() == [0.0] * 4
    assert alpha.tolist() == [-9.0, -8.0, 8.0, 60.0]


def test_a_half_precision_mean_is_squared_in_float32() -> None:
    assert squares(torch.tensor([1e-4], dtype=torch.float16)).dtype == torch.float32
    assert squares(torch.tensor([1e-4], dtype=torch.float16)).item() == pytest.approx(
        1e-8, rel=0.01
    )
    assert squares(torch.tensor([2.0], dtype=torch.float64)).dtype == torch.float64


LAYERS = {
    "linear": (nn.Linear(3, 4), (2, 5, 3)),
    "convolution of rows": (nn.Conv1d(2, 4, 3, stride=2), (2, 2, 7)),
    "grouped, padded": (nn.Conv2d(4, 4, 3, padding=1, groups=2), (2, 4, 4, 4)),
    "padded in a circle": (nn.Conv2d(1, 2, 3, padding=2, padding_mode="circular"), (1, 1, 5, 5)),
    "of volumes": (nn.Conv3d(1, 2, 2, dilation=2), (2, 1, 3, 3, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_the_variance_of_an_output_is_that_of_a_sum_of_independent_weights(name: str) -> None:
    layer, shape = LAYERS[name]
    inputs = torch.randn(shape, generator=torch.Generator().manual_seed(1))
    log_variance = torch.randn_like(layer.weight)
    found = output_deviation(layer, inputs, log_variance)
    output = layer(inputs)
    assert found.shape == output.shape
    for value, deviation in zip(output.flatten(), found.flatten(), strict=True):
        (slope,) = torch.autograd.grad(value, layer.weight, retain_graph=True)
        expected = (slope.square() * log_variance.exp()).sum().sqrt().item()
        assert deviation.item() == pytest.approx(expected, rel=1e-4, abs=2e-4)


def test_squares_that_float16_does_not_hold_are_held() -> None:
    layer = nn.Linear(1, 1)
    with torch.autocast("cpu", dtype=torch.float16):
        found = output_deviation(layer, torch.tensor([[300.0]]), torch.zeros(1, 1))
    assert found.dtype == torch.float32
    assert found.item() == pytest.approx(300.0)
