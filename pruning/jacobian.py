"""Singular values of the input-output Jacobian: how a network stretches signals."""

from collections.abc import Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves, tree_map

from pruning.errors import PruningError
from pruning.evidence import Evidence
from pruning.probing import first_batches, named, undisturbed
from pruning.prunables import prunable

METHOD = "jacobian"


def jacobian(
    model: nn.Module, inputs: Sequence[Any] | Mapping[str, Any], *, create_graph: bool = False
) -> Tensor:
    """Return the Jacobian of each example, (N, C, D): C outputs by D inputs, flattened.

    Dimension 0 of the inputs and of the first output counts examples, and no example may answer to
    another one's input, as is so in evaluation mode. One backward pass for each output: the same
    cost as vmap over jacrev, and recurrent layers and attention work too. Integer inputs are left
    alone; raises `PruningError` where none is floating point.
    """
    given = tree_map(lambda leaf: _leaf(leaf), inputs)
    sources = [leaf for leaf in tree_leaves(given) if _is_float(leaf)]
    if not sources:
        raise PruningError(
            f"{METHOD!r}: {type(model).__name__} has no floating-point input to derive by"
        )
    output = model(**given) if isinstance(given, Mapping) else model(*given)
    outputs = next(leaf for leaf in tree_leaves(output) if _is_float(leaf))
    outputs = outputs.flatten(1) if outputs.ndim > 1 else outputs.reshape(-1, 1)
    if len(outputs) != len(sources[0]):
        raise PruningError(
            f"{METHOD!r}: {type(model).__name__} returns {len(outputs)} rows for "
            f"{len(sources[0])} examples"
        )
    rows = []
    for column in outputs.sum(0):
        slopes = torch.autograd.grad(
            column,
            sources,
            retain_graph=True,
            create_graph=create_graph,
            allow_unused=True,
            materialize_grads=True,
        )
        rows.append(torch.cat([slope.flatten(1) for slope in slopes], 1))
    return torch.stack(rows, 1)


def singular_values(
    model: nn.Module,
    evidence: Evidence,
    *,
    batches: int | None = None,
    examples: int | None = None,
) -> Tensor:
    """Return the singular values of the model's Jacobian, (N, min(C, D)), largest first.

    For the first `examples` of each of the first `batches` (None: all).

    Source: Lee et al. 2020, "A Signal Propagation Perspective for Pruning", section 3.
    """
    found = []
    with undisturbed(model, evidence.generator), named(METHOD, model):
        for batch in first_batches(evidence, METHOD, batches):
            inputs = first_examples(evidence.inputs(batch), examples)
            found.append(torch.linalg.svdvals(jacobian(model, inputs)))
    return torch.cat(found)


def layer_singular_values(
    model: nn.Module,
    evidence: Evidence,
    *,
    layers: Iterable[str] | None = None,
    examples: int | None = None,
) -> dict[str, Tensor]:
    """Return the singular values of each layer's own Jacobian, (N, min(C, D)) by module name.

    Taken at what reaches the layer when the first batch passes the network. `layers` are patterns
    of module names, blocks too; by default every layer with prunable weights. A wide convolution
    has as many rows as outputs: give few `examples`, or choose the layers.
    """
    modules = _modules(model, layers)
    batch = first_batches(evidence, METHOD, 1)[0]
    reached: dict[str, tuple[tuple[Any, ...], dict[str, Any]]] = {}
    handles = [
        module.register_forward_pre_hook(_catching(name, reached), with_kwargs=True)
        for name, module in modules.items()
    ]
    with undisturbed(model, evidence.generator), named(METHOD, model):
        try:
            with torch.no_grad():
                evidence.run(model, batch)
        finally:
            for handle in handles:
                handle.remove()
        return {
            name: torch.linalg.svdvals(_layer_jacobian(modules[name], *reached[name], examples))
            for name in modules
            if name in reached
        }


def statistics(values: Tensor) -> dict[str, float]:
    """Return mean, smallest, largest and standard deviation of singular values."""
    return {
        "mean": float(values.mean()),
        "min": float(values.min()),
        "max": float(values.max()),
        "std": float(values.std(unbiased=False)),
    }


def first_examples(inputs: Any, examples: int | None) -> Any:
    """Return the first `examples` of every tensor in `inputs` (None: all)."""
    return tree_map(lambda leaf: leaf[:examples] if isinstance(leaf, Tensor) else leaf, inputs)


def _modules(model: nn.Module, layers: Iterable[str] | None) -> dict[str, nn.Module]:
    named_modules = dict(model.named_modules())
    if layers is None:
        owners = dict.fromkeys(name.rpartition(".")[0] for name in prunable(model))
        return {name: named_modules[name] for name in owners}
    found: dict[str, nn.Module] = {}
    for pattern in layers:
        matches = {n: m for n, m in named_modules.items() if n and fnmatchcase(n, pattern)}
        if not matches:
            choices = ", ".join(name for name in named_modules if name)
            raise PruningError(f"pattern {pattern!r} matches no module; choose from {choices}")
        found |= matches
    return found


def _catching(name: str, reached: dict[str, tuple[tuple[Any, ...], dict[str, Any]]]) -> Any:
    def catch(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        reached.setdefault(name, (args, kwargs))

    return catch


def _layer_jacobian(
    module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any], examples: int | None
) -> Tensor:
    def call(*inputs: Any) -> Any:
        return module(*inputs, **first_examples(kwargs, examples))

    return jacobian(_Call(call), first_examples(args, examples))


class _Call(nn.Module):
    """A function as a module, for what asks for one."""

    def __init__(self, function: Any) -> None:
        super().__init__()
        self.function = function

    def forward(self, *inputs: Any) -> Any:
        return self.function(*inputs)


def _leaf(leaf: Any) -> Any:
    return leaf.detach().clone().requires_grad_() if _is_float(leaf) else leaf


def _is_float(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()
