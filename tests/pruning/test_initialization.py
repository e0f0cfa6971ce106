from contextlib import nullcontext
from functools import partial
from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses import FakeTensorMode

from pruning import PruningError, catalogue, prune, reinitialise
from pruning import masks as mask_tools
from pruning.initialization import delta_orthogonal, kaiming, orthogonal, own, variance_scaling
from pruning.layouts import Layout
from pruning.reinitialisation import scale_to_kept_fan_in
from pruning.shrinking.attention import FewerHeads

CONVOLUTION = (300, 80, 3, 3)
FANS = {"in": 80 * 9, "out": 300 * 9, "avg": (80 + 300) * 9 / 2}


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn(function: Any, shape: tuple[int, ...], **settings: Any) -> Tensor:
    weight = torch.full(shape, torch.nan)
    function(weight, generator(), **settings)
    return weight


@pytest.mark.parametrize("fan", sorted(FANS))
@pytest.mark.parametrize("distribution", ["normal", "truncated", "uniform"])
@pytest.mark.parametrize("scale", [1.0, 2.0])
def test_the_variance_of_a_large_layer(fan: str, distribution: str, scale: float) -> None:
    weight = drawn(variance_scaling, CONVOLUTION, scale=scale, fan=fan, distribution=distribution)
    deviation = sqrt(scale / FANS[fan])
    # 216,000 weights: the standard error of mean and deviation is 0.2 % of the deviation
    assert abs(weight.mean()) < 0.01 * deviation
    assert weight.std().item() == pytest.approx(deviation, rel=0.01)
    standard = (weight / deviation).flatten()
    limits = {"normal": 4.0, "truncated": 2 / 0.87962566, "uniform": sqrt(3)}
    least, most = {"normal": (3.9, 6.0)}.get(
        distribution, (0.99 * limits[distribution], 1.0001 * limits[distribution])
    )
    assert least < standard.abs().max() < most
    kurtosis = {"normal": 3.0, "truncated": 2.37, "uniform": 1.8}[distribution]
    assert standard.pow(4).mean().item() == pytest.approx(kurtosis, abs=0.06)


def test_fans_of_a_matrix_and_kaiming() -> None:
    assert drawn(variance_scaling, (50, 2000)).std().item() == pytest.approx(
        sqrt(1 / 2000), rel=0.01
    )
    assert drawn(variance_scaling, (50, 2000), fan="out").std().item() == pytest.approx(
        sqrt(1 / 50), rel=0.01
    )
    assert drawn(kaiming, CONVOLUTION).std().item() == pytest.approx(sqrt(2 / FANS["in"]), rel=0.01)


@settings(max_examples=20)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from([(), (3, 3), (1, 5)]))
def test_the_fewer_of_rows_and_columns_are_orthonormal(
    outputs: int, inputs: int, field: tuple[int, ...]
) -> None:
    matrix = drawn(orthogonal, (outputs, inputs, *field)).flatten(1)
    gram = matrix @ matrix.T if outputs <= matrix.shape[1] else matrix.T @ matrix
    assert torch.allclose(gram, torch.eye(len(gram)), atol=1e-5)


@pytest.mark.parametrize("shape", [(512, 512), (256, 128, 3, 3), (64, 784)])
def test_orthogonality_of_large_layers_to_1e_5(shape: tuple[int, ...]) -> None:
    matrix = drawn(orthogonal, shape, gain=2.0).flatten(1) / 2
    assert (matrix @ matrix.T - torch.eye(shape[0])).abs().max() < 1e-5


@pytest.mark.parametrize("shape", [(64, 16, 3, 3), (16, 16, 5), (8, 3, 1, 3, 3)])
def test_delta_orthogonal_convolutions_keep_norms(shape: tuple[int, ...]) -> None:
    weight = drawn(delta_orthogonal, shape)
    sizes = shape[2:]
    convolve = {1: nn.functional.conv1d, 2: nn.functional.conv2d, 3: nn.functional.conv3d}
    signal = torch.randn(2, shape[1], *[6] * len(sizes), generator=generator(1))
    passed = convolve[len(sizes)](signal, weight, padding=[size // 2 for size in sizes])
    assert torch.allclose(passed.norm(dim=1), signal.norm(dim=1), rtol=1e-4)
    flat = weight.flatten(2)
    middle = flat.shape[2] // 2
    centre = flat[:, :, middle]
    assert (centre.T @ centre - torch.eye(shape[1])).abs().max() < 1e-5
    assert flat.count_nonzero() == centre.count_nonzero()


def test_delta_orthogonal_of_a_matrix_is_orthogonal() -> None:
    assert torch.equal(drawn(delta_orthogonal, (4, 9)), drawn(orthogonal, (4, 9)))


@pytest.mark.parametrize(
    ("function", "shape", "settings", "message"),
    [
        (delta_orthogonal, (3, 4, 3, 3), {}, "inputs <= outputs, not 4 > 3"),
        (delta_orthogonal, (4, 4, 2, 2), {}, r"a kernel of \[2, 2\] has not"),
        (variance_scaling, (4, 4), {"fan": "up"}, "unknown fan 'up'; choose from in, out, avg"),
        (variance_scaling, (4, 4), {"distribution": "t"}, "unknown distribution 't'; choose from"),
        (variance_scaling, (4, 4), {"scale": 0.0}, r"scale 0\.0 of the variance is not above 0"),
        (variance_scaling, (4,), {}, r"shape \(4,\) has no fan"),
    ],
)
def test_what_cannot_be_drawn(
    function: Any, shape: tuple[int, ...], settings: Any, message: str
) -> None:
    with pytest.raises(PruningError, match=message):
        drawn(function, shape, **settings)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8, 400), nn.Linear(400, 5)
    )


def test_every_initialization_of_the_catalogue_suits_a_network() -> None:
    for name, entry in catalogue.entries("initialization").items():
        first, second, other = network(), network(), network()
        for model, seed in ((first, 1), (second, 1), (other, 2)):
            reinitialise(model, entry.load(), generator=generator(seed))
        weights = [dict(m.named_parameters())["3.weight"] for m in (first, second, other)]
        assert torch.equal(weights[0], weights[1]), name
        assert not torch.equal(weights[0], weights[2]), name
        assert not torch.equal(weights[0], network()[3].weight), name


def test_reinitialisation_leaves_the_global_generator_alone_and_resets_the_rest() -> None:
    model = network()
    with torch.no_grad():
        model[1].weight.fill_(7.0)
        model[3].bias.fill_(7.0)
    state = torch.random.get_rng_state()
    reinitialise(model, own, generator=generator())
    assert torch.equal(torch.random.get_rng_state(), state)
    assert model[1].weight.tolist() == [1.0] * 8
    assert model[3].bias.abs().max() <= 1 / sqrt(8)


def test_masks_scale_every_output_to_its_kept_fan_in() -> None:
    model = network()
    masks = prune(model, 0.9, criterion="random", only=["4.weight"])
    full = partial(variance_scaling, distribution="normal")
    reinitialise(model, full, generator=generator(), masks=masks)
    mask_tools.verify(model, masks)
    assert (~model[4].weight[masks["4.weight"]].bool()).sum() == 0
    kept = masks["4.weight"].sum(1)
    # 5 outputs of about 40 weights with variance 1 / kept: the sums of squares are 1 on average
    sums = model[4].weight.detach().square().sum(1)
    assert sums.mean().item() == pytest.approx(1.0, abs=0.3)
    plain = network()
    reinitialise(plain, full, generator=generator())
    expected = plain[4].weight * masks["4.weight"] * (400 / kept).sqrt()[:, None]
    assert torch.allclose(model[4].weight, expected)
    assert torch.equal(model[3].weight, plain[3].weight)


def test_an_output_that_lost_everything_stays_zero() -> None:
    weight = torch.ones(2, 3, 1, 1)
    scale_to_kept_fan_in(weight, torch.tensor([False, True]).view(2, 1, 1, 1).expand(2, 3, 1, 1))
    assert weight.flatten(1).tolist() == [[0.0] * 3, [1.0] * 3]


def test_transposed_convolutions_have_their_fan_in_along_dimension_0() -> None:
    mask = torch.tensor([[1, 1, 1], [0, 1, 1], [0, 1, 0], [0, 1, 0]]).bool().view(4, 3, 1)
    model = nn.ConvTranspose1d(4, 3, 1)
    reinitialise(model, lambda w, _: w.fill_(1), generator=generator(), masks={"weight": mask})
    assert model.weight.sum(0).flatten().tolist() == [2.0, 4.0, pytest.approx(2 * sqrt(2))]
    # two groups of two inputs each: of the first an output keeps one, of the second both
    halves = torch.ones(4, 1)
    kept = torch.tensor([[True], [False], [True], [True]])
    scale_to_kept_fan_in(halves, kept, Layout(output=1, input=0, groups=2))
    assert halves.flatten().tolist() == [pytest.approx(sqrt(2)), 0.0, 1.0, 1.0]


def test_a_masked_bias_is_not_scaled() -> None:
    model = nn.Linear(2, 3)
    masks = {"bias": torch.tensor([True, False, True])}
    plain = nn.Linear(2, 3)
    reinitialise(plain, own, generator=generator())
    reinitialise(model, own, generator=generator(), masks=masks)
    assert torch.equal(model.bias, plain.bias * masks["bias"])


@pytest.mark.parametrize("fewer", [False, True])
def test_attention_is_reset_as_it_is_made(fewer: bool) -> None:
    model = nn.MultiheadAttention(4, 2)
    if fewer:
        FewerHeads.take_over(model, 2, 2)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7.0)
    reinitialise(model, own, generator=generator())
    assert model.in_proj_weight.abs().max() <= sqrt(6 / (12 + 4))  # Xavier's bound
    assert model.in_proj_bias.tolist() == [0.0] * 12
    assert model.out_proj.bias.tolist() == [0.0] * 4
    assert model.out_proj.weight.abs().max() <= 0.5


def test_a_network_on_another_device_is_drawn_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    forked, seen = [], []

    def fork(devices: list[torch.device]) -> nullcontext[None]:
        forked.extend(devices)
        return nullcontext()

    with FakeTensorMode():
        model = nn.Linear(3, 2, device="cuda")
    monkeypatch.setattr(torch.random, "fork_rng", fork)
    monkeypatch.setattr(torch, "manual_seed", torch.Generator().manual_seed)
    reinitialise(model, lambda w, _: seen.append(w.device.type), generator=generator())
    assert (forked, seen) == ([torch.device("cuda", 0)], ["cpu"])


def test_the_layer_that_an_initialization_does_not_suit_is_named() -> None:
    narrowing = nn.Sequential(nn.Conv2d(2, 4, 3), nn.Conv2d(4, 2, 3))
    with pytest.raises(PruningError, match=r"layer '1\.weight': delta_orthogonal needs inputs"):
        reinitialise(narrowing, delta_orthogonal, generator=generator())
