"""torchvision's networks by name, never with weights from the network."""

import importlib
import inspect
from collections.abc import Callable
from functools import partial
from typing import Any, get_type_hints

from pruning.errors import unknown

ONE_OUTPUT = {"aux_logits": False, "init_weights": False}
"""Logits alone in training too, where the auxiliary heads would return a tuple; and PyTorch's own
initialisation, lest torchvision warns that its default will change."""

DEFAULTS = {"googlenet": ONE_OUTPUT, "inception_v3": ONE_OUTPUT}
REFUSED = {"self", "weights", "weights_backbone", "progress"}


def factory(name: str) -> Callable[..., Any]:
    """Return the factory of torchvision's network `name`, set to load no weights.

    Raises `PruningError` with torchvision's names where there is no such network.
    """
    models = importlib.import_module("torchvision.models")
    if name not in models.list_models():
        raise unknown("torchvision model", name, models.list_models())
    builder = models.get_model_builder(name)
    # A detector or a segmentation network would fetch its backbone's weights by default.
    backbone = {"weights_backbone"} & inspect.signature(builder).parameters.keys()
    unfetched = dict.fromkeys({"weights", *backbone})
    return partial(builder, **unfetched, **DEFAULTS.get(name.removeprefix("quantized_"), {}))


def accepted(name: str) -> list[str]:
    """Return the arguments that network `name` knows.

    torchvision hands all others on to the network's class, and ConvNeXt among others swallows
    there what it does not know: a misspelt `num_classes` would go unnoticed.
    """
    builder = importlib.import_module("torchvision.models").get_model_builder(name)
    classes = get_type_hints(builder)["return"].__mro__
    found = [builder, *(one.__init__ for one in classes if "__init__" in vars(one))]
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    arguments = {
        parameter.name: None
        for function in found
        for parameter in inspect.signature(function).parameters.values()
        if parameter.kind in named
    }
    return [argument for argument in arguments if argument not in REFUSED]
