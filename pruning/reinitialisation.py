"""Give a whole network fresh weights: the control in which only the mask is kept."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.layouts import PLAIN, Layout, layouts
from pruning.prunables import prunable
from pruning.randomness import seeded


@torch.no_grad()
def reinitialise(
    model: nn.Module,
    initialization: Callable[[Tensor, torch.Generator], None],
    *,
    generator: torch.Generator,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw all of `model` anew, in place: its layers reset, then every weight by `initialization`.

    Biases and normalisations get their layer's own reset; a parameter that no layer resets (a bare
    nn.Parameter, such as a class token) stays as it is. `initialization` draws on the CPU, where
    `generator` is. With `masks` every output's weights are scaled by sqrt(fan in / kept fan in), so
    that its variance is as with all of them, and what is pruned is zero; without, masks are not
    looked at: apply them afterwards. Raises `PruningError` naming the layer that the initialization
    does not suit.

    Source: Frankle & Carbin 2019, section 2 (random reinitialisation as the control); the scaling
    by kept fan in is that of Evci et al. 2022, "Gradient Flow in Sparse Neural Networks".
    """
    masks = mask_tools.by_first_name(model, masks or {})
    with seeded(model, generator):
        _reset(model)
    for name, parameter in prunable(model).items():
        drawn = parameter.detach().cpu()
        try:
            initialization(drawn, generator)
        except PruningError as error:
            raise PruningError(f"layer {name!r}: {error}") from None
        parameter.copy_(drawn)
    weights = {name: model.get_parameter(name) for name in masks}
    places = layouts(model, weights)
    for name, weight in weights.items():
        scale_to_kept_fan_in(weight, masks[name], places[name])


def _reset(model: nn.Module) -> None:
    """Reset every layer, drawing from the global generators: layers take no other."""
    modules = [*model.modules()]
    layers = [getattr(module, "reset_parameters", None) for module in modules]
    # Attention's own name for it; it sets a bias of its projection too, so it comes after that.
    outer = [getattr(module, "_reset_parameters", None) for module in reversed(modules)]
    for reset in [*layers, *outer]:
        if callable(reset):
            reset()


@torch.no_grad()
def scale_to_kept_fan_in(weight: Tensor, mask: Tensor, layout: Layout = PLAIN) -> None:
    """Zero what `mask` prunes and scale each output's others by sqrt(fan in / kept), in place.

    A bias has no fan in: it is not scaled.

    >>> weight = torch.ones(2, 4)
    >>> scale_to_kept_fan_in(weight, torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).bool())
    >>> weight
    tensor([[2., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    mask = mask.to(weight.device)
    if weight.ndim < 2:
        weight.mul_(mask)
        return
    grouped = mask.reshape(layout.groups, -1, *mask.shape[1:])
    inner = [dim for dim in range(1, grouped.ndim) if dim != layout.output + 1]
    kept = grouped.sum(inner, keepdim=True).clamp(min=1)
    fan_in = mask.numel() // kept.numel()
    weight.mul_((grouped * (fan_in / kept).sqrt().to(weight.dtype)).flatten(0, 1))
