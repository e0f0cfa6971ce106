"""Which channel sits where in a tensor: arrays of channel ids that broadcast to its shape."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Ids: TypeAlias = npt.NDArray[np.int64]
"""Channel ids; 0 is the one id that stands for every position that can never go."""

Flags: TypeAlias = npt.NDArray[np.bool_]

FIXED = 0


@dataclass(frozen=True)
class Track:
    """A tensor's shape and the layers of ids that travel with it.

    A layer has the tensor's rank; its size along a dimension is 1 where the ids do not depend on
    the position, else the tensor's. A convolution's output (N, C, H, W) carries one layer
    (1, C, 1, 1); split into heads (B, H, T, D) a layer may be (1, H, 1, D). A tensor without a
    layer along a dimension has a fixed size there. The layers of a track depend on different
    dimensions. `blank` marks zeros that the forward made itself, of whatever size it needed.
    """

    shape: tuple[int, ...]
    layers: tuple[Ids, ...] = ()
    blank: bool = False


@dataclass(frozen=True)
class Weight:
    """A parameter or buffer of the model, or a run of its first dimension, by its dotted name."""

    name: str
    shape: tuple[int, ...]
    start: int = 0
    whole: bool = True

    @property
    def rows(self) -> slice:
        """The run of the first dimension."""
        return slice(self.start, self.start + self.shape[0])

    @property
    def label(self) -> str:
        """Its name, with the run where it is not the whole parameter."""
        return self.name if self.whole else f"{self.name}[{self.start}:{self.rows.stop}]"

    def run(self, start: int, size: int) -> "Weight":
        """Return the run of `size` slices from `start` on."""
        return Weight(self.name, (size, *self.shape[1:]), self.start + start, whole=False)


def varying(layer: Ids) -> tuple[int, ...]:
    """Return the dimensions along which the ids differ."""
    return tuple(dim for dim, size in enumerate(layer.shape) if size > 1)


def first(layer: Ids, dims: Iterable[int]) -> Ids:
    """Return the layer's first slice along `dims`, which keep size 1."""
    dims = set(dims)
    return layer[tuple(slice(0, 1) if dim in dims else slice(None) for dim in range(layer.ndim))]


def along(layer: Ids, dim: int) -> Ids:
    """Return a layer that depends on one dimension only as a vector."""
    return layer.reshape(layer.shape[dim])


def spread(vector: Ids, dim: int, rank: int) -> Ids:
    """Return a vector as a layer along `dim` of a tensor of `rank` dimensions."""
    return vector.reshape([vector.size if d == dim else 1 for d in range(rank)])


def segments(
    old: Sequence[int], new: Sequence[int]
) -> Iterator[tuple[tuple[int, int], tuple[int, int]]]:
    """Yield the smallest runs of dimensions that a reshape maps onto each other.

    >>> [*segments((2, 12, 5), (2, 3, 4, 5))]
    [((0, 1), (0, 1)), ((1, 2), (1, 3)), ((2, 3), (3, 4))]
    """
    i = j = 0
    while i < len(old) or j < len(new):
        i0, j0 = i, j
        left = right = 1
        if i < len(old):
            left, i = old[i], i + 1
        if j < len(new):
            right, j = new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        yield (i0, i), (j0, j)


def reshape(layer: Ids, old: Sequence[int], new: Sequence[int]) -> Ids:
    """Return the layer of a tensor of shape `old` after its reshape to `new`.

    Where channels merge with other dimensions the ids repeat; dimensions along which the ids of a
    split do not depend go back to size 1.
    """
    expanded: list[int] = []
    wanted: list[int] = []
    for (i0, i1), (j0, j1) in segments(old, new):
        touched = any(size > 1 for size in layer.shape[i0:i1])
        expanded += list(old[i0:i1]) if touched else [1] * (i1 - i0)
        wanted += list(new[j0:j1]) if touched else [1] * (j1 - j0)
    return squeezed(np.broadcast_to(layer, expanded).reshape(wanted))


def merged(track: Track, new: Sequence[int]) -> list[tuple[int, ...]]:
    """Return which layers of the track, by position, a reshape to `new` would mix in one run."""
    mixed = []
    for (i0, i1), _ in segments(track.shape, new):
        found = tuple(
            at
            for at, layer in enumerate(track.layers)
            if any(size > 1 for size in layer.shape[i0:i1])
        )
        if len(found) > 1:
            mixed.append(found)
    return mixed


def squeezed(layer: Ids) -> Ids:
    """Return the layer with size 1 along every dimension on which its ids do not depend."""
    for dim in varying(layer):
        start = first(layer, (dim,))
        if len(varying(layer)) > 1 and bool((layer == start).all()):
            layer = start
    return layer


def aligned(track: Track, rank: int) -> Track:
    """Return the track with dimensions of size 1 put before it, as broadcasting does."""
    pad = (1,) * (rank - len(track.shape))
    return Track(
        pad + track.shape, tuple(layer.reshape(pad + layer.shape) for layer in track.layers)
    )


def full(layer: Ids, dim: int, size: int) -> Ids:
    """Return the layer with its ids written out along `dim`."""
    shape = list(layer.shape)
    shape[dim] = size
    return np.broadcast_to(layer, shape)


def elements(shape: Sequence[int]) -> int:
    """Return how many elements a tensor of this shape holds."""
    return prod(shape)
