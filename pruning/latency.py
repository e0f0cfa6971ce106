"""Time and memory of a forward: medians after a warm-up, all candidates side by side."""

import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import ceil
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pruning.coupling.copies import Example, arguments, runnable
from pruning.errors import PruningError

Call = Callable[[], Any]
"""One forward, its input already at hand."""


@dataclass(frozen=True)
class Latency:
    """Seconds of one call: the median, the quartiles around it, and what was measured how."""

    median: float
    low: float
    """The lower quartile."""
    high: float
    """The upper quartile."""
    calls: int
    """How many calls were timed."""
    warmup: int
    """How many calls went before them, untimed."""
    threads: int
    """The threads that torch had for one operation."""


def compare(
    calls: Mapping[str, Call],
    *,
    repeats: int = 30,
    warmup: int = 5,
    seconds: float = 0.0,
    threads: int = 1,
    device: str | torch.device = "cpu",
) -> dict[str, Latency]:
    """Return how long each call takes, by its name, on `threads` threads.

    Each is warmed up; then they take turns, so that whatever else the machine does slows all of
    them alike, until each has been timed `repeats` times and `seconds` of it have been seen. On a
    CUDA device each call is timed to the end of its kernels. The number of torch's threads is put
    back at the end.
    """
    for name, value in (("repeats", repeats), ("warmup", warmup), ("threads", threads)):
        if value < 1:
            raise PruningError(f"{name} {value!r}: give a whole number from 1 on")
    synchronise = _synchroniser(torch.device(device))
    names = list(calls)
    times: dict[str, list[float]] = {name: [] for name in names}
    with torch.no_grad(), threads_of(threads):
        slowest = max((_warm(call, warmup, synchronise) for call in calls.values()), default=1.0)
        for turn in range(max(repeats, ceil(seconds / slowest))):
            # Every other turn backwards, so that none is always timed after the same one.
            for name in names if turn % 2 else reversed(names):
                times[name].append(_time(calls[name], synchronise))
    return {name: _summary(found, warmup, threads) for name, found in times.items()}


def forward(model: nn.Module, example_inputs: Example) -> Call:
    """Return the eval-mode forward of `model` on the example; the model is left as it is."""
    trial = runnable(model)
    args, kwargs = arguments(example_inputs)
    return partial(trial, *args, **kwargs)


@contextmanager
def threads_of(threads: int) -> Iterator[None]:
    """Let torch use this many threads for one operation, and put back what it had."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _synchroniser(device: torch.device) -> Call:
    if device.type == "cuda":
        return partial(torch.cuda.synchronize, device)
    return lambda: None


def _warm(call: Call, warmup: int, synchronise: Call) -> float:
    """Call `warmup` times; return the shortest time that was seen, in seconds."""
    return max(min(_time(call, synchronise) for _ in range(warmup)), 1e-9)


def _time(call: Call, synchronise: Call) -> float:
    start = perf_counter()
    call()
    synchronise()
    return perf_counter() - start


def _summary(times: list[float], warmup: int, threads: int) -> Latency:
    low, median, high = (float(each) for each in np.percentile(times, (25, 50, 75)))
    return Latency(median, low, high, len(times), warmup, threads)


@torch.no_grad()
def peak_activation_bytes(model: nn.Module, example_inputs: Example) -> int:
    """Return the most bytes of tensors alive at once in an eval-mode forward, weights not counted.

    Counted are the storages of the inputs and of all that operations return while something holds
    them; not what a kernel uses inside. The same on every machine. The model is left as it is.
    """
    trial = runnable(model)
    args, kwargs = arguments(example_inputs)
    weights = [*trial.parameters(), *trial.buffers()]
    watch = _Watch(weights)
    with watch:
        for leaf in tree_leaves((args, kwargs)):
            watch.see(leaf)
        trial(*args, **kwargs)
    return watch.peak


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that are alive, each once, but for those of the weights."""

    def __init__(self, weights: list[Tensor]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.known = {tensor.untyped_storage()._cdata for tensor in weights}
        self.alive: int = 0
        self.peak: int = 0

    def see(self, leaf: Any) -> None:
        """Count the storage of a tensor that is not known yet, until it goes."""
        if not isinstance(leaf, Tensor) or leaf.layout is not torch.strided:
            return
        storage = leaf.untyped_storage()
        if storage._cdata in self.known:
            return
        self.known.add(storage._cdata)
        self.alive += storage.nbytes()
        self.peak = max(self.peak, self.alive)
        weakref.finalize(storage, self._gone, storage._cdata, storage.nbytes())

    def _gone(self, storage: int, size: int) -> None:
        self.known.discard(storage)
        self.alive -= size

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(found):
            self.see(leaf)
        return found
