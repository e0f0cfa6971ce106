"""What an epoch costs with our batches and training loop, against the bare loop on ready tensors.

    python -m benchmarks.epoch [FOLDER WITH MNIST] [--repetitions 7]

LeNet-300-100, batches of 128, no augmentation. The bare loop slices float tensors that were
normalised and shuffled beforehand; ours gathers uint8 images, normalises them and trains through
`pruning.training.fit`. Both see the same batches and must end with the same weights, bit for bit.
They alternate within one process; the ratio is the median of the ratios of each pair.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning import evidence, models
from pruning.datasets import Dataset, from_arrays, load
from pruning.errors import PruningError
from pruning.stream import steps_per_epoch, stream
from pruning.training import fit

BATCH_SIZE = 128
LEARNING_RATE = 0.1
GOAL = 1.5


def main() -> None:
    """Print the two medians and the ratio."""
    parser = argparse.ArgumentParser(description="an epoch of ours against the bare loop")
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("root", nargs="?", type=Path, default=default, help="folder with MNIST")
    parser.add_argument("--repetitions", type=int, default=7)
    arguments = parser.parse_args()
    data = mnist(arguments.root)
    images, labels = ready_batches(data)
    first = models.build({"factory": "lenet_300_100"})
    pairs = []
    for _ in range(arguments.repetitions + 1):
        bare, expected = timed(lambda model: bare_epoch(model, images, labels), first)
        ours, network = timed(lambda model: our_epoch(model, data), first)
        pairs.append((bare, ours))
        if not all(map(torch.equal, network.parameters(), expected.parameters())):
            raise SystemExit("the two loops ended with different weights: no fair comparison")
    report(pairs[1:])  # the first pair also pays for torch's late imports


def mnist(root: Path) -> Dataset:
    """Return MNIST, or random images of its shape, and say so, where it is not in `root`."""
    try:
        data = load("MNIST", root=root)
    except PruningError as error:
        print(f"SYNTHETIC DATA of MNIST's shape, because: {error}")
        draw = torch.Generator().manual_seed(0)
        images = torch.randint(0, 256, (60_000, 1, 28, 28), dtype=torch.uint8, generator=draw)
        labels = torch.randint(0, 10, (60_000,), generator=draw)
        return from_arrays(images, labels, test_images=images[:100], test_labels=labels[:100])
    print(f"MNIST from {root}, {len(data.images)} training images")
    return data


def our_batches(data: Dataset) -> Iterator[tuple[Tensor, Tensor]]:
    """Return the stream of the training images, from the first epoch on."""
    return stream(
        data.images, data.labels, batch_size=BATCH_SIZE, seed=0, mean=data.mean, std=data.std
    )


def ready_batches(data: Dataset) -> tuple[Tensor, Tensor]:
    """Return the stream's first epoch as one float tensor of images and one of labels."""
    steps = steps_per_epoch(len(data.images), BATCH_SIZE)
    batches = [batch for _, batch in zip(range(steps), our_batches(data), strict=False)]
    return torch.cat([images for images, _ in batches]), torch.cat(
        [labels for _, labels in batches]
    )


def bare_epoch(model: nn.Module, images: Tensor, labels: Tensor) -> None:
    """Forward, backward and SGD on slices, and nothing else."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    for start in range(0, len(images), BATCH_SIZE):
        optimizer.zero_grad()
        output = model(images[start : start + BATCH_SIZE])
        cross_entropy(output, labels[start : start + BATCH_SIZE]).backward()
        optimizer.step()


def our_epoch(model: nn.Module, data: Dataset) -> None:
    """Train the same epoch as the pipeline does."""
    optimizer = torch.optim.SGD(model.parameters(), lr=LEARNING_RATE)
    steps = steps_per_epoch(len(data.images), BATCH_SIZE)
    fit(model, our_batches(data), optimizer, evidence.cross_entropy, steps=steps)


def timed(epoch: Callable[[nn.Module], None], first: nn.Module) -> tuple[float, nn.Module]:
    """Return the seconds that `epoch` takes on a copy of `first`, and the copy."""
    model = deepcopy(first)
    start = time.perf_counter()
    epoch(model)
    return time.perf_counter() - start, model


def report(pairs: list[tuple[float, float]]) -> None:
    """Print medians, ratio and the number of threads that they hold for."""
    bare, ours = (median(column) for column in zip(*pairs, strict=True))
    ratios = sorted(ours / bare for bare, ours in pairs)
    print(
        f"torch {torch.__version__}, {torch.get_num_threads()} thread(s), {len(pairs)} repetitions"
    )
    print(f"bare loop   {bare:.3f} s an epoch (median)")
    print(f"fit, stream {ours:.3f} s an epoch (median)")
    print(
        f"ratio       {median(ratios):.3f} (median; {ratios[0]:.3f} to {ratios[-1]:.3f}),"
        f" goal: at most {GOAL}"
    )


if __name__ == "__main__":
    main()
