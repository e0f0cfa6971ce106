"""What half of all filters takes with it, network by network: the table of docs/shrinking.md.

    python -m benchmarks.shrink_table [--write] [--only resnet56 torchvision:resnet50]

Every network of pruning.models and torchvision's that are named below, random weights, norms that
have seen data and no layer that starts at nothing, as ViT's last does. Half of the groups of every
set of coupled layers are masked, those of least mean L1 norm; the network is shrunk and compared
with the masked one. Prints the rows; `--write` puts them into the page between its marks.
"""

import argparse
import re
import warnings
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning import channels, group_masks, score, shrink_plan
from pruning.coupling.groups import Groups
from pruning.macs import macs
from pruning.models import build, names
from pruning.prunables import prunable
from pruning.shrinking.check import prove
from pruning.shrinking.rebuild import apply_plan

PAGE = Path(__file__).parents[1] / "docs" / "shrinking.md"
BEGIN, END = "<!-- begin: python -m benchmarks.shrink_table --write -->", "<!-- end -->"
TORCHVISION = [
    "resnet50",
    "vgg16_bn",
    "densenet121",
    "mobilenet_v2",
    "mobilenet_v3_small",
    "efficientnet_b0",
    "convnext_tiny",
    "regnet_y_400mf",
    "squeezenet1_1",
    "shufflenet_v2_x1_0",
    "googlenet",
    "inception_v3",
    "vit_b_16",
    "swin_t",
]
SPARSITY = 0.5


@dataclass(frozen=True)
class Row:
    """What was found of one network."""

    name: str
    input: str
    groups: int
    gone: int
    parameters: float
    macs: float
    difference: float
    pinned: dict[str, list[str]]
    """By operation, the layers of which it holds channels."""

    @property
    def title(self) -> str:
        """The name in its table."""
        return self.name.removeprefix("torchvision:")


def main() -> None:
    """Print the table, and write it into the page if asked."""
    parser = argparse.ArgumentParser(description="the table of docs/shrinking.md")
    parser.add_argument("--only", nargs="*", help="these networks; default: all of them")
    parser.add_argument("--write", action="store_true", help="put the table into the page")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    chosen = arguments.only or [*names(), *(f"torchvision:{name}" for name in TORCHVISION)]
    rows = []
    for name in chosen:
        rows.append(measured(name))
        print(line(rows[-1]), flush=True)
    text = table(rows)
    if arguments.write:
        before, rest = PAGE.read_text().split(BEGIN)
        PAGE.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{rest.split(END)[1]}")


def measured(name: str) -> Row:
    """Mask half of a network's groups, shrink it, and return what came of it."""
    model, example = lively(name), example_of(name)
    groups = channels(model, example)
    scores = score(model, "magnitude", granularity="filter", only=prunable(model))
    masks = group_masks(scores, groups, SPARSITY)
    plan = shrink_plan(model, masks, example, groups=groups)
    shrunk = apply_plan(model, plan, masks=masks)
    return Row(
        name,
        " x ".join(map(str, example.shape[1:])) + (" tokens" if example.ndim == 2 else ""),
        len(groups),
        removed(groups, plan["kept"]),
        size(shrunk) / size(model),
        macs(shrunk, example) / macs(model, example),
        prove(model, masks, plan, example),
        held(groups),
    )


def lively(name: str) -> nn.Module:
    """Return a network in which whatever shrinking missed would show."""
    torch.manual_seed(0)
    model = build({"factory": name}).eval()
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            nn.init.normal_(module.running_mean, std=0.1)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, std=0.1)
    for parameter in model.parameters():
        if float(parameter.detach().abs().max()) < 1e-5:
            nn.init.normal_(parameter, std=0.1)
    return model


def example_of(name: str) -> Tensor:
    """Return an input of the size that the network was made for."""
    if name == "lstm_lm":
        return torch.arange(2 * 16).reshape(2, 16)
    side = {"torchvision:inception_v3": 299, "lenet5": 28, "lenet_300_100": 28, "digits_conv": 8}
    channels_in = 1 if name in ("lenet5", "lenet_300_100", "digits_conv") else 3
    size_of = side.get(name, 224 if name.startswith("torchvision:") else 32)
    return torch.randn(1, channels_in, size_of, size_of)


def removed(groups: Groups, kept: dict[str, dict[str, list[int]]]) -> int:
    """Return how many groups went, of which a plan keeps the rest."""
    gone: set[int] = set()
    for name, dims in kept.items():
        for dim, positions in dims.items():
            label = groups.labels(name, int(dim))
            lost = set(range(len(label))) - set(positions)
            gone |= {int(label[at]) for at in lost}
    return len(gone & {int(label) for label in groups.free})


def size(model: nn.Module) -> int:
    """Return the number of parameters."""
    return sum(parameter.numel() for parameter in model.parameters())


def held(groups: Groups) -> dict[str, list[str]]:
    """Return the layers with channels that stay, by the operation that holds them."""
    found: dict[str, list[str]] = defaultdict(list)
    for pinned in groups.pinned:
        found[pinned.reason.operation].append(pinned.parameter)
    return dict(found)


def line(row: Row) -> str:
    """Return a row of the table."""
    pinned = ", ".join(f"{operation} ({len(layers)})" for operation, layers in row.pinned.items())
    return (
        f"| {row.title} | {row.input} | {row.gone} of {row.groups} "
        f"| {row.parameters:.3f} | {row.macs:.3f} | {row.difference:.1e} | {pinned} |"
    )


def table(rows: list[Row]) -> str:
    """Return the tables of both families and the list of what stays."""
    parts = []
    for title, ours in (("Networks of `pruning.models`", True), ("torchvision's networks", False)):
        chosen = [row for row in rows if row.name.startswith("torchvision:") is not ours]
        head = (
            "| network | input | groups removed | parameters left | MACs left "
            "| largest difference | held by (layers) |\n| --- | --- | --- | --- | --- | --- | --- |"
        )
        if chosen:
            parts.append("\n".join([f"### {title}\n", head, *map(line, chosen)]))
    outputs = ", ".join(f"{row.title} `{row.pinned['output'][0]}`" for row in rows)
    stays = [f"* `output` holds the last layer of every network: {outputs}"]
    stays += [text for row in rows for text in staying(row)]
    return "\n\n".join([*parts, "### What stays, and what holds it", "\n".join(stays)]) + "\n"


def staying(row: Row) -> Iterator[str]:
    """Yield a list entry for every operation inside a network that holds layers."""
    for operation, layers in row.pinned.items():
        if operation == "output":
            continue
        shapes: dict[str, int] = defaultdict(int)
        for layer in layers:
            shapes[re.sub(r"\d+", "*", layer) if len(layers) > 3 else layer] += 1
        found = (f"`{at}`" + (f" ({count})" if count > 1 else "") for at, count in shapes.items())
        yield f"* `{operation}` in {row.title} holds {', '.join(found)}"


if __name__ == "__main__":
    main()
