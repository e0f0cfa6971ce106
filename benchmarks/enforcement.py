"""What holding masks costs a training step, against the same step without: LeNet-300-100.

    python -m benchmarks.enforcement [--repetitions 100] [--steps 20]

Batches of 128, SGD with momentum and weight decay, one thread, masks that prune 90 % of every
layer. The two networks train in one process and take turns; the ratio is the median of the ratios
of each pair, the goal at most 1.05.
"""

import argparse
import time
from copy import deepcopy
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning.enforcement import enforced
from pruning.pruner import prune

GOAL = 1.05


def main() -> None:
    """Print the medians and the ratio; exit with 1 above the goal."""
    parser = argparse.ArgumentParser(description="a step under enforced masks against a dense one")
    parser.add_argument("--repetitions", type=int, default=100)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.randn(128, 784), torch.randint(0, 10, (128,))
    network = lenet()
    dense, held = deepcopy(network), deepcopy(network)
    plain, masked = momentum(dense), momentum(held)
    pairs = []
    with enforced(held, masked, prune(held, 0.9, allocation="layerwise")):
        for _ in range(arguments.repetitions + 1):
            one = step_time(dense, plain, images, labels, arguments.steps)
            pairs.append((one, step_time(held, masked, images, labels, arguments.steps)))
    report(pairs[1:])  # the first pair also pays for torch's late imports


def lenet() -> nn.Module:
    """Return LeNet-300-100 (LeCun et al. 1998)."""
    layers = (nn.Linear(784, 300), nn.ReLU(), nn.Linear(300, 100), nn.ReLU(), nn.Linear(100, 10))
    return nn.Sequential(*layers)


def momentum(model: nn.Module) -> torch.optim.Optimizer:
    """Return the optimizer that keeps state for every weight."""
    return torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)


def step_time(
    model: nn.Module, optimizer: torch.optim.Optimizer, images: Tensor, labels: Tensor, steps: int
) -> float:
    """Return the median time of a step in seconds."""
    times = []
    for _ in range(steps):
        begin = time.perf_counter()
        optimizer.zero_grad()
        cross_entropy(model(images), labels).backward()
        optimizer.step()
        times.append(time.perf_counter() - begin)
    return median(times)


def report(pairs: list[tuple[float, float]]) -> None:
    """Print what was measured."""
    dense = median(pair[0] for pair in pairs)
    held = median(pair[1] for pair in pairs)
    ratio = median(pair[1] / pair[0] for pair in pairs)
    print(f"dense step     {1e3 * dense:.3f} ms")
    print(f"enforced step  {1e3 * held:.3f} ms")
    print(f"ratio          {ratio:.3f} (goal: at most {GOAL})")
    raise SystemExit(ratio > GOAL)


if __name__ == "__main__":
    main()
