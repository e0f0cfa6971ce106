"""The graph of a network, as torch.export sees it, with refusals that say what was wrong."""

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.utils._pytree import tree_leaves

from pruning.coupling.copies import Example, arguments, runnable, skeleton
from pruning.errors import PruningError


@dataclass(frozen=True)
class Exported:
    """A graph whose placeholders stand for the named parameters and buffers."""

    graph: fx.Graph
    names: Mapping[str, str]


def export(model: nn.Module, example: Example, *, training: bool = False) -> Exported:
    """Return the graph of `model` as it is run on the example inputs; the model is left as it is.

    It is recorded in one forward where that goes, and else, or where torch's internals no longer
    let it, made by torch.export, which lists the same operations and says best what is wrong.
    Raises `PruningError` for inputs on another device than the weights, inputs that the model
    refuses, and a forward that cannot be exported (control flow that depends on values).
    """
    args, kwargs = arguments(example)
    check_devices(model, example)
    # The fast path of attention is one opaque operation, which would pin all its heads.
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings(), torch.enable_grad():
            warnings.simplefilter("ignore")
            found = _recorded(model, args, kwargs, training)
            return found or _exported(skeleton(model).train(training), args, kwargs)
    except Exception as error:
        check_inputs(model, example)
        raise PruningError(
            f"{type(model).__name__} cannot be exported, so its channels cannot be followed and "
            f"it stays masked: {_line(error)}"
        ) from error
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def _recorded(
    model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], training: bool
) -> Exported | None:
    try:
        from pruning.coupling.recording import record

        return Exported(*record(model, args, kwargs, training=training))
    except Exception:
        return None


def _exported(model: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Exported:
    program = torch.export.export(model, args, kwargs, strict=False)
    signature = program.graph_signature
    return Exported(
        program.graph, {**signature.inputs_to_parameters, **signature.inputs_to_buffers}
    )


def check_devices(model: nn.Module, example: Example) -> None:
    """Refuse example inputs on another device than the weights."""
    homes = {tensor.device for tensor in (*model.parameters(), *model.buffers())}
    for leaf in tree_leaves(arguments(example)):
        if isinstance(leaf, Tensor) and homes and leaf.device not in homes:
            raise PruningError(
                f"example inputs are on {leaf.device}, the model is on "
                f"{', '.join(sorted(map(str, homes)))}"
            )


def check_inputs(model: nn.Module, example: Example) -> None:
    """Refuse example inputs on another device than the weights, and such as the model refuses."""
    check_devices(model, example)
    args, kwargs = arguments(example)
    try:
        with torch.no_grad():
            runnable(model)(*args, **kwargs)
    except Exception as error:
        shapes = [
            tuple(leaf.shape) if isinstance(leaf, Tensor) else leaf
            for leaf in tree_leaves((args, kwargs))
        ]
        raise PruningError(
            f"example inputs {shapes} do not run through {type(model).__name__}: {_line(error)}"
        ) from error


def _line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"
