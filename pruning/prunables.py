"""Which parameters are up for pruning."""

from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase

from torch import nn

from pruning.errors import PruningError

WEIGHTED = (
    nn.Linear,
    nn.Bilinear,
    nn.modules.conv._ConvNd,
    nn.RNNBase,
    nn.RNNCellBase,
    nn.Embedding,
    nn.EmbeddingBag,
    nn.MultiheadAttention,
)
"""The modules whose matrices and kernels are pruned unless patterns say otherwise."""


def prunable(
    model: nn.Module, *, only: Iterable[str] | None = None, skip: Iterable[str] = ()
) -> dict[str, nn.Parameter]:
    """Return the parameters up for pruning by dotted name, in the order of the model.

    By default every trainable matrix or kernel of a layer; never a bias, a normalisation or a
    frozen parameter. `only` names others by patterns (`classifier.*`, `*.weight`), bare
    nn.Parameters too; `skip` takes away. A weight used twice appears once, under its first name.
    Raises `PruningError` for a pattern that matches nothing, and where nothing is left.
    """
    everything = dict(model.named_parameters())
    chosen = _matching(everything, only) if only is not None else list(_weights(model))
    skipped = set(_matching(everything, skip))
    params = {name: everything[name] for name in chosen if name not in skipped}
    if not params:
        raise PruningError(
            f"{type(model).__name__} has nothing to prune: of its parameters {list(everything)} "
            f"only={only!r} and skip={tuple(skip)!r} leave none"
        )
    return params


def _weights(model: nn.Module) -> Iterator[str]:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    seen = set()
    for module in model.modules():
        if not isinstance(module, WEIGHTED):
            continue
        for parameter in module.parameters(recurse=False):
            wanted = parameter.ndim >= 2 and parameter.requires_grad
            if wanted and id(parameter) not in seen and parameter.is_floating_point():
                seen.add(id(parameter))
                yield names[id(parameter)]


def _matching(names: Iterable[str], patterns: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        matches = [name for name in names if fnmatchcase(name, pattern)]
        if not matches:
            raise PruningError(
                f"pattern {pattern!r} matches no parameter; choose from {', '.join(names)}"
            )
        found |= dict.fromkeys(matches)
    return [name for name in names if name in found]
