"""VGG with BatchNorm for CIFAR."""

from torch import nn

POOL = 0
VGG16 = (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512)
VGG19 = (64, 64, 0, 128, 128, 0, *(256,) * 4, 0, *(512,) * 4, 0, *(512,) * 4)


def vgg16_bn(*, num_classes: int = 10, in_channels: int = 3, hidden: int = 0) -> nn.Module:
    """13 convolutions and one linear layer, 14.7M parameters; 15.0M with `hidden` 512.

    Source: Simonyan & Zisserman 2015 in the form of Liu et al. 2019, "Rethinking"; with `hidden`
    512 that of Li et al. 2017, table 2 (a hidden linear layer with BatchNorm).
    """
    return _vgg(VGG16, num_classes, in_channels, hidden)


def vgg19_bn(*, num_classes: int = 10, in_channels: int = 3, hidden: int = 0) -> nn.Module:
    """16 convolutions and one linear layer, 20.0M parameters.

    Source: Liu et al. 2017, "Network Slimming", table 1 (20.04M).
    """
    return _vgg(VGG19, num_classes, in_channels, hidden)


def _vgg(plan: tuple[int, ...], num_classes: int, in_channels: int, hidden: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for width in plan:
        if width == POOL:
            layers.append(nn.MaxPool2d(2))
            continue
        convolution = nn.Conv2d(in_channels, width, 3, padding=1, bias=False)
        nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU()]
        in_channels = width
    layers += [nn.AvgPool2d(2), nn.Flatten()]
    if hidden:
        layers += [nn.Linear(in_channels, hidden), nn.BatchNorm1d(hidden), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(hidden or in_channels, num_classes))
