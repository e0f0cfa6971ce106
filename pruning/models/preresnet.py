"""Residual networks with normalisation before each convolution, as network slimming prunes them."""

from torch import Tensor, nn
from torch.nn import functional

from pruning.errors import unknown

BLOCKS = ("basic", "bottleneck")


def preresnet110(
    *, num_classes: int = 10, in_channels: int = 3, width: int = 16, block: str = "basic"
) -> nn.Module:
    """110 layers in blocks of two convolutions, 1.7M parameters; 1.1M with bottlenecks.

    Source: He et al. 2016b, "Identity Mappings in Deep Residual Networks", section 4. The code of
    Liu et al. 2019, "Rethinking", builds its "PreResNet-110" with `block` bottleneck.
    """
    if block not in BLOCKS:
        raise unknown("block", block, BLOCKS)
    if block == "bottleneck":
        return _PreResNet(_Bottleneck, 12, num_classes, in_channels, width)
    return _PreResNet(_Basic, 18, num_classes, in_channels, width)


def preresnet164(*, num_classes: int = 10, in_channels: int = 3, width: int = 16) -> nn.Module:
    """164 layers in bottlenecks of three convolutions, 1.7M parameters.

    Source: He et al. 2016b, section 4; Liu et al. 2017, "Network Slimming", section 4.2.
    """
    return _PreResNet(_Bottleneck, 18, num_classes, in_channels, width)


class _Basic(nn.Module):
    expansion = 1

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, 1, 1, bias=False)
        self.downsample = _projection(inputs, planes, stride)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv1(functional.relu(self.bn1(images)))
        hidden = self.conv2(functional.relu(self.bn2(hidden)))
        result: Tensor = hidden + self.downsample(images)
        return result


class _Bottleneck(nn.Module):
    expansion = 4

    def __init__(self, inputs: int, planes: int, stride: int) -> None:
        super().__init__()
        self.bn1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, planes, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(planes)
        self.conv2 = nn.Conv2d(planes, planes, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(planes)
        self.conv3 = nn.Conv2d(planes, 4 * planes, 1, bias=False)
        self.downsample = _projection(inputs, 4 * planes, stride)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.conv1(functional.relu(self.bn1(images)))
        hidden = self.conv2(functional.relu(self.bn2(hidden)))
        hidden = self.conv3(functional.relu(self.bn3(hidden)))
        result: Tensor = hidden + self.downsample(images)
        return result


class _PreResNet(nn.Module):
    def __init__(
        self,
        block: type[_Basic] | type[_Bottleneck],
        blocks: int,
        num_classes: int,
        in_channels: int,
        width: int,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, width, 3, 1, 1, bias=False)
        stages, inputs = [], width
        for planes, stride in ((width, 1), (2 * width, 2), (4 * width, 2)):
            for index in range(blocks):
                stages.append(block(inputs, planes, stride if index == 0 else 1))
                inputs = planes * block.expansion
        self.blocks = nn.Sequential(*stages)
        self.bn = nn.BatchNorm2d(inputs)
        self.fc = nn.Linear(inputs, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn(self.blocks(self.conv1(images))))
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits


def _projection(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Conv2d(inputs, outputs, 1, stride, bias=False)
