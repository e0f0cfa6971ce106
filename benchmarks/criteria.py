"""What SNIP and SynFlow cost, against the forward and backward passes that they cannot do without.

    python -m benchmarks.criteria [--repetitions 5]

One thread, in processor time, so that what else runs on the machine counts little. The bare passes
run on the same network in the same precision (float64 for SynFlow, as its paper) and end with fresh
gradients; the two take turns, and the ratio is the median of the ratios of each pair. The goal is
at most 1.3 on every network. Hardest is SynFlow on images of 32 x 32: a pass over one of them does
little more than read each weight once, and scoring reads it too.
"""

import argparse
import copy
import time
from collections.abc import Callable
from statistics import median

import torch
from torch import nn
from torch.nn.functional import cross_entropy

from pruning import Evidence, classification, score
from pruning.models import build

GOAL = 1.3
NETWORKS = (("resnet20", 32, 64), ("vgg16_bn", 32, 32), ("torchvision:resnet50", 224, 4))
"""Factory, height of the images, images in a batch of SNIP."""


def main() -> None:
    """Print the medians and the ratios; exit with 1 above the goal."""
    parser = argparse.ArgumentParser(description="SNIP and SynFlow against their bare passes")
    parser.add_argument("--repetitions", type=int, default=5)
    repetitions = parser.parse_args().repetitions
    torch.set_num_threads(1)
    torch.manual_seed(0)
    print("criterion  network                    scoring  bare passes  ratio")
    reached = [
        max(snip(factory, size, examples, repetitions), synflow(factory, size, repetitions))
        for factory, size, examples in NETWORKS
    ]
    print(f"goal: at most {GOAL}")
    raise SystemExit(max(reached) > GOAL)


def snip(factory: str, size: int, examples: int, repetitions: int) -> float:
    """Return SNIP's ratio on two batches."""
    model = build({"factory": factory})
    shape = (examples, 3, size, size)
    data = [(torch.randn(shape), torch.randint(10, (examples,))) for _ in range(2)]
    bare_model = copy.deepcopy(model).eval()

    def bare() -> None:
        bare_model.zero_grad()
        for images, labels in data:
            cross_entropy(bare_model(images), labels).backward()

    return compare("snip", factory, bare, model, classification(data), repetitions)


def synflow(factory: str, size: int, repetitions: int) -> float:
    """Return SynFlow's ratio."""
    model = build({"factory": factory})
    evidence = classification([(torch.randn(1, 3, size, size), torch.zeros(1, dtype=torch.int64))])
    bare_model = copy.deepcopy(model).double().eval()
    ones = torch.ones(1, 3, size, size, dtype=torch.float64)

    def bare() -> None:
        bare_model.zero_grad()
        bare_model(ones).sum().backward()

    return compare("synflow", factory, bare, model, evidence, repetitions)


def compare(
    criterion: str,
    network: str,
    bare: Callable[[], None],
    model: nn.Module,
    evidence: Evidence,
    repetitions: int,
) -> float:
    """Print and return the median ratio of a criterion's time to that of its bare passes."""
    pairs = []
    for _ in range(repetitions + 1):
        passes = elapsed(bare)
        pairs.append((passes, elapsed(lambda: score(model, criterion, evidence=evidence))))
    ratio = median(scored / passes for passes, scored in pairs[1:])
    passes, scored = (1e3 * median(column) for column in zip(*pairs[1:], strict=True))
    print(f"{criterion:10} {network:24} {scored:7.0f} ms {passes:9.0f} ms {ratio:6.3f}", flush=True)
    return ratio


def elapsed(work: Callable[[], object]) -> float:
    """Return the seconds of processor time that `work` takes."""
    begin = time.process_time()
    work()
    return time.process_time() - begin


if __name__ == "__main__":
    main()
