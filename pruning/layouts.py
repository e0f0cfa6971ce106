"""Which dimension of a weight counts outputs and which counts inputs: it depends on the layer."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd


@dataclass(frozen=True)
class Layout:
    """Where outputs and inputs lie in a weight; what follows them are the kernel's dimensions."""

    output: int = 0
    input: int = 1
    groups: int = 1


PLAIN = Layout()
"""Linear layers, convolutions, the stacked gates of recurrent layers, attention, bare matrices."""


def layouts(model: nn.Module, params: Mapping[str, Tensor]) -> dict[str, Layout]:
    """Return the layout of every parameter in `params`.

    A transposed convolution's weight is (I, O / groups, ...); an embedding's is (I, O), as it
    multiplies one-hot inputs. A weight that several layers share has the layout of the first.
    """
    found: dict[int, Layout] = {}
    for module in model.modules():
        for parameter in module.parameters(recurse=False):
            found.setdefault(id(parameter), _layout(module))
    return {name: found.get(id(parameter), PLAIN) for name, parameter in params.items()}


def _layout(module: nn.Module) -> Layout:
    if isinstance(module, _ConvTransposeNd):
        return Layout(output=1, input=0, groups=module.groups)
    if isinstance(module, _ConvNd):
        return Layout(groups=module.groups)
    if isinstance(module, nn.Embedding | nn.EmbeddingBag):
        return Layout(output=1, input=0)
    return PLAIN
