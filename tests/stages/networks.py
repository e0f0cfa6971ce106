"""Small networks for studies in this process, named as a user names theirs."""

from torch import nn

from pruning.models.preresnet import _Bottleneck, _PreResNet


def preresnet(*, num_classes: int = 10, in_channels: int = 1, width: int = 4) -> nn.Module:
    """The layers of preresnet164, one bottleneck in each stage."""
    return _PreResNet(_Bottleneck, 1, num_classes, in_channels, width)
