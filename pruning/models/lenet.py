"""The two LeNets of the pruning literature, for MNIST."""

from torch import Tensor, nn


def lenet_300_100(*, num_classes: int = 10, inputs: int = 784) -> nn.Module:
    """Two hidden layers of 300 and 100 units: 266,610 parameters on MNIST.

    Source: LeCun et al. 1998; the form of Han et al. 2015, table 3 (267K).
    """
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(inputs, 300),
        nn.ReLU(),
        nn.Linear(300, 100),
        nn.ReLU(),
        nn.Linear(100, num_classes),
    )


def lenet5(*, num_classes: int = 10, in_channels: int = 1) -> nn.Module:
    """Caffe's LeNet-5: convolutions of 20 and 50 filters, 500 hidden units: 431,080 parameters.

    Source: Jia et al. 2014, Caffe's example; Han et al. 2015, table 4 (431K). It has no activation
    after its convolutions.
    """
    return _LeNet5(num_classes, in_channels)


class _LeNet5(nn.Module):
    def __init__(self, num_classes: int, in_channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(in_channels, 20, 5)
        self.conv2 = nn.Conv2d(20, 50, 5)
        self.pool = nn.MaxPool2d(2)
        self.fc1 = nn.Linear(800, 500)
        self.relu = nn.ReLU()
        self.fc2 = nn.Linear(500, num_classes)

    def forward(self, images: Tensor) -> Tensor:
        hidden = self.pool(self.conv2(self.pool(self.conv1(images))))
        logits: Tensor = self.fc2(self.relu(self.fc1(hidden.flatten(1))))
        return logits
