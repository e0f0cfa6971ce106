"""Small networks in which channels take every way that shrinking has to follow."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional


class Residual(nn.Module):
    """A stem, a block with a projection, a block with an identity, a flattened classifier."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.a = nn.Sequential(nn.Conv2d(8, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.b = nn.Sequential(nn.Conv2d(6, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.down = nn.Conv2d(8, 12, 1)
        self.c = nn.Sequential(nn.Conv2d(12, 12, 3, padding=1), nn.BatchNorm2d(12))
        self.fc = nn.Linear(12 * 9, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        x = functional.relu(self.b(self.a(x)) + self.down(x))
        x = functional.relu(self.c(x) + x)
        return self.fc(functional.max_pool2d(x, 2).flatten(1))


class PaddedShortcut(nn.Module):
    """A shortcut that takes every second pixel and adds channels of zeros, written as numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1, bias=False)
        self.conv1 = nn.Conv2d(4, 8, 3, 2, padding=1, bias=False)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1, bias=False)
        self.fc = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        short = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 2, 2))
        x = functional.relu(self.conv2(functional.relu(self.conv1(x))) + short)
        return self.fc(x.mean((2, 3)))


class Concatenated(nn.Module):
    """Branches of several widths laid side by side, then read by a norm of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.left = nn.Conv2d(3, 4, 1)
        self.right = nn.Conv2d(3, 6, 3, padding=1)
        self.norm = nn.BatchNorm2d(13)
        self.last = nn.Conv2d(13, 5, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.cat([self.left(x), x, self.right(x)], 1)
        return self.last(torch.relu(self.norm(x)))


class PreActivation(nn.Module):
    """A stream that norms read while a sum goes on with it."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1, bias=False)
        self.bn1, self.bn2 = nn.BatchNorm2d(8), nn.BatchNorm2d(6)
        self.conv1 = nn.Conv2d(8, 6, 1, bias=False)
        self.conv2 = nn.Conv2d(6, 8, 3, padding=1, bias=False)
        self.bn3 = nn.BatchNorm2d(8)
        self.fc = nn.Linear(8, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        inside = self.conv1(functional.relu(self.bn1(x)))
        x = x + self.conv2(functional.relu(self.bn2(inside)))
        return self.fc(functional.relu(self.bn3(x)).mean((2, 3)))


class Dense(nn.Module):
    """Each layer reads all before it, as in DenseNet."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(4 + 3 * i, 3, 3, padding=1) for i in range(3))
        self.norms = nn.ModuleList(nn.BatchNorm2d(4 + 3 * i) for i in range(3))
        self.stem, self.fc = nn.Conv2d(3, 4, 1), nn.Linear(13, 4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for norm, conv in zip(self.norms, self.convs, strict=True):
            x = torch.cat([x, conv(functional.relu(norm(x)))], 1)
        return self.fc(x.amax((2, 3)))


class Depthwise(nn.Module):
    """An inverted bottleneck with squeeze and excitation."""

    def __init__(self) -> None:
        super().__init__()
        self.expand = nn.Conv2d(3, 12, 1, bias=False)
        self.bn1, self.bn2, self.bn3 = nn.BatchNorm2d(12), nn.BatchNorm2d(12), nn.BatchNorm2d(6)
        self.depth = nn.Conv2d(12, 12, 3, padding=1, groups=12, bias=False)
        self.squeeze, self.excite = nn.Conv2d(12, 4, 1), nn.Conv2d(4, 12, 1)
        self.project = nn.Conv2d(12, 6, 1, bias=False)
        self.fc = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.hardswish(self.bn1(self.expand(x)))
        x = functional.silu(self.bn2(self.depth(x)))
        scale = self.squeeze(functional.adaptive_avg_pool2d(x, 1))
        x = x * torch.sigmoid(self.excite(functional.relu(scale)))
        return self.fc(self.bn3(self.project(x)).mean((2, 3)))


class Grouped(nn.Module):
    """A convolution in groups, a depthwise one with two outputs a channel."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 12, 3, padding=1)
        self.grouped = nn.Conv2d(12, 8, 3, padding=1, groups=4)
        self.wide = nn.Conv2d(8, 16, 3, padding=1, groups=8)
        self.last = nn.Conv2d(16, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.grouped(functional.relu(self.first(x))))
        return self.last(functional.relu(self.wide(x)))


class Upsampler(nn.Module):
    """Transposed convolutions, plain and depthwise, pixel shuffle and its inverse, resampling."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.up = nn.ConvTranspose2d(6, 8, 2, stride=2)
        self.each = nn.ConvTranspose2d(8, 8, 2, stride=2, groups=8)
        self.wide = nn.Conv2d(8, 12, 3, padding=1)
        self.deep = nn.Conv2d(3 * 4, 6, 1)
        self.last = nn.Conv2d(6, 2, 1)
        self.slope = nn.PReLU(8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.slope(self.up(functional.relu(self.first(x))))
        x = functional.interpolate(functional.elu(self.each(x)), scale_factor=0.5, mode="bilinear")
        x = functional.pixel_shuffle(self.wide(x), 2)
        x = functional.pixel_unshuffle(functional.leaky_relu(x), 2)
        return self.last(torch.tanh(self.deep(x)))


class Shuffled(nn.Module):
    """ShuffleNet's two halves: one passes, one is worked on, then channels are shuffled."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 12, 1)
        self.branches = nn.ModuleList(nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.fc = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.stem(x))
        for branch in self.branches:
            one, other = x.chunk(2, dim=1)
            x = torch.cat([one, functional.relu(branch(other))], 1)
            n, c, h, w = x.shape
            x = x.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        return self.fc(x.mean((2, 3)))


class GroupNormed(nn.Module):
    """Norms within groups and within channels, a gated linear unit between."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 12, 3), nn.Conv2d(12, 8, 3)
        self.groups = nn.GroupNorm(4, 12)
        self.each = nn.InstanceNorm2d(8, affine=True)
        self.last = nn.Conv2d(4, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.gelu(self.groups(self.first(x)))
        return self.last(functional.glu(self.each(self.second(x)), 1))


class Recurrent(nn.Module):
    """Embedding, two layers of LSTM, a GRU in both directions, a decoder."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(11, 8)
        self.lstm = nn.LSTM(8, 10, num_layers=2, batch_first=True)
        self.gru = nn.GRU(10, 6, bidirectional=True, batch_first=True)
        self.decoder = nn.Linear(12, 11)

    def forward(self, tokens: Tensor) -> Tensor:
        hidden, _ = self.lstm(self.embedding(tokens))
        hidden, _ = self.gru(torch.tanh(hidden))
        return self.decoder(hidden)


class LastState(nn.Module):
    """A projected LSTM and a plain recurrence, of which only final states are read."""

    def __init__(self) -> None:
        super().__init__()
        self.lstm = nn.LSTM(5, 9, proj_size=4)
        self.rnn = nn.RNN(4, 6, bias=False)
        self.head = nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        hidden, (projected, _) = self.lstm(x)
        _, last = self.rnn(hidden)
        return self.head(torch.cat([last[-1], projected[-1]], 1))


class Transformer(nn.Module):
    """Patches, a class token, positions, and encoder layers of torch's own."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 16, 3, stride=3)
        self.token = nn.Parameter(torch.randn(1, 1, 16))
        self.positions = nn.Parameter(torch.randn(1, 5, 16))
        layer = nn.TransformerEncoderLayer(16, 4, 24, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(len(x), -1, -1), x], 1) + self.positions
        return self.head(self.encoder(x)[:, 0])


class OwnAttention(nn.Module):
    """Attention written out, its heads and depth attributes that the forward reads."""

    def __init__(self) -> None:
        super().__init__()
        self.heads, self.depth = 4, 3
        self.qkv, self.out = nn.Linear(8, 36), nn.Linear(12, 8)
        self.mlp = nn.Sequential(nn.Linear(8, 20), nn.GELU(), nn.Linear(20, 8))
        self.head = nn.Linear(8, 2)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        qkv = self.qkv(x).reshape(n, t, 3, self.heads, self.depth).permute(2, 0, 3, 1, 4)
        q, k, v = qkv.unbind(0)
        weights = torch.softmax(q @ k.transpose(-2, -1) * self.depth**-0.5, dim=-1)
        x = x + self.out((weights @ v).transpose(1, 2).reshape(n, t, self.heads * self.depth))
        x = x + self.mlp(functional.layer_norm(x, (8,)))
        return self.head(functional.layer_norm(x, (8,)).mean(1))


class SharedLayers(nn.Module):
    """A layer used twice, and an embedding whose weight is the decoder's too."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(9, 8)
        self.mix, self.narrow = nn.Linear(8, 8), nn.Linear(8, 6)
        self.widen = nn.Linear(6, 8)
        self.decoder = nn.Linear(8, 9, bias=False)
        self.decoder.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        x = functional.relu(self.mix(functional.relu(self.mix(self.embedding(tokens)))))
        return self.decoder(self.widen(functional.relu(self.narrow(x))))


class WrittenDown(nn.Module):
    """A forward with the number of features in it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(3, 6, 3), nn.Conv2d(6, 4, 3)
        self.fc1, self.fc2 = nn.Linear(16, 10), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.conv2(functional.relu(self.conv1(x)))).view(-1, 16)
        return self.fc2(functional.relu(self.fc1(x)))


class Unknown(nn.Module):
    """A sort of the channels in the middle: nothing may leave there, all else may."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(5, 8), nn.Linear(8, 6), nn.Linear(6, 7)
        self.d = nn.Linear(7, 2)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        x = torch.sort(self.b(functional.relu(self.a(x))), dim=1).values
        return {"logits": self.d(functional.relu(self.c(x))), "sorted": x}


IMAGES = (torch.zeros(2, 3, 6, 6),)
TOKENS = (torch.arange(8).reshape(2, 4),)

ZOO: dict[str, tuple[Callable[[], nn.Module], tuple[Tensor, ...]]] = {
    "residual": (Residual, IMAGES),
    "padded_shortcut": (PaddedShortcut, IMAGES),
    "concatenated": (Concatenated, IMAGES),
    "pre_activation": (PreActivation, IMAGES),
    "dense": (Dense, IMAGES),
    "depthwise": (Depthwise, IMAGES),
    "grouped": (Grouped, IMAGES),
    "upsampler": (Upsampler, IMAGES),
    "shuffled": (Shuffled, IMAGES),
    "group_normed": (GroupNormed, IMAGES),
    "recurrent": (Recurrent, TOKENS),
    "last_state": (LastState, (torch.zeros(4, 2, 5),)),
    "transformer": (Transformer, IMAGES),
    "own_attention": (OwnAttention, (torch.zeros(2, 5, 8),)),
    "shared": (SharedLayers, TOKENS),
    "written_down": (WrittenDown, IMAGES),
    "unknown": (Unknown, (torch.zeros(2, 5),)),
}


def build(name: str, *, seed: int = 0, dtype: torch.dtype = torch.float64) -> nn.Module:
    """Return a network of the zoo with norms that have seen data."""
    torch.manual_seed(seed)
    model = ZOO[name][0]()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        if isinstance(module, nn.modules.batchnorm._NormBase | nn.GroupNorm):
            nn.init.uniform_(module.weight, 0.5, 2.0)
            nn.init.normal_(module.bias)
    return model.to(dtype).eval()


def example(name: str, dtype: torch.dtype = torch.float64) -> tuple[Tensor, ...]:
    """Return the inputs of a network of the zoo, random where they are not tokens."""
    generator = torch.Generator().manual_seed(1)
    return tuple(
        torch.randn(x.shape, generator=generator, dtype=torch.float64).to(dtype)
        if x.is_floating_point()
        else x
        for x in ZOO[name][1]
    )
