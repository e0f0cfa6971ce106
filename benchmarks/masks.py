"""Global magnitude masks of ResNet-50, against torch.nn.utils.prune.global_unstructured.

    python -m benchmarks.masks [--repetitions 5] [--sparsity 0.9]

One thread, torchvision's resnet50 with random weights, every convolution and linear weight. The two
take turns in one process; the ratio is the median of the ratios of each pair, the goal at least 20.
Memory is the peak above what was resident before, in a fresh process, of which the masks themselves
are a quarter of the weights' size; the goal is at most 0.30. The same weights are kept.
"""

import argparse
import subprocess
import sys
import time
import warnings
from pathlib import Path
from statistics import median

import torch
from torch import Tensor, nn
from torch.nn.utils import prune as peer
from torchvision.models import resnet50

from pruning.prunables import prunable
from pruning.pruner import LayerCollapse, prune

FASTER, MEMORY = 20, 0.30


def main() -> None:
    """Print the medians, the ratios and whether the masks agree; exit with 1 beside a goal."""
    parser = argparse.ArgumentParser(description="global magnitude masks of ResNet-50")
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--memory", action="store_true", help="only measure the peak, in MiB")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    # of random weights the last layer's are the smallest, and all of them go
    warnings.simplefilter("ignore", LayerCollapse)
    model = network()
    if arguments.memory:
        print(peak_mebibytes(model, arguments.sparsity))
        return
    pairs = [pair(model, arguments.sparsity) for _ in range(arguments.repetitions + 1)][1:]
    report(model, arguments.sparsity, pairs)


def network() -> nn.Module:
    """Return ResNet-50 with weights that are the same every time."""
    torch.manual_seed(0)
    return resnet50(weights=None)


def pair(model: nn.Module, sparsity: float) -> tuple[float, float]:
    """Return how long the peer and we take, in seconds."""
    return timed_peer(sparsity)[0], timed(model, sparsity)[0]


def timed(model: nn.Module, sparsity: float) -> tuple[float, dict[str, Tensor]]:
    """Return the time and the masks of ours."""
    begin = time.perf_counter()
    masks = prune(model, sparsity)
    return time.perf_counter() - begin, masks


def timed_peer(sparsity: float) -> tuple[float, dict[str, Tensor]]:
    """Return the time and the masks of torch's, on a network of its own, which it changes."""
    model = network()
    modules = {name.rpartition(".")[0]: name for name in prunable(model)}
    layers = [(model.get_submodule(module), "weight") for module in modules]
    begin = time.perf_counter()
    peer.global_unstructured(layers, peer.L1Unstructured, amount=sparsity)
    elapsed = time.perf_counter() - begin
    buffers = dict(model.named_buffers())
    return elapsed, {name: buffers[f"{name}_mask"].bool() for name in modules.values()}


def peak_mebibytes(model: nn.Module, sparsity: float) -> float:
    """Return the peak of resident memory that pruning adds (Linux)."""
    prune(nn.Linear(1000, 1000), sparsity)  # code that is loaded when first used
    Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    before = resident("VmRSS")
    masks = prune(model, sparsity)
    peak = resident("VmHWM")
    assert masks
    return (peak - before) / 1024


def resident(field: str) -> int:
    """Return a field of the process' status in KiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(field))


def differences(model: nn.Module, sparsity: float) -> tuple[int, int]:
    """Return how many weights the two judge differently, and how many of those are no ties."""
    ours, theirs = timed(model, sparsity)[1], timed_peer(sparsity)[1]
    weights = {name: weight.detach().abs() for name, weight in prunable(model).items()}
    least = min(float(weights[name][mask].min()) for name, mask in ours.items() if mask.any())
    apart = {name: ours[name] != theirs[name] for name in ours}
    untied = sum(int((weights[name][wrong] != least).sum()) for name, wrong in apart.items())
    return sum(int(wrong.sum()) for wrong in apart.values()), untied


def report(model: nn.Module, sparsity: float, pairs: list[tuple[float, float]]) -> None:
    """Print what was measured."""
    faster = median(theirs / ours for theirs, ours in pairs)
    command = [sys.executable, "-m", "benchmarks.masks", "--memory", "--sparsity", str(sparsity)]
    runs = [subprocess.run(command, capture_output=True, text=True, check=True) for _ in range(3)]
    mebibytes = median(float(run.stdout) for run in runs)
    weights = sum(weight.numel() * 4 for weight in prunable(model).values()) / 2**20
    apart, untied = differences(model, sparsity)
    print(f"weights             {weights:.1f} MiB, sparsity {sparsity}")
    print(f"global_unstructured {1e3 * median(theirs for theirs, _ in pairs):.0f} ms")
    print(f"pruning.prune       {1e3 * median(ours for _, ours in pairs):.0f} ms")
    print(f"times faster        {faster:.1f} (goal: at least {FASTER})")
    print(
        f"memory added        {mebibytes:.1f} MiB, {mebibytes / weights:.3f} of the weights' size "
        f"(goal: at most {MEMORY:.2f}; the masks alone are 0.25)"
    )
    print(f"masks               {apart} weights judged differently, {untied} of them no ties")
    raise SystemExit(faster < FASTER or mebibytes / weights > MEMORY or untied > 0)


if __name__ == "__main__":
    main()
