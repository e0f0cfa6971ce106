"""What holds of a choice, said where it is made and read from its source by `catalogue`."""

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from pruning.errors import unknown

DURING: Mapping[str, str] = {
    "given": "starts from masks that are at the target already; others choose masks in training",
    "fixed": "leaves the masks that it was given as they are until training ends",
    "exact": "ends, where it has a budget, with exactly the number of weights asked for",
    "single": "may choose single weights, so that filters need not go whole",
    "unmasked": "ends with nothing pruned, whatever it was given",
}
"""The traits of a choice of `during`. Who has none chooses masks in training, by any piece."""

_Function = TypeVar("_Function", bound=Callable[..., Any])


def traits(*names: str) -> Callable[[_Function], _Function]:
    """Say of a choice what holds of it, in words of `DURING`; raise `PruningError` for others.

    The names are read from the source, where they must stand as they are.

    >>> @traits("given", "exact")
    ... def held(training): ...
    """
    for name in names:
        if name not in DURING:
            raise unknown("trait", name, DURING)
    return lambda function: function
