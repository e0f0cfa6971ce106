"""Densely connected networks for CIFAR."""

import torch
from torch import Tensor, nn
from torch.nn import functional


def densenet40(
    *, num_classes: int = 10, in_channels: int = 3, growth: int = 12, stem: int = 16
) -> nn.Module:
    """40 layers without bottlenecks, growth rate 12: 1.0M parameters.

    Source: Huang et al. 2017, table 2. The code of Liu et al. 2017, "Network Slimming", and of Liu
    et al. 2019, "Rethinking", starts with `stem` 24, twice the growth rate: 1.06M.
    """
    return _DenseNet(12, 1, 1.0, stem, growth, num_classes, in_channels)


def densenet_bc100(*, num_classes: int = 10, in_channels: int = 3, growth: int = 12) -> nn.Module:
    """100 layers with bottlenecks and compression by half, growth rate 12: 0.8M parameters.

    Source: Huang et al. 2017, table 2.
    """
    return _DenseNet(16, 2, 0.5, 2 * growth, growth, num_classes, in_channels)


class _Layer(nn.Module):
    """One layer, or a bottleneck of two, whose output is appended to its input."""

    def __init__(self, inputs: int, growth: int, convolutions: int) -> None:
        super().__init__()
        parts: list[nn.Module] = []
        if convolutions == 2:
            parts += [nn.BatchNorm2d(inputs), nn.ReLU()]
            parts.append(nn.Conv2d(inputs, 4 * growth, 1, bias=False))
            inputs = 4 * growth
        parts += [nn.BatchNorm2d(inputs), nn.ReLU()]
        parts.append(nn.Conv2d(inputs, growth, 3, padding=1, bias=False))
        self.parts = nn.Sequential(*parts)

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, self.parts(images)], 1)


class _DenseNet(nn.Module):
    def __init__(
        self,
        layers: int,
        convolutions: int,
        compression: float,
        stem: int,
        growth: int,
        num_classes: int,
        in_channels: int,
    ) -> None:
        super().__init__()
        parts: list[nn.Module] = [nn.Conv2d(in_channels, stem, 3, padding=1, bias=False)]
        width = stem
        for block in range(3):
            for _ in range(layers):
                parts.append(_Layer(width, growth, convolutions))
                width += growth
            if block < 2:
                narrow = int(width * compression)
                parts += [nn.BatchNorm2d(width), nn.ReLU(), nn.Conv2d(width, narrow, 1, bias=False)]
                parts.append(nn.AvgPool2d(2))
                width = narrow
        self.features = nn.Sequential(*parts)
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, num_classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, images: Tensor) -> Tensor:
        hidden = functional.relu(self.bn(self.features(images)))
        logits: Tensor = self.fc(hidden.mean((2, 3)))
        return logits
