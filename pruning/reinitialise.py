"""Give a whole network fresh weights: the control in which only the mask is kept."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pruning.prunable import prunable


@torch.no_grad()
def reinitialise(
    model: nn.Module,
    initialization: Callable[[Tensor, torch.Generator], None],
    *,
    generator: torch.Generator,
) -> None:
    """Draw all of `model` anew, in place: its layers reset, then every weight by `initialization`.

    Biases and normalisations get their layer's own reset. Masks are not looked at: apply them
    afterwards.

    Source: Frankle & Carbin 2019, section 2 (random reinitialisation as the control).
    """
    with torch.random.fork_rng(devices=[]):
        # reset_parameters draws from the global generator and takes no other.
        torch.manual_seed(int(torch.randint(2**31, (1,), generator=generator)))
        for module in model.modules():
            reset = getattr(module, "reset_parameters", None)
            if callable(reset):
                reset()
    for parameter in prunable(model).values():
        initialization(parameter, generator)
