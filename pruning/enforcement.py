"""May a pruned weight come back: hold masks through any training loop, from outside the model."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.types import Masks

try:
    from pruning import _clearing
except ImportError:  # installed where there was no C compiler
    _clearing = None  # type: ignore[assignment]

ZERO_PRESERVING = (
    torch.optim.SGD,
    torch.optim.Adam,
    torch.optim.AdamW,
    torch.optim.NAdam,
    torch.optim.RAdam,
    torch.optim.RMSprop,
)
"""Optimizers that work on each weight alone and map (weight, gradient, state) = 0 to 0.

Under these, masked gradients are enough once weights and state are clean, weight decay included,
which makes enforcement three times cheaper. Not so Adagrad (its state may start above zero),
Adafactor, LBFGS or Muon (they mix weights): what is not listed is cleaned after every step.
"""

SMALL = 1 << 20
"""Weights of a layer up to which one compiled loop is as fast as torch on two threads.

`python -m benchmarks.masking` prints both by size; beyond it, and with more threads, torch gains.
"""

_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}


class Enforcement:
    """Masks that are being held; `replace` changes them in the middle of training."""

    def __init__(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """Hold nothing yet."""
        self._model = model
        self._optimizer = optimizer
        self._masks: Masks = {}
        self._bits: list[tuple[nn.Parameter, Tensor]] = []
        self._handles: list[RemovableHandle] = []

    @property
    def masks(self) -> Masks:
        """The masks held now."""
        return dict(self._masks)

    def replace(self, masks: Mapping[str, Tensor]) -> None:
        """Hold `masks` from now on.

        What they prune becomes zero with its gradient and the optimizer's state; what they give
        back starts at zero with clean state, as it was held until now. A layer that is absent is
        held no more. Raises `PruningError` for masks that do not fit the model.
        """
        mask_tools.check(masks, self._model)
        params = dict(self._model.named_parameters(remove_duplicate=False))
        self.release()
        self._masks = dict(masks)
        self._bits = [(params[name], bits(mask, params[name])) for name, mask in masks.items()]
        self._clean()
        for parameter, kept in self._bits:
            if parameter.grad is not None:
                clear(parameter.grad, kept)
            if parameter.requires_grad:
                hook = parameter.register_post_accumulate_grad_hook(_masking(kept))  # type: ignore[no-untyped-call]
                self._handles.append(hook)
        if type(self._optimizer) not in ZERO_PRESERVING:
            clean = self._optimizer.register_step_post_hook(lambda *_: self._clean())
            self._handles.append(clean)

    def release(self) -> None:
        """Hold nothing any more; weights and state stay as they are."""
        for handle in self._handles:
            handle.remove()
        self._handles.clear()

    @torch.no_grad()
    def _clean(self) -> None:
        for parameter, kept in self._bits:
            clear(parameter, kept)
            # `state` is a defaultdict: asking for an absent key would create it.
            state: dict[str, Any] = self._optimizer.state.get(parameter, {})
            for value in state.values():
                if isinstance(value, Tensor) and value.shape == parameter.shape:
                    clear(value, kept if value.dtype == parameter.dtype else bits(kept, value))


@contextmanager
def enforced(
    model: nn.Module, optimizer: torch.optim.Optimizer, masks: Mapping[str, Tensor]
) -> Iterator[Enforcement]:
    """Keep every pruned weight at zero while any loop trains `model` with `optimizer`.

    On entry the pruned weights and the optimizer's state at their places become zero: momentum from
    before would revive them. Their gradients are zeroed as they arrive, so that clipping sees the
    sparse network only; after each step of an optimizer that is not known to keep zeros at zero,
    weights and state are zeroed again. What it yields can `replace` the masks in mid-training. On
    exit every pruned weight is checked, and `PruningError` raised where one is not zero. The
    model's names, module hooks and `deepcopy` are untouched.
    """
    held = Enforcement(model, optimizer)
    held.replace(masks)
    try:
        yield held
    finally:
        held.release()
    mask_tools.verify(model, held.masks)


def bits(mask: Tensor, like: Tensor) -> Tensor:
    """Return integers of the width of `like`, all ones where `mask` is not zero, else zero.

    A bitwise and with them costs less than a multiplication and, unlike it, makes zero of an
    infinite or NaN gradient too (float16 overflows).
    """
    if like.element_size() not in _BITS or like.is_complex():
        raise PruningError(f"weights of {like.dtype} cannot be masked; choose a real float dtype")
    kept = mask if mask.dtype == torch.bool else mask != 0
    kept = kept.to(like.device, _BITS[like.element_size()])
    # In the memory layout of the weight (channels last), so that neither is walked across.
    return torch.empty_like(like, dtype=kept.dtype).copy_(kept.neg_())


def clear(value: Tensor, kept: Tensor) -> None:
    """Zero in place what the integers of `bits` do not keep; a NaN too."""
    value.detach().view(kept.dtype).bitwise_and_(kept)


def _masking(kept: Tensor) -> Callable[[Tensor], None]:
    """Return the hook that zeroes what `kept` does not keep of a gradient that has arrived."""

    def mask_gradient(parameter: Tensor) -> None:
        if parameter.grad is not None:
            clear(parameter.grad, kept)

    if _clearing is None or not kept.is_cpu or kept.dtype != torch.int32 or kept.numel() > SMALL:
        return mask_gradient
    clear_at, count, shape, strides = _clearing.clear, kept.numel(), kept.shape, kept.stride()
    in_memory = kept.as_strided((count,), (1,)).numpy()  # its order, whatever the strides are
    packed = torch.from_numpy(np.packbits(in_memory != 0, bitorder="little"))

    def mask_small_gradient(parameter: Tensor) -> None:
        gradient = parameter.grad
        if (
            type(gradient) is Tensor
            and gradient.is_cpu
            and gradient.dtype is torch.float32
            and gradient.shape == shape
            and gradient.stride() == strides
            and not gradient.requires_grad  # autograd is to see what changes a recorded one
        ):
            clear_at(gradient.data_ptr(), packed.data_ptr(), count)
        else:
            mask_gradient(parameter)

    return mask_small_gradient
