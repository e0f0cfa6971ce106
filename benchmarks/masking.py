"""Masking one gradient by the compiled loop and by torch's bitwise and, by size and threads.

    python -m benchmarks.masking [--repetitions 40]

Before each, twelve megabytes are gone through, as a backward pass goes through more than a cache
holds. Medians in microseconds; up to `pruning.enforcement.SMALL` weights the loop is used.
"""

import argparse
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import Tensor, nn

from pruning import enforcement

SIZES = (14, 16, 18, 20, 22, 24)
"""Powers of two of weights."""


def main() -> None:
    """Print a line a size and number of threads."""
    parser = argparse.ArgumentParser(description="masking a gradient, compiled and by torch")
    parser.add_argument("--repetitions", type=int, default=40)
    repetitions = parser.parse_args().repetitions
    if enforcement._clearing is None:
        raise SystemExit("error: nothing to compare: pip found no C compiler at installation")
    enforcement.SMALL = 1 << max(SIZES)
    print(f"{'threads':>7} {'weights':>10} {'torch':>8} {'compiled':>8} {'ratio':>6}")
    for threads in (1, 2):
        torch.set_num_threads(threads)
        for size in SIZES:
            torch_s, compiled_s = measured(1 << size, repetitions)
            ratio = compiled_s / torch_s
            told = f"{1e6 * torch_s:8.0f} {1e6 * compiled_s:8.0f} {ratio:6.2f}"
            print(f"{threads:7} {1 << size:10} {told}")


def measured(weights: int, repetitions: int) -> tuple[float, float]:
    """Return the median seconds that torch and the compiled loop take, in turn."""
    parameter, gradient = nn.Parameter(torch.randn(weights)), torch.randn(weights)
    parameter.grad = gradient
    kept = enforcement.bits(torch.rand(weights) > 0.9, parameter)
    compiled, others = enforcement._masking(kept), torch.randn(3_000_000)
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(repetitions):
        times[0].append(_timed(lambda: enforcement.clear(gradient, kept), others))
        times[1].append(_timed(lambda: compiled(parameter), others))
    return median(times[0]), median(times[1])


def _timed(masked: Callable[[], None], others: Tensor) -> float:
    others.neg_()
    begin = time.perf_counter()
    masked()
    return time.perf_counter() - begin


if __name__ == "__main__":
    main()
