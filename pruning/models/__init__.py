"""Plain networks with their published sizes, and building any network from its description."""

import importlib
import inspect
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from pruning import catalogue
from pruning.errors import PruningError, unknown

if TYPE_CHECKING:
    from torch import nn

QUIET = {"googlenet": {"init_weights": False}, "inception_v3": {"init_weights": False}}
"""What torchvision's factories want said, lest they warn."""


def names() -> list[str]:
    """Return the names of the package's own networks; this imports no torch."""
    return list(catalogue.entries("model"))


def build(spec: Mapping[str, Any], *, foreign: bool = False) -> "nn.Module":
    """Return the network that `spec` describes: {"factory": NAME, **keyword arguments}.

    NAME is one of `names()`, `torchvision:NAME` with `num_classes` (weights are never fetched), or,
    only with `foreign=True` since it runs another package's code, `package.module:factory`. Raises
    `PruningError` for an unknown name or argument and for a factory that makes no nn.Module.
    """
    from torch import nn

    arguments = dict(spec)
    name = arguments.pop("factory", None)
    if not isinstance(name, str):
        raise PruningError(f"model {dict(spec)!r} names no factory")
    factory = _factory(name, foreign)
    if name.startswith("torchvision:"):
        arguments = QUIET.get(name.partition(":")[2], {}) | arguments
    _check_arguments(name, factory, arguments)
    model = factory(**arguments)
    if not isinstance(model, nn.Module):
        raise PruningError(
            f"model factory {name!r} returned a {type(model).__name__}, no nn.Module"
        )
    return model


def _factory(name: str, foreign: bool) -> Callable[..., Any]:
    if name.startswith("torchvision:"):
        return _torchvision(name.removeprefix("torchvision:"))
    if ":" not in name:
        if name not in names():
            choices = [*names(), "torchvision:NAME", "package.module:factory"]
            raise unknown("model", name, choices)
        return catalogue.find("model", name)
    if not foreign:
        raise PruningError(
            f"model factory {name!r} is another package's code; say foreign=True to run it"
        )
    return catalogue.find("model", name)


def _torchvision(name: str) -> Callable[..., Any]:
    models = importlib.import_module("torchvision.models")
    if name not in models.list_models():
        raise unknown("torchvision model", name, models.list_models())
    return lambda **arguments: models.get_model(name, weights=None, **arguments)


def _check_arguments(name: str, factory: Callable[..., Any], arguments: Mapping[str, Any]) -> None:
    parameters = inspect.signature(factory).parameters
    if any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()):
        return
    for argument in arguments:
        if argument not in parameters:
            raise unknown(f"argument of model {name!r}", argument, parameters or ["none"])
