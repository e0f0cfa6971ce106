"""What a training step costs on a device, as it is, in bfloat16, and compiled.

    python -m benchmarks.step resnet20 --device cuda --compile reduce-overhead

One network of the package at 80 % sparsity with its masks held, batches of 128 random images drawn
and augmented as in a study, through `pruning.training.fit`. Prints the median step of each way and
its ratio to the first, float32 and not compiled; compiling itself is told apart.
"""

import argparse
import time
from itertools import pairwise
from statistics import median

import torch
from torch.nn.functional import cross_entropy

from pruning import models, prune
from pruning.enforcement import enforced
from pruning.stream import stream
from pruning.training import COMPILING, fit

BATCH, IMAGES, SIZES = 128, 5000, {"lenet": (1, 28, 28)}


def main() -> None:
    """Print a line a way."""
    parser = argparse.ArgumentParser(description="one training step, compiled and not")
    parser.add_argument("model", nargs="?", default="resnet20")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--compile", default="reduce-overhead", choices=COMPILING)
    parser.add_argument("--steps", type=int, default=300)
    given = parser.parse_args()
    if given.steps < 20:
        parser.error(
            f"--steps {given.steps}: ten in a row are timed after the tenth, so at least 20"
        )
    ways = [("float32", None), ("bfloat16", None), ("bfloat16", given.compile)]
    plain = 0.0
    for precision, mode in ways:
        begin, step = timed(given.model, given.device, precision, mode, given.steps)
        plain = plain or step
        how = f"{precision}, {mode or 'not compiled'}"
        print(f"{how:28} {step:7.3f} ms a step, {step / plain:.2f}; first step {begin:.1f} s")


def timed(
    name: str, device: str, precision: str, mode: str | None, steps: int
) -> tuple[float, float]:
    """Return the seconds of the first step and the median milliseconds of ten in a row after it."""
    torch.manual_seed(0)
    shape = next((size for start, size in SIZES.items() if name.startswith(start)), (3, 32, 32))
    model = models.build({"factory": name}).to(device)
    images = torch.randint(0, 256, (IMAGES, *shape), dtype=torch.uint8).to(device)
    labels = torch.randint(0, 10, (IMAGES,)).to(device)
    grey = [0.5] * shape[0]
    batches = stream(
        images,
        labels,
        batch_size=BATCH,
        seed=0,
        mean=grey,
        std=grey,
        augment=("crop", "flip") if shape[0] == 3 else (),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, weight_decay=2e-4)
    times = [time.perf_counter()]

    def watch(step: int, loss: torch.Tensor) -> None:
        if step == 1 or step % 10 == 0:
            loss.item()  # waits for the device
            times.append(time.perf_counter())

    with enforced(model, optimizer, prune(model, 0.8)):
        fit(
            model,
            batches,
            optimizer,
            lambda network, batch: cross_entropy(network(batch[0]), batch[1]),
            steps=steps,
            precision=precision,
            compile=mode,
            hooks=[watch],
        )
    tens = [100 * (after - before) for before, after in pairwise(times[2:])]
    return times[1] - times[0], median(tens)


if __name__ == "__main__":
    main()
