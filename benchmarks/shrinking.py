"""Shrinking against Torch-Pruning: groups of ResNet-50, ResNet-56 at half the MACs, memory.

    pip install -e '.[bench]'
    python -m benchmarks.shrinking [--repetitions 5] [--calls 15] [--only groups speed memory]

One thread, random weights, one process, what is compared taking turns.

groups: CPU seconds from network to all groups; the median of the ratios of each pair, goal: at most
2 times Torch-Pruning's. Wall time has the same ratio where nothing else runs.

speed: ResNet-56 on a batch of 32; of each layer the filters of largest L1 norm stay, counts on
multiples of 8, at the smallest sparsity that leaves at most half the MACs. Torch-Pruning is asked
for the same budget: with the same settings, with any count, and with one ranking of all layers.
Goals: at least 1.7 times as fast as dense, and no slower than the fastest of Torch-Pruning's three.

memory: the peak of resident memory that `shrink` adds with half of all groups masked, groups and
check included, in a fresh process, beside the size of the weights; goal: at most 2.
"""

import argparse
import copy
import subprocess
import sys
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

import torch
import torchvision
from torch import Tensor, nn

from pruning import channels, group_masks, score, shrink, sparsity_for
from pruning.latency import compare, forward
from pruning.macs import macs
from pruning.models import build
from pruning.prunables import prunable

BUDGET, MULTIPLE = 0.5, 8
GROUPS, FASTER, MEMORY = 2.0, 1.7, 2.0


def main() -> None:
    """Print what is asked for; exit with 1 beside a goal."""
    parser = argparse.ArgumentParser(description="shrinking against Torch-Pruning")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--calls", type=int, default=15, help="timed forwards of each network")
    parser.add_argument("--only", nargs="*", default=["groups", "speed", "memory"])
    parser.add_argument("--peak", help="only print the peak that shrinking this network adds, MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    if arguments.peak:
        print(peak_mebibytes(arguments.peak))
        return
    parts = {
        "groups": partial(report_groups, arguments.repetitions),
        "speed": partial(report_speed, arguments.calls),
        "memory": report_memory,
    }
    missed = [name for name in arguments.only if not parts[name]()]
    raise SystemExit(bool(missed))


def report_groups(repetitions: int) -> bool:
    """Print how long both take to find the groups of ResNet-50; return whether the goal is met."""
    import torch_pruning

    model = torchvision.models.resnet50(weights=None).eval()
    image = torch.randn(1, 3, 224, 224)

    def theirs() -> None:
        graph = torch_pruning.DependencyGraph().build_dependency(model, example_inputs=image)
        for _ in graph.get_all_groups(root_module_types=[nn.Conv2d, nn.Linear]):
            pass

    def ours() -> None:
        channels(model, image)

    pairs = [(cpu_seconds(theirs), cpu_seconds(ours)) for _ in range(repetitions + 1)][1:]
    ratio = median(own / peer for peer, own in pairs)
    print("groups of ResNet-50 at 224 x 224, CPU time")
    print(f"  Torch-Pruning   {1e3 * median(peer for peer, _ in pairs):.0f} ms")
    print(f"  channels        {1e3 * median(own for _, own in pairs):.0f} ms")
    print(f"  ratio           {ratio:.2f} (goal: at most {GROUPS:.0f})")
    return ratio <= GROUPS


def cpu_seconds(call: Callable[[], None]) -> float:
    """Return the CPU time of a call."""
    begin = time.process_time()
    call()
    return time.process_time() - begin


def report_speed(calls: int) -> bool:
    """Print how fast ResNet-56 at half its MACs is; return whether the goals are met."""
    torch.manual_seed(0)
    dense = build({"factory": "resnet56"}).eval()
    image = torch.randn(1, 3, 32, 32)
    networks = {
        "dense": dense,
        "shrink": ours_at_half(dense, image),
        "peer, same settings": theirs_at_half(dense, image, MULTIPLE),
        "peer, any count": theirs_at_half(dense, image, None),
        "peer, one ranking": theirs_at_half(dense, image, MULTIPLE, one_ranking=True),
    }
    batch = torch.randn(32, 3, 32, 32)
    calls_of = {name: forward(network, batch) for name, network in networks.items()}
    times = {name: each.median for name, each in compare(calls_of, repeats=calls).items()}
    print("ResNet-56, batch of 32, one thread")
    for name, network in networks.items():
        share, faster = macs(network, image) / macs(dense, image), times["dense"] / times[name]
        print(f"  {name:19s} {share:.3f} of the MACs, {1e3 * times[name]:.1f} ms, {faster:.2f} x")
    faster = times["dense"] / times["shrink"]
    peers = min(t for name, t in times.items() if name.startswith("peer")) / times["shrink"]
    print(f"  faster than dense   {faster:.2f} (goal: at least {FASTER})")
    print(f"  than the best peer  {peers:.2f} (goal: at least 1)")
    return faster >= FASTER and peers >= 1


def ours_at_half(model: nn.Module, image: Tensor) -> nn.Module:
    """Return what `shrink` makes of the network at the smallest sparsity within the budget."""
    groups = channels(model, image)
    scores = norms(model)
    masks_at = partial(group_masks, scores, groups, round_to=MULTIPLE)
    options = {"groups": groups, "round_to": MULTIPLE}
    sparsity = sparsity_for(model, image, masks_at, macs=BUDGET, **options)
    return shrink(model, masks_at(sparsity), image, **options)


def norms(model: nn.Module) -> dict[str, Tensor]:
    """Return the L1 norm of every filter."""
    return score(model, "magnitude", granularity="filter", only=prunable(model))


def theirs_at_half(
    model: nn.Module, image: Tensor, multiple: int | None, *, one_ranking: bool = False
) -> nn.Module:
    """Return what Torch-Pruning makes of the network at the smallest ratio within the budget."""
    import torch_pruning

    def pruned(ratio: float) -> nn.Module:
        network = copy.deepcopy(model)
        torch_pruning.pruner.BasePruner(
            network,
            image,
            importance=torch_pruning.importance.GroupMagnitudeImportance(p=1),
            pruning_ratio=ratio,
            global_pruning=one_ranking,
            round_to=multiple,
            ignored_layers=[network.fc],
        ).step()
        return network

    low, high, best = 0.0, 1.0, None
    for _ in range(10):
        middle = (low + high) / 2
        network = pruned(middle)
        if macs(network, image) <= BUDGET * macs(model, image):
            high, best = middle, network
        else:
            low = middle
    assert best is not None
    return best


def report_memory() -> bool:
    """Print what shrinking adds to resident memory; return whether the goal is met."""
    print("memory that shrink adds at its peak, half of all groups masked")
    met = True
    for name in ("resnet50", "vgg16_bn"):
        command = [sys.executable, "-m", "benchmarks.shrinking", "--peak", name]
        run = subprocess.run(command, capture_output=True, text=True, check=True)
        model = torchvision.models.get_model(name, weights=None)
        size = sum(tensor.nbytes for tensor in model.state_dict().values()) / 2**20
        ratio = float(run.stdout) / size
        met = met and ratio <= MEMORY
        print(f"  {name:15s} {float(run.stdout):.0f} MiB, {ratio:.2f} of the network's {size:.0f}")
    print(f"  goal            at most {MEMORY:.0f}")
    return met


def peak_mebibytes(name: str) -> float:
    """Return the peak of resident memory that shrinking adds (Linux)."""
    image = torch.randn(1, 3, 64, 64)
    small = torchvision.models.resnet18(weights=None).eval()  # loads what is loaded once
    shrink(small, half(small, image), image)
    del small
    model = torchvision.models.get_model(name, weights=None).eval()
    model(image)
    masks = half(model, image)
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    shrunk = shrink(model, masks, image)
    peak = resident("VmHWM")
    assert shrunk is not model
    return (peak - before) / 1024


def half(model: nn.Module, image: Tensor) -> dict[str, Tensor]:
    """Return masks that take half of all groups."""
    return group_masks(norms(model), channels(model, image), 0.5)


def resident(field: str) -> int:
    """Return a field of the process' status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


if __name__ == "__main__":
    main()
