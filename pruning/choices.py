"""A choice on an axis: a name, a name with settings, or the function itself."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from pruning import catalogue
from pruning.errors import PruningError

Choice: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]
"""A name, a mapping {"name": ..., **settings}, or the function itself."""


def resolve(axis: str, choice: Choice, *, where: str = "") -> Callable[..., Any]:
    """Return the function that `choice` means on `axis`, its settings bound."""
    if callable(choice):
        return choice
    if isinstance(choice, str):
        return catalogue.find(axis, choice, where=where)
    if "name" not in choice:
        origin = f"{where}: " if where else ""
        raise PruningError(f"{origin}{axis} {dict(choice)!r} has no 'name'")
    settings = dict(choice)
    name = settings.pop("name")
    catalogue.check(axis, name, settings, where=where)
    return partial(catalogue.find(axis, name, where=where), **settings)


def name_of(choice: Choice) -> str:
    """Return what to call `choice` in a message."""
    if isinstance(choice, Mapping):
        return str(choice.get("name", dict(choice)))
    if isinstance(choice, partial):
        return name_of(choice.func)
    return choice if isinstance(choice, str) else getattr(choice, "__name__", repr(choice))
