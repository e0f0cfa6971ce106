"""Small convolutional networks: Conv-2, Conv-4, Conv-6 and the package's own for digits."""

from collections import OrderedDict

from torch import nn


def conv2(*, num_classes: int = 10, in_channels: int = 3, size: int = 32) -> nn.Module:
    """Two convolutions of 64 filters, then 256, 256: 4.3M weights on CIFAR-10.

    Source: Frankle & Carbin 2019, figure 2.
    """
    return _vgg_like((64,), num_classes, in_channels, size)


def conv4(*, num_classes: int = 10, in_channels: int = 3, size: int = 32) -> nn.Module:
    """Two convolutions each of 64 and 128 filters, then 256, 256: 2.4M weights on CIFAR-10.

    Source: Frankle & Carbin 2019, figure 2.
    """
    return _vgg_like((64, 128), num_classes, in_channels, size)


def conv6(*, num_classes: int = 10, in_channels: int = 3, size: int = 32) -> nn.Module:
    """Two convolutions each of 64, 128 and 256 filters, then 256, 256.

    Source: Frankle & Carbin 2019, figure 2. The architecture printed there has 2.26M weights on
    CIFAR-10, of which 1.1M in convolutions as printed; the total printed is 1.7M.
    """
    return _vgg_like((64, 128, 256), num_classes, in_channels, size)


def digits_conv(*, num_classes: int = 10, in_channels: int = 1, width: int = 16) -> nn.Module:
    """Three convolutions with BatchNorm for 8x8 images and a linear layer: 15k weights.

    Source: this package, for scikit-learn's digits.
    """
    layers = {
        **_normed(1, in_channels, width, stride=1),
        **_normed(2, width, 2 * width, stride=2),
        **_normed(3, 2 * width, 2 * width, stride=2),
        "flatten": nn.Flatten(),
        "linear": nn.Linear(2 * width * 4, num_classes),
    }
    return nn.Sequential(OrderedDict(layers))


def _vgg_like(
    widths: tuple[int, ...], num_classes: int, in_channels: int, size: int
) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in widths:
        layers += [nn.Conv2d(in_channels, width, 3, padding=1), nn.ReLU()]
        layers += [nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        in_channels, size = width, size // 2
    layers += [nn.Flatten(), nn.Linear(in_channels * size * size, 256), nn.ReLU()]
    layers += [nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, num_classes)]
    return nn.Sequential(*layers)


def _normed(index: int, in_channels: int, width: int, stride: int) -> dict[str, nn.Module]:
    return {
        f"conv{index}": nn.Conv2d(in_channels, width, 3, stride=stride, padding=1, bias=False),
        f"bn{index}": nn.BatchNorm2d(width),
        f"relu{index}": nn.ReLU(),
    }
