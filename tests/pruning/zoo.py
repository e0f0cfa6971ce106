"""Networks that trip pruning libraries up, each with the evidence that fits it."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruning.evidence import Evidence

CLASSES = 4
EXAMPLES = 5
IMAGE = (EXAMPLES, 3, 6, 6)


class Tied(nn.Module):
    """One linear layer used twice, and an embedding whose weight is the output layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(CLASSES, 8)
        self.mix = nn.Linear(8, 8)
        self.head = nn.Linear(8, CLASSES, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        signal = torch.relu(self.mix(self.embedding(tokens).mean(1)))
        return self.head(torch.relu(self.mix(signal)))


class Raw(nn.Module):
    """A bare nn.Parameter used functionally."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.randn(8, 12) / 3)
        self.second = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.second(functional.relu(functional.linear(x, self.first)))


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
        self.norm = nn.LayerNorm(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        mixed, _ = self.attention(x, x, x, need_weights=False)
        return self.head(self.norm(x + mixed).mean(1))


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.RNNBase] = nn.LSTM) -> None:
        super().__init__()
        self.recurrent = kind(6, 5, num_layers=2, batch_first=True)
        self.head = nn.Linear(5, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(x)[0][:, -1])


class Residual(nn.Module):
    """Pre-activation: the sum is normalised before a convolution selects from it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 6, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(6)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        x = x + self.conv2(torch.relu(self.bn2(self.conv1(torch.relu(self.bn1(x))))))
        return self.head(torch.relu(self.bn3(x)).mean((2, 3)))


class Dense(nn.Module):
    """Channels of two layers concatenated, under one activation."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 3, padding=1)
        self.right = nn.Conv2d(3, 5, 1)
        self.bn = nn.BatchNorm2d(9)
        self.head = nn.Linear(9, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        both = torch.cat([self.left(x), self.right(x)], 1)
        return self.head(torch.relu(self.bn(both)).mean((2, 3)))


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Linear(6, 8)
        self.right = nn.Linear(3, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.head(torch.relu(self.left(left) + self.right(right)))


class ByName(nn.Module):
    """Takes its batch by keyword and returns a dictionary."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, *, features: Tensor, scale: Tensor) -> dict[str, Tensor]:
        return {"logits": self.head(torch.relu(self.body(features) * scale))}


class Branching(nn.Module):
    """What it computes depends on the data, so that it cannot be exported."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(6, 8)
        self.head = nn.Linear(8, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        hidden = torch.relu(self.body(x))
        return self.head(hidden if hidden.sum() > 0 else -hidden)


def _frozen() -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 4))
    model[0].requires_grad_(False)
    return model


def _convolutions(*middle: nn.Module, width: int) -> nn.Module:
    return nn.Sequential(
        *(nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(), *middle, nn.ReLU()),
        *(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, CLASSES)),
    )


FACTORIES: Mapping[str, Callable[[], nn.Module]] = {
    "mlp": lambda: nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, CLASSES)),
    "no_bias": lambda: nn.Sequential(
        nn.Linear(12, 8, bias=False), nn.ReLU(), nn.Linear(8, CLASSES, bias=False)
    ),
    "batch_norm": lambda: _convolutions(nn.Conv2d(8, 6, 3), nn.BatchNorm2d(6), width=6),
    "norm_free": lambda: _convolutions(nn.Conv2d(8, 6, 3), width=6),
    "gelu": lambda: nn.Sequential(nn.Linear(12, 8), nn.GELU(), nn.Linear(8, CLASSES)),
    "depthwise": lambda: _convolutions(nn.Conv2d(8, 8, 3, groups=8), nn.Conv2d(8, 6, 1), width=6),
    "grouped": lambda: _convolutions(nn.Conv2d(8, 6, 3, groups=2), width=6),
    "transposed": lambda: _convolutions(nn.ConvTranspose2d(8, 6, 3), width=6),
    "transposed_grouped": lambda: _convolutions(nn.ConvTranspose2d(8, 6, 3, groups=2), width=6),
    "one_dimensional": lambda: nn.Sequential(
        *(nn.Conv1d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool1d(1), nn.Flatten()),
        nn.Linear(6, CLASSES),
    ),
    "three_dimensional": lambda: nn.Sequential(
        *(nn.Conv3d(2, 4, 2), nn.ReLU(), nn.Flatten(), nn.Linear(32, CLASSES))
    ),
    "tied": Tied,
    "raw": Raw,
    "attention": Attention,
    "lstm": Recurrent,
    "gru": lambda: Recurrent(nn.GRU),
    "residual": Residual,
    "dense": Dense,
    "two_inputs": TwoInputs,
    "by_name": ByName,
    "branching": Branching,
    "frozen": _frozen,
}

INPUTS: Mapping[str, Callable[[torch.Generator], Any]] = {
    **dict.fromkeys(
        ("mlp", "no_bias", "gelu", "raw", "frozen"), lambda g: (_normal(g, EXAMPLES, 12),)
    ),
    **dict.fromkeys(
        ("batch_norm", "norm_free", "depthwise", "grouped", "transposed", "transposed_grouped"),
        lambda g: (_normal(g, *IMAGE),),
    ),
    "residual": lambda g: (_normal(g, *IMAGE),),
    "dense": lambda g: (_normal(g, *IMAGE),),
    "one_dimensional": lambda g: (_normal(g, EXAMPLES, 3, 7),),
    "three_dimensional": lambda g: (_normal(g, EXAMPLES, 2, 3, 3, 3),),
    "tied": lambda g: (torch.randint(CLASSES, (EXAMPLES, 3), generator=g),),
    "attention": lambda g: (_normal(g, EXAMPLES, 3, 8),),
    "lstm": lambda g: (_normal(g, EXAMPLES, 3, 6),),
    "gru": lambda g: (_normal(g, EXAMPLES, 3, 6),),
    "two_inputs": lambda g: (_normal(g, EXAMPLES, 6), _normal(g, EXAMPLES, 3)),
    "by_name": lambda g: {"features": _normal(g, EXAMPLES, 6), "scale": _normal(g, EXAMPLES, 1)},
    "branching": lambda g: (_normal(g, EXAMPLES, 6),),
}

ONLY = {"raw": ["first", "second.weight"]}
"""What must be named, as no layer owns it."""


def build(name: str) -> nn.Module:
    """Return the network in training mode, the same one every time."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return FACTORIES[name]()


def evidence(name: str, *, batches: int = 2, seed: int = 0) -> Evidence:
    """Return batches of (inputs, labels) with cross entropy for the network `name`."""
    generator = torch.Generator().manual_seed(seed)
    data = [
        (INPUTS[name](generator), torch.randint(CLASSES, (EXAMPLES,), generator=generator))
        for _ in range(batches)
    ]
    return Evidence(data, loss, lambda batch: batch[0], torch.Generator().manual_seed(seed))


def loss(model: nn.Module, batch: tuple[Any, Tensor]) -> Tensor:
    inputs, labels = batch
    output = model(**inputs) if isinstance(inputs, Mapping) else model(*inputs)
    logits = output["logits"] if isinstance(output, Mapping) else output
    return functional.cross_entropy(logits, labels)


def _normal(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(shape, generator=generator)
