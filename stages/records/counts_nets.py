"""The networks of Lee et al. 2019, tables 1 and 2, as far as their weights can be counted."""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

VGG_D = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg(*, hidden: int, pointwise: bool = False) -> "nn.Module":
    """VGG-16 with so many hidden linear layers of 512; type C has 1x1 in the last three blocks."""
    from torch import nn

    layers: list[nn.Module] = []
    inputs = 3
    for block, widths in enumerate(VGG_D):
        for at, width in enumerate(widths):
            size = 1 if pointwise and block >= 2 and at == 2 else 3
            layers.append(nn.Conv2d(inputs, width, size, bias=False))
            inputs = width
    layers += [nn.Linear(512, 512, bias=False) for _ in range(hidden)]
    return nn.Sequential(*layers, nn.Linear(512, 10, bias=False))


def wide_resnet(depth: int, width: int) -> "nn.Module":
    """Zagoruyko & Komodakis 2016: the convolutions of three stages of (depth - 4) / 6 blocks."""
    from torch import nn

    def convolutions() -> Iterator[nn.Module]:
        yield nn.Conv2d(3, 16, 3, bias=False)
        inputs = 16
        for outputs in (16 * width, 32 * width, 64 * width):
            for _ in range((depth - 4) // 6):
                yield nn.Conv2d(inputs, outputs, 3, bias=False)
                yield nn.Conv2d(outputs, outputs, 3, bias=False)
                if inputs != outputs:
                    yield nn.Conv2d(inputs, outputs, 1, bias=False)
                inputs = outputs
        yield nn.Linear(64 * width, 10, bias=False)

    return nn.Sequential(*convolutions())


def lenet(name: str) -> "nn.Module":
    """One of this package's networks for MNIST."""
    from pruning.models import build

    return build({"factory": name})


SNIP: Mapping[str, Callable[[], "nn.Module"]] = {
    "LeNet-300-100": lambda: lenet("lenet_300_100"),
    "LeNet-5-Caffe": lambda: lenet("lenet5"),
    "VGG-C": lambda: vgg(hidden=2, pointwise=True),
    "VGG-D": lambda: vgg(hidden=2),
    "VGG-like": lambda: vgg(hidden=1),
    "WRN-16-8": lambda: wide_resnet(16, 8),
    "WRN-16-10": lambda: wide_resnet(16, 10),
    "WRN-22-8": lambda: wide_resnet(22, 8),
}
"""By the rows' names; only their weights matter, they need not run. Left out are the AlexNets and
recurrent networks, whose layers the rows' source does not give."""
