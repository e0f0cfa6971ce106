"""Residual networks for CIFAR."""

from torch import Tensor, nn
from torch.nn import functional

from pruning.errors import unknown

SHORTCUTS = ("pad", "projection")


def resnet20(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = "pad"
) -> nn.Module:
    """20 layers, 0.27M parameters.

    Source: He et al. 2016, section 4.2; `shortcut` pad is their option A, projection option B.
    """
    return _ResNet(3, num_classes, in_channels, width, shortcut)


def resnet32(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = "pad"
) -> nn.Module:
    """32 layers, 0.46M parameters.

    Source: He et al. 2016, section 4.2. GraSP's "ResNet-32" is this one with `width` 32.
    """
    return _ResNet(5, num_classes, in_channels, width, shortcut)


def resnet44(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = "pad"
) -> nn.Module:
    """44 layers, 0.66M parameters.

    Source: He et al. 2016, section 4.2.
    """
    return _ResNet(7, num_classes, in_channels, width, shortcut)


def resnet56(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = "pad"
) -> nn.Module:
    """56 layers, 0.85M parameters.

    Source: He et al. 2016, section 4.2.
    """
    return _ResNet(9, num_classes, in_channels, width, shortcut)


def resnet110(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, shortcut: str = "pad"
) -> nn.Module:
    """110 layers, 1.7M parameters.

    Source: He et al. 2016, section 4.2.
    """
    return _ResNet(18, num_classes, in_channels, width, shortcut)


class _Block(nn.Module):
    """Two convolutions and a shortcut around them."""

    def __init__(self, inputs: int, outputs: int, stride: int, shortcut: str) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(outputs)
        self.shortcut = _shortcut(inputs, outputs, stride, shortcut)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.bn2(self.conv2(hidden))
        return functional.relu(hidden + self.shortcut(images))


class _Pad(nn.Module):
    """Take every second pixel and add channels of zeros on both sides (option A)."""

    def __init__(self, extra: int) -> None:
        super().__init__()
        self.before, self.after = extra // 2, extra - extra // 2

    def forward(self, images: Tensor) -> Tensor:
        return functional.pad(images[:, :, ::2, ::2], (0, 0, 0, 0, self.before, self.after))


class _ResNet(nn.Module):
    def __init__(
        self, blocks: int, num_classes: int, in_channels: int, width: int, shortcut: str
    ) -> None:
        super().__init__()
        if shortcut not in SHORTCUTS:
            raise unknown("shortcut", shortcut, SHORTCUTS)
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = _stage(blocks, width, width, 1, shortcut)
        self.layer2 = _stage(blocks, width, 2 * width, 2, shortcut)
        self.layer3 = _stage(blocks, 2 * width, 4 * width, 2, shortcut)
        self.fc = nn.Linear(4 * width, num_classes)
        _kaiming(self)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn1(self.conv1(images)))
        hidden = self.layer3(self.layer2(self.layer1(hidden)))
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


def _stage(blocks: int, inputs: int, outputs: int, stride: int, shortcut: str) -> nn.Sequential:
    first = _Block(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(_Block(outputs, outputs, 1, shortcut) for _ in range(blocks - 1)))


def _shortcut(inputs: int, outputs: int, stride: int, shortcut: str) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    if shortcut == "pad":
        return _Pad(outputs - inputs)
    convolution = nn.Conv2d(inputs, outputs, 1, stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs))


def _kaiming(model: nn.Module) -> None:
    """Draw convolutions as He et al. 2015 do, by the fan out as in the authors' code."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
