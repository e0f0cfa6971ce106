"""What a walk writes down beside ids: calls, reasons, and what sizes hang on."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pruning.coupling.tracks import Ids


@dataclass(frozen=True)
class Reason:
    """Which operation pinned channels, and in which module of the network."""

    operation: str
    module: str

    def __str__(self) -> str:
        """Say it in words."""
        return f"{self.operation} in {self.module or 'the network itself'}"


@dataclass(frozen=True)
class Call:
    """One operation of the graph with its arguments by name, tensors as tracks or weights."""

    operation: str
    args: Mapping[str, Any]
    shapes: tuple[tuple[int, ...], ...]
    module: str
    is_zero_at_zero: Callable[[], bool]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the first or only result."""
        return self.shapes[0]


@dataclass(frozen=True)
class Resize:
    """A reshape, split or slice whose sizes the forward may have written down as numbers."""

    module: str
    operation: str
    ids: Ids
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Grouped:
    """A convolution in groups: whole groups go, or the same position of every group."""

    weight: str
    ins: Ids
    outs: Ids
    columns: Ids


@dataclass(frozen=True)
class Padding:
    """Channels of zeros that a module adds, and the attributes of it that say how many."""

    module: str
    attributes: tuple[str, ...]
    ids: tuple[Ids, ...]
