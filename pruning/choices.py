"""A choice on an axis: a name, a name with settings, or the function itself."""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

from pruning import catalogue
from pruning.errors import PruningError, unknown

Choice: TypeAlias = str | Mapping[str, Any] | Callable[..., Any]
"""A name, a mapping {"name": ..., **settings}, or the function itself."""


def resolve(axis: str, choice: Choice, *, where: str = "") -> Callable[..., Any]:
    """Return the function that `choice` means on `axis`, its settings bound.

    Raises `PruningError` for an unknown name, a setting that the function does not have and one
    that it asks for and nobody gives, for functions from outside the package too.
    """
    if callable(choice):
        return choice
    settings = {"name": choice} if isinstance(choice, str) else dict(choice)
    name = settings.pop("name", None)
    origin = f"{where}: " if where else ""
    if not isinstance(name, str):
        raise PruningError(f"{origin}{axis} {choice!r} has no 'name'")
    catalogue.check(axis, name, settings, where=where)
    function = catalogue.find(axis, name, where=where)
    known = _settings(function)
    for setting in settings:
        if setting not in known:
            raise unknown(f"setting of {axis} {name!r}", setting, known or ["none"], where)
    for setting, default in known.items():
        if default is inspect.Parameter.empty and setting not in settings:
            raise PruningError(f"{origin}{axis} {name!r} needs a value for its setting {setting!r}")
    return partial(function, **settings) if settings else function


def _settings(function: Callable[..., Any]) -> dict[str, Any]:
    """Return the keyword-only parameters of a function with their defaults."""
    parameters = inspect.signature(function).parameters.values()
    return {p.name: p.default for p in parameters if p.kind is inspect.Parameter.KEYWORD_ONLY}


def name_of(choice: Choice) -> str:
    """Return what to call `choice` in a message."""
    if isinstance(choice, Mapping):
        return str(choice.get("name", dict(choice)))
    if isinstance(choice, partial):
        return name_of(choice.func)
    return choice if isinstance(choice, str) else getattr(choice, "__name__", repr(choice))
