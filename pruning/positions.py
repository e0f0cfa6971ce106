"""Positions as short text, such as "0-3,7": what a shrunk network keeps, readable and small."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pruning.errors import PruningError

RANGES = re.compile(r"(\d+(-\d+)?(,\d+(-\d+)?)*)?")
LARGEST = 2**20
"""No tensor here has more positions along a dimension; a file that says so is refused."""


def to_text(positions: Sequence[int]) -> str:
    """Return rising positions as ranges.

    >>> to_text([0, 1, 2, 3, 7, 9, 10])
    '0-3,7,9-10'
    """
    runs: list[list[int]] = []
    for position in positions:
        if runs and position == runs[-1][1] + 1:
            runs[-1][1] = position
        else:
            runs.append([position, position])
    return ",".join(f"{low}-{high}" if high > low else str(low) for low, high in runs)


def from_text(text: str) -> list[int]:
    """Return the positions that `to_text` wrote; raises `PruningError` for any other text.

    >>> from_text("0-3,7,9-10")
    [0, 1, 2, 3, 7, 9, 10]
    """
    if not RANGES.fullmatch(text):
        raise PruningError(f"{text[:40]!r} is no list of positions such as '0-3,7'")
    found: list[int] = []
    for part in text.split(",") if text else ():
        low, _, high = part.partition("-")
        if int(high or low) >= LARGEST:
            raise PruningError(f"position {high or low} is above {LARGEST}")
        found += range(int(low), int(high or low) + 1)
    return found


def shortened(value: Any) -> Any:
    """Return nested mappings with every list of positions as text."""
    if isinstance(value, Mapping):
        return {key: shortened(inner) for key, inner in value.items()}
    return to_text(value) if isinstance(value, list | tuple) else value


def lengthened(value: Any) -> Any:
    """Return what `shortened` made, with the lists put back; raises `PruningError`."""
    if isinstance(value, Mapping):
        return {key: lengthened(inner) for key, inner in value.items()}
    return from_text(value) if isinstance(value, str) else value
