"""Published recipes as data: the row of choices that a paper's table stands for."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

VGG16_CONVOLUTIONS = (0, 3, 7, 10, 14, 17, 20, 24, 27, 30, 34, 37, 40)
"""Where the 13 convolutions are in `pruning.models.vgg.vgg16_bn`."""


def _li_2017(ratios: Mapping[str, float]) -> dict[str, Any]:
    allocation = {"name": "per_layer", "ratios": dict(ratios), "rounding": "down"}
    return {"criterion": "magnitude", "granularity": "filter", "allocation": allocation}


def _resnet(blocks: int, stages: Sequence[float], skipped: Collection[int]) -> dict[str, Any]:
    """Ratios of the first convolution of each block; `skipped` counts convolutions from 1."""
    ratios = {}
    for number in skipped:
        stage, block = divmod((number - 2) // 2, blocks)
        ratios[f"layer{stage + 1}.{block}.conv1.weight"] = 0.0
    for stage, ratio in enumerate(stages, 1):
        ratios[f"layer{stage}.*.conv1.weight"] = ratio
    return _li_2017(ratios)


PRESETS: Mapping[str, Mapping[str, Any]] = {
    "li-2017-resnet56-a": _resnet(9, (0.1, 0.1, 0.1), (16, 20, 38, 54)),
    "li-2017-resnet56-b": _resnet(9, (0.6, 0.3, 0.1), (16, 18, 20, 34, 38, 54)),
    "li-2017-resnet110-a": _resnet(18, (0.5, 0.0, 0.0), (36,)),
    "li-2017-resnet110-b": _resnet(18, (0.5, 0.4, 0.3), (36, 38, 74)),
    "li-2017-vgg16-a": _li_2017(
        {f"{VGG16_CONVOLUTIONS[number - 1]}.weight": 0.5 for number in (1, *range(8, 14))}
    ),
}
"""Li et al. 2017, "Pruning Filters for Efficient ConvNets", tables 1 and 2: the `prune` rows."""
