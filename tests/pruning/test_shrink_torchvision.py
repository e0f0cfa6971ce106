"""torchvision's kinds of network, narrow: half of all groups leave, the output stays.

docs/shrinking.md has them in full width.
"""

import copy
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torchvision.models import (
    convnext,
    densenet,
    efficientnet,
    inception,
    mobilenetv2,
    regnet,
    resnet,
    shufflenetv2,
    squeezenet,
    vgg,
)
from torchvision.models.googlenet import Inception
from torchvision.models.vision_transformer import VisionTransformer

from pruning import masks as mask_tools
from pruning.coupling.choosing import group_masks
from pruning.coupling.groups import channels
from pruning.prunables import prunable
from pruning.pruner import score
from pruning.shrinking.rebuild import apply_plan, keep
from pruning.shrinking.shrink_network import shrink_plan

MBConv = efficientnet.MBConvConfig


def headed(*layers: nn.Module) -> nn.Module:
    """Return layers over images with a classifier behind them."""
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.LazyLinear(5))


NARROW: dict[str, tuple[Callable[[], nn.Module], int, set[str]]] = {
    "resnet": (
        lambda: headed(
            nn.Conv2d(3, 8, 3),
            resnet.Bottleneck(8, 4, downsample=nn.Conv2d(8, 16, 1)),
            resnet.Bottleneck(16, 4),
        ),
        12,
        set(),
    ),
    "vgg_bn": (
        lambda: nn.Sequential(
            vgg.make_layers([8, "M", 16], batch_norm=True),
            nn.AdaptiveAvgPool2d(7),
            nn.Flatten(),
            *(nn.Linear(16 * 49, 24), nn.ReLU(), nn.Linear(24, 5)),
        ),
        16,
        set(),
    ),
    "densenet": (partial(densenet.DenseNet, 6, (2, 3), 8), 32, set()),
    "mobilenet_v2": (
        partial(mobilenetv2.MobileNetV2, 5, 0.25, [[1, 8, 1, 1], [4, 16, 2, 2]]),
        32,
        set(),
    ),
    "efficientnet": (
        lambda: efficientnet.EfficientNet(
            [MBConv(1, 3, 1, 16, 8, 1, 1.0, 1.0), MBConv(4, 5, 2, 8, 12, 2, 1.0, 1.0)], 0.2
        ),
        32,
        set(),
    ),
    "convnext": (
        lambda: convnext.ConvNeXt(
            [convnext.CNBlockConfig(8, 16, 2), convnext.CNBlockConfig(16, None, 1)]
        ),
        32,
        {"layer_norm"},
    ),
    "regnet_y": (
        lambda: regnet.RegNet(
            regnet.BlockParams.from_init_params(4, 24, 24.0, 2.0, 8, se_ratio=0.25), stem_width=8
        ),
        32,
        set(),
    ),
    "squeezenet": (partial(squeezenet.SqueezeNet, "1_1", 5), 48, set()),
    "shufflenet_v2": (
        partial(shufflenetv2.ShuffleNetV2, [1, 2, 1], [8, 16, 24, 32, 40]),
        32,
        set(),
    ),
    "inception": (
        lambda: headed(inception.InceptionA(6, 8), Inception(232, 8, 6, 10, 4, 6, 5)),
        12,
        set(),
    ),
    "vit": (partial(VisionTransformer, 16, 8, 2, 4, 16, 24), 16, {"layer_norm"}),
}
"""A network, the side of its images, and the operations inside that hold channels."""


def lively(make: Callable[[], nn.Module], image: Tensor) -> nn.Module:
    """Return a network in which whatever shrinking missed would show."""
    torch.manual_seed(0)
    model = make().double().eval()
    model(image)
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
    for parameter in model.parameters():
        if parameter.ndim < 2 or float(parameter.detach().abs().max()) < 1e-5:
            nn.init.normal_(parameter, std=0.5)
    return model


@pytest.mark.parametrize("name", NARROW)
def test_half_of_all_groups_leave(name):
    make, side, inside = NARROW[name]
    image = torch.randn(2, 6 if name == "inception" else 3, side, side, dtype=torch.float64)
    model = lively(make, image)
    groups = channels(model, image)
    assert {each.reason.operation for each in groups.pinned} == {"output"} | inside
    scores = score(model, "magnitude", granularity="filter", only=prunable(model))
    masks = group_masks(scores, groups, 0.5)
    plan = shrink_plan(model, masks, image, groups=groups)
    assert all(bool(mask.all()) for mask in keep(plan, masks).values())
    shrunk = apply_plan(model, plan, masks=masks)
    narrower = [
        new.numel() < old.numel()
        for new, old in zip(shrunk.parameters(), model.parameters(), strict=True)
        if old.ndim > 1
    ]
    assert sum(narrower) >= 0.8 * len(narrower) if not inside else sum(narrower) > 3
    compare(model, shrunk, masks, torch.randn_like(image))


@torch.no_grad()
def compare(model: nn.Module, shrunk: nn.Module, masks: dict[str, Tensor], image: Tensor) -> None:
    """Compare with a masked copy on an input that `shrink_plan` has not seen."""
    masked = copy.deepcopy(model)
    mask_tools.apply(masked, masks)
    expected = masked(image)
    assert float(expected.std()) > 1e-3  # no constant, which any network could put out
    torch.testing.assert_close(
        shrunk(image), expected, rtol=0, atol=1e-10 * float(expected.abs().max())
    )
