"""What holding masks costs a training step, against the same step without: LeNet-300-100.

    python -m benchmarks.enforcement [--by clear] [--layouts 15] [--repetitions 10] [--steps 20]

Batches of 128, SGD with momentum and weight decay, one thread, masks that prune 90 % of every
layer. The two networks train in one process and take turns; the ratio is the median of the ratios
of each pair, the goal at most 1.05. They are laid out in memory anew several times and take turns
at who begins, as where tensors lie and who comes first move the ratio by 2 %; that of a second
dense network to the first is printed beside it and should be 1. `--by plain` holds the masks as on
a processor without AVX2, `--by torch` as where pip found no C compiler.
"""

import argparse
import time
from copy import deepcopy
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning import enforcement
from pruning.enforcement import enforced
from pruning.pruner import prune

GOAL = 1.05


def main() -> None:
    """Print the medians and the ratio; exit with 1 above the goal."""
    parser = argparse.ArgumentParser(description="a step under enforced masks against a dense one")
    parser.add_argument("--by", default="clear", choices=("clear", "plain", "torch"))
    parser.add_argument("--layouts", type=int, default=15)
    parser.add_argument("--repetitions", type=int, default=10)
    parser.add_argument("--steps", type=int, default=20)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    images, labels = torch.randn(128, 784), torch.randint(0, 10, (128,))
    hold_by(arguments.by)
    network, times = lenet(), []
    for _ in range(arguments.layouts):
        times += measured(network, images, labels, arguments.repetitions, arguments.steps)
    report(times)


def hold_by(loop: str) -> None:
    """Have masks held by a loop of the compiled module, or by torch."""
    if loop == "torch":
        enforcement._clearing = None
    elif enforcement._clearing is None:
        raise SystemExit("error: masks are held by torch here: pip found no C compiler; --by torch")
    else:
        enforcement._clearing.clear = getattr(enforcement._clearing, loop)


def measured(
    network: nn.Module, images: Tensor, labels: Tensor, repetitions: int, steps: int
) -> list[tuple[float, ...]]:
    """Return the times of a step of copies of the network: dense, under masks, and dense again."""
    copies = [deepcopy(network) for _ in range(3)]
    optimizers = [momentum(each) for each in copies]
    held, times = copies[1], []
    with enforced(held, optimizers[1], prune(held, 0.9, allocation="layerwise")):
        for repetition in range(repetitions + 1):
            found = [0.0] * 3
            for at in (0, 1, 2) if repetition % 2 else (2, 1, 0):
                found[at] = step_time(copies[at], optimizers[at], images, labels, steps)
            times.append(tuple(found))
    return times[1:]  # the first also pays for torch's late imports and new memory


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


def report(times: list[tuple[float, ...]]) -> None:
    """Print what was measured; exit with 1 above the goal."""
    dense, held, _ = (1e3 * median(column) for column in zip(*times, strict=True))
    ratio = median(masked / plain for plain, masked, _ in times)
    control = median(again / plain for plain, _, again in times)
    print(f"dense step     {dense:.3f} ms")
    print(f"enforced step  {held:.3f} ms")
    print(f"ratio          {ratio:.3f} (goal: at most {GOAL}; of two dense networks {control:.3f})")
    raise SystemExit(ratio > GOAL)


if __name__ == "__main__":
    main()
