"""Shrinking the networks of the literature to the sizes that papers print."""

import functools

import pytest
import torch
from torch import Tensor, nn

from pruning.coupling.choosing import group_masks
from pruning.coupling.groups import Groups, channels
from pruning.coupling.scoring import whole
from pruning.errors import PruningError
from pruning.macs import macs
from pruning.models import build
from pruning.prunables import prunable
from pruning.pruner import prune
from pruning.shrinking.budget import sparsity_for
from pruning.shrinking.shrink_network import shrink

IMAGE = torch.randn(1, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def size(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def lively(factory: str, **settings: int) -> nn.Module:
    """Return a network whose norms have seen data, so that a missed shift shows."""
    torch.manual_seed(0)
    model = build({"factory": factory, **settings})
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    return model


@functools.cache
def grouped(factory: str) -> tuple[nn.Module, Groups, Tensor]:
    model = lively(factory)
    example = {
        "lenet_300_100": torch.randn(1, 1, 28, 28),
        "lenet5": torch.randn(1, 1, 28, 28),
        "lstm_lm": torch.arange(10).reshape(2, 5),
    }.get(factory, IMAGE)
    return model, channels(model, example), example


def norms(model: nn.Module) -> dict[str, Tensor]:
    return {
        name: weight.detach().abs().flatten(1).sum(1).reshape(-1, *[1] * (weight.ndim - 1))
        for name, weight in prunable(model).items()
    }


def l1_filters(model: nn.Module, kept: dict[str, int]) -> dict[str, Tensor]:
    """Return masks that keep so many filters of largest L1 norm of each named layer."""
    masks = {}
    for name, count in kept.items():
        weight = model.get_parameter(name)
        best = norms(model)[name].flatten().argsort(descending=True, stable=True)[:count]
        mask = torch.zeros_like(weight, dtype=torch.bool)
        mask[best] = True
        masks[name] = mask
    return masks


def first_convolutions(
    depth: int, rates: tuple[float, float, float], skip: tuple[int, ...]
) -> dict[str, int]:
    """Return how many filters Li et al. keep of the first convolution of each block.

    Convolutions are counted from 1; the first of block b of all blocks is number 2 b + 2.
    """
    blocks = (depth - 2) // 6
    return {
        f"layer{stage + 1}.{block}.conv1.weight": int(16 * 2**stage * (1 - rates[stage]))
        for stage in range(3)
        for block in range(blocks)
        if 2 * (stage * blocks + block) + 2 not in skip
    }


LI = {
    "resnet56-A": (56, (0.1, 0.1, 0.1), (16, 20, 38, 54), 7.7e5, 1.12e8),
    "resnet56-B": (56, (0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54), 7.3e5, 9.09e7),
    "resnet110-A": (110, (0.5, 0.0, 0.0), (36,), 1.68e6, 2.13e8),
    "resnet110-B": (110, (0.5, 0.4, 0.3), (36, 38, 74), 1.16e6, 1.55e8),
}
"""Depth, shares pruned in the three stages, layers left alone; parameters and MACs as printed.

Li et al. 2017, table 1 and section 4.2."""


@pytest.mark.parametrize("name", LI)
def test_resnets_shrink_to_the_sizes_of_li(name):
    depth, rates, skip, parameters, multiply_adds = LI[name]
    model, groups, _ = grouped(f"resnet{depth}")
    masks = whole(l1_filters(model, first_convolutions(depth, rates, skip)), groups)
    shrunk = shrink(model, masks, IMAGE, groups=groups)
    assert size(shrunk) == pytest.approx(parameters, rel=0.01)
    assert macs(shrunk, IMAGE) == pytest.approx(multiply_adds, rel=0.01)


def test_vgg16_shrinks_to_the_sizes_of_li():
    """Half of the first and of the last six convolutions: 5.4M parameters, 2.06e8 MACs."""
    model = lively("vgg16_bn", hidden=512)
    convolutions = [name for name, weight in model.named_parameters() if weight.ndim == 4]
    kept = {
        name: model.get_parameter(name).shape[0] // 2
        for at, name in enumerate(convolutions, start=1)
        if at == 1 or at >= 8
    }
    groups = channels(model, IMAGE)
    shrunk = shrink(model, whole(l1_filters(model, kept), groups), IMAGE, groups=groups)
    assert size(shrunk) == pytest.approx(5.4e6, rel=0.01)
    assert macs(shrunk, IMAGE) == pytest.approx(2.06e8, rel=0.01)


@pytest.mark.parametrize(
    ("factory", "share"),
    [
        ("lenet_300_100", 0.472),
        ("lenet5", 0.254),
        ("conv2", 0.250),
        ("resnet20", 0.252),
        ("densenet40", 0.256),
        ("lstm_lm", 0.278),
    ],
)
def test_half_of_all_groups_of_each_family_leave(factory, share):
    model, groups, example = grouped(factory)
    shrunk = shrink(model, group_masks(norms(model), groups, 0.5), example, groups=groups)
    assert size(shrunk) / size(model) == pytest.approx(share, abs=5e-4)


@pytest.mark.parametrize(
    ("name", "share"), [("mobilenet_v3_small", 0.358), ("shufflenet_v2_x1_0", 0.410)]
)
def test_torchvision_networks_shrink(name, share):
    model = lively(f"torchvision:{name}")
    image = torch.randn(1, 3, 64, 64)
    groups = channels(model, image)
    shrunk = shrink(model, group_masks(norms(model), groups, 0.5), image, groups=groups)
    assert size(shrunk) / size(model) == pytest.approx(share, abs=5e-4)


def test_windows_lose_heads():
    from torchvision.models.swin_transformer import SwinTransformer

    torch.manual_seed(0)
    model = SwinTransformer([4, 4], 24, [2, 2], [2, 4], [4, 4], num_classes=5).double().eval()
    image = torch.randn(2, 3, 44, 44).double()
    groups = channels(model, image)
    reasons = {pinned.reason.operation for pinned in groups.pinned}
    assert reasons == {"layer_norm", "output"}
    shrunk = shrink(model, group_masks(norms(model), groups, 0.5), image, groups=groups)
    assert [shrunk.features[k][j].attn.num_heads for k in (1, 3) for j in (0, 1)] == [1, 1, 2, 2]
    assert shrunk.features[3][1].attn.relative_position_bias_table.shape == (49, 2)


@pytest.mark.parametrize("target", ["macs", "parameters"])
def test_the_sparsity_that_meets_a_budget(target):
    model, groups, example = grouped("resnet20")
    scores = norms(model)
    cost = macs if target == "macs" else lambda net, _: size(net)

    def left(sparsity: float) -> float:
        masks = group_masks(scores, groups, sparsity)
        return cost(shrink(model, masks, example, groups=groups), example) / cost(model, example)

    found = sparsity_for(
        model, example, lambda s: group_masks(scores, groups, s), groups=groups, **{target: 0.5}
    )
    assert left(found) <= 0.5 < left(found - 1 / 2048)


def test_a_budget_of_measured_time():
    model, groups, example = grouped("conv2")
    found = sparsity_for(
        model, example, lambda s: group_masks(norms(model), groups, s), latency=0.7, groups=groups
    )
    assert 0 < found < 0.9


def test_budgets_that_cannot_be():
    model, groups, example = grouped("lenet5")

    def masks_at(sparsity: float) -> dict[str, Tensor]:
        if sparsity > 0.3:
            raise PruningError("layer collapse")
        return group_masks(norms(model), groups, sparsity)

    with pytest.raises(PruningError, match=r"leaves 0.01 .* at sparsity 0.2.* collapse"):
        sparsity_for(model, example, masks_at, macs=0.01, groups=groups)
    with pytest.raises(PruningError, match=r"^unknown criterion 'magnitud'; choose from"):
        sparsity_for(
            model, example, lambda s: prune(model, s, criterion="magnitud"), macs=0.5, groups=groups
        )
    with pytest.raises(PruningError, match="one of macs, parameters, latency; got none"):
        sparsity_for(model, example, masks_at)
    with pytest.raises(PruningError, match=r"macs 1.5: give the fraction .* in \(0, 1\]"):
        sparsity_for(model, example, masks_at, macs=1.5)
