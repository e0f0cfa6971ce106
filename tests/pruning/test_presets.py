"""The presets lead to the sizes that their papers print."""

import pytest
import torch
from torch import nn

from pruning import prune
from pruning.models import build
from pruning.presets import PRESETS

PUBLISHED = {
    # name: factory, parameters in millions, MACs in 1e8, their reductions in percent (table 1)
    "li-2017-resnet56-a": ({"factory": "resnet56"}, 0.77, 1.12, 9.4, 10.4),
    "li-2017-resnet56-b": ({"factory": "resnet56"}, 0.73, 0.909, 13.7, 27.6),
    "li-2017-resnet110-a": ({"factory": "resnet110"}, 1.68, 2.13, 2.3, 15.9),
    "li-2017-resnet110-b": ({"factory": "resnet110"}, 1.16, 1.55, 32.4, 38.6),
    "li-2017-vgg16-a": ({"factory": "vgg16_bn", "hidden": 512}, 5.4, 2.06, 64.0, 34.2),
}


def weighted(model: nn.Module) -> list[tuple[str, nn.Module, int]]:
    """Return the layers in the order of their use with the positions that each computes."""
    found, handles = [], []
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d | nn.Linear | nn.BatchNorm2d | nn.BatchNorm1d):

            def note(module, _, output, name=name):
                found.append((name, module, output[0, 0].numel()))

            handles.append(module.register_forward_hook(note))
    with torch.no_grad():
        model.eval()(torch.zeros(1, 3, 32, 32))
    for handle in handles:
        handle.remove()
    return found


def sizes(model: nn.Module, masks: dict[str, torch.Tensor]) -> tuple[int, int]:
    """Return parameters and MACs once pruned filters are gone, with what they alone feed.

    True for chains of layers: in these networks only layers inside a chain lose filters.
    """
    parameters = macs = 0
    inputs = 3
    for name, module, positions in weighted(model):
        if isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
            parameters += 2 * inputs
            continue
        weight = module.weight
        outputs = int(masks[f"{name}.weight"].flatten(1).any(1).sum())
        own = inputs * outputs * weight[0, 0].numel()
        parameters += own + (0 if module.bias is None else outputs)
        macs += own * positions
        inputs = outputs
    return parameters, macs


@pytest.mark.parametrize("name", PRESETS)
def test_the_published_counts(name):
    spec, millions, work, fewer, cheaper = PUBLISHED[name]
    torch.manual_seed(0)
    model = build(spec)
    dense = {key: torch.ones_like(p, dtype=torch.bool) for key, p in model.named_parameters()}
    whole = sizes(model, dense)
    assert whole[0] == sum(p.numel() for p in model.parameters())
    parameters, macs = sizes(model, prune(model, **PRESETS[name]))
    digits = 2 if millions < 2 else 1
    assert round(parameters / 1e6, digits) == pytest.approx(millions, abs=0.011)
    assert macs / 1e8 == pytest.approx(work, rel=0.006)
    assert 100 * (1 - parameters / whole[0]) == pytest.approx(fewer, abs=0.06)
    assert 100 * (1 - macs / whole[1]) == pytest.approx(cheaper, abs=0.07)
