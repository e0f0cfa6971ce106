"""Multiply-adds, counted by running a network on an example."""

import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry

from pruning.coupling.copies import Example, arguments, runnable, watched


def macs_by_layer(model: nn.Module, example_inputs: Example) -> dict[str, int]:
    """Return the multiply-adds of one eval-mode forward, by the path of the module they run in.

    `example_inputs` is a tensor, a tuple of positional or a mapping of keyword arguments; counts
    are for its whole batch. Products count (linear, convolution, recurrence, attention); biases,
    norms and activations do not, as in the tables of He et al. 2016 and Li et al. 2017. Only
    modules that multiply are listed, "" is the network's own forward. The model stays as it is.
    """
    trial = runnable(model)
    args, kwargs = arguments(example_inputs)
    with torch.no_grad(), _plain_kernels(trial), watched(trial) as running:
        counter = _Counter(running)
        with counter:
            trial(*args, **kwargs)
    return dict(counter.found)


def macs(model: nn.Module, example_inputs: Example) -> int:
    """Return the multiply-adds of one eval-mode forward on the example, all layers together."""
    return sum(macs_by_layer(model, example_inputs).values())


class _Counter(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the multiply-adds of every operation for the module that runs it."""

    def __init__(self, running: list[str]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.running = running
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        formula = flop_registry.get(func.overloadpacket)
        if formula is not None:
            flops = formula(*args, **(kwargs or {}), out_val=result)
            self.found[self.running[-1] if self.running else ""] += flops // 2
        return result


@contextmanager
def _plain_kernels(model: nn.Module) -> Iterator[None]:
    """Let recurrence and attention run as the plain products that torch knows the size of."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with ExitStack() as stack:
            stack.enter_context(sdpa_kernel(SDPBackend.MATH))
            if any(isinstance(module, nn.RNNBase) for module in model.modules()):
                stack.enter_context(warnings.catch_warnings())
                warnings.simplefilter("ignore")  # oneDNN warns of TF32 when it is switched off
                stack.enter_context(torch.backends.mkldnn.flags(enabled=False))
                stack.enter_context(torch.backends.cudnn.flags(enabled=False))
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
