"""Plain networks with their published sizes, and building any network from its description."""

import inspect
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pruning import catalogue
from pruning.errors import PruningError, first_line, unknown
from pruning.models import _torchvision

if TYPE_CHECKING:
    from torch import nn

TORCHVISION = "torchvision:"


def names() -> list[str]:
    """Return the names of the package's own networks; this imports no torch."""
    return list(catalogue.entries("model"))


def build(spec: Mapping[str, Any], *, foreign: bool = False) -> "nn.Module":
    """Return the network that `spec` describes: {"factory": NAME, **keyword arguments}.

    NAME is one of `names()`, `torchvision:NAME` with `num_classes` (weights are never fetched), or,
    only with `foreign=True` since it runs another package's code, `package.module:factory`, looked
    for in the current directory too. Raises `PruningError` for an unknown name or argument, and for
    a factory that fails or makes no nn.Module.
    """
    if not isinstance(spec, Mapping) or not isinstance(spec.get("factory"), str):
        raise PruningError(f"model {spec!r} names no factory")
    arguments = dict(spec)
    name = arguments.pop("factory")
    if ":" in name and not name.startswith(TORCHVISION) and not foreign:
        raise PruningError(
            f"model factory {name!r} is another package's code; say foreign=True to run it"
        )
    with _current_directory():
        factory = _factory(name)
        _check_arguments(name, factory, arguments)
        return _called(name, factory, arguments)


def _factory(name: str) -> Callable[..., Any]:
    if name.startswith(TORCHVISION):
        return _torchvision.factory(name.removeprefix(TORCHVISION))
    if ":" not in name and name not in names():
        choices = [*names(), "torchvision:NAME", "package.module:factory"]
        raise unknown("model", name, choices)
    return catalogue.find("model", name)


def _check_arguments(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    if name.startswith(TORCHVISION):
        known = _torchvision.accepted(name.removeprefix(TORCHVISION))
    else:
        try:
            parameters = inspect.signature(factory).parameters
        except ValueError:  # built-in callables need not have one
            return
        if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
            return
        known = list(parameters)
    for argument in arguments:
        if argument not in known:
            raise unknown(f"argument of model {name!r}", argument, known or ["none"])


def _called(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> "nn.Module":
    from torch import nn

    try:
        model = factory(**arguments)
    except PruningError:
        raise
    except Exception as error:
        raise PruningError(f"model {name!r} with {arguments} {_failure(error)}") from error
    if not isinstance(model, nn.Module):
        raise PruningError(
            f"model factory {name!r} returned a {type(model).__name__}, no nn.Module"
        )
    return model


def _failure(error: Exception) -> str:
    """Return in one line what went wrong and, within the factory, where."""
    frames = traceback.extract_tb(error.__traceback__)[1:]
    place = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    said = first_line(error)
    return f"cannot be built: {type(error).__name__}: {said}{place}"


@contextmanager
def _current_directory() -> Iterator[None]:
    """Let imports look in the current directory last, where `python -m` looks first.

    A factory beside params.yaml is then found from a script or a notebook elsewhere as well.
    """
    here = str(Path.cwd())
    if {"", here} & set(sys.path):
        yield
        return
    sys.path.append(here)
    try:
        yield
    finally:
        sys.path.remove(here)
