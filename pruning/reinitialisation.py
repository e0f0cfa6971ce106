"""Give a whole network fresh weights: the control in which only the mask is kept."""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.prunables import prunable


@torch.no_grad()
def reinitialise(
    model: nn.Module,
    initialization: Callable[[Tensor, torch.Generator], None],
    *,
    generator: torch.Generator,
    masks: Mapping[str, Tensor] | None = None,
) -> None:
    """Draw all of `model` anew, in place: its layers reset, then every weight by `initialization`.

    Biases and normalisations get their layer's own reset. With `masks` every output's weights are
    scaled by sqrt(fan in / kept fan in), so that its variance is as with all of them, and what is
    pruned is zero; without, masks are not looked at: apply them afterwards. Raises `PruningError`
    naming the layer that the initialization does not suit.

    Source: Frankle & Carbin 2019, section 2 (random reinitialisation as the control); the scaling
    by kept fan in is that of Evci et al. 2022, "Gradient Flow in Sparse Neural Networks".
    """
    mask_tools.check(masks or {}, model)
    with torch.random.fork_rng(devices=[]):
        # reset_parameters draws from the global generator and takes no other.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    for name, parameter in prunable(model).items():
        try:
            initialization(parameter, generator)
        except PruningError as error:
            raise PruningError(f"layer {name!r}: {error}") from None
    for name, mask in (masks or {}).items():
        scale_to_kept_fan_in(model.get_parameter(name), mask)


@torch.no_grad()
def scale_to_kept_fan_in(weight: Tensor, mask: Tensor) -> None:
    """Zero what `mask` prunes and scale each output's others by sqrt(fan in / kept), in place.

    >>> weight = torch.ones(2, 4)
    >>> scale_to_kept_fan_in(weight, torch.tensor([[1, 0, 0, 0], [1, 1, 1, 1]]).bool())
    >>> weight
    tensor([[2., 0., 0., 0.],
            [1., 1., 1., 1.]])
    """
    mask = mask.to(weight.device)
    kept = mask.flatten(1).sum(1).clamp(min=1)
    factor = (mask[0].numel() / kept).sqrt().to(weight.dtype)
    weight.mul_(mask * factor.view(-1, *[1] * (weight.ndim - 1)))
