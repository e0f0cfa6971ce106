"""A network of the study made smaller for real, and what that took away, counted not timed."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from pruning.compressed import write_compressed
from pruning.coupling.groups import Groups, channels
from pruning.latency import peak_activation_bytes
from pruning.macs import macs_by_layer
from pruning.network import Network, load, write
from pruning.programs import check, onnx_call, program, write_onnx, write_program
from pruning.shrinking.check import prove
from pruning.shrinking.rebuild import apply_plan, keep
from pruning.shrinking.shrink_network import shrink_plan
from pruning.sparse_tensors import csr, semi_structured, write_csr
from pruning.tensors import write_tensors
from stages.files import write_table
from stages.params.export_params import Exporting

PROGRAM, ONNX = "program.pt2", "model.onnx"


@dataclass(frozen=True)
class Pair:
    """A masked network and what remains of it without what its masks take whole."""

    masked: Network
    shrunk: Network
    groups: Groups
    """What goes together, and what could not go."""
    difference: float
    """The largest relative difference of their outputs."""

    def example(self, size: int) -> Tensor:
        """Return a batch of blank images."""
        return torch.zeros(size, *self.masked.input_shape)


def shrunk(folder: Path, round_to: int = 1, groups: Groups | None = None) -> Pair:
    """Return the network of a folder with its shrunk one, proven to put out the same.

    `groups` saves the search for them when many networks of one kind are shrunk.
    """
    masked = load(folder, foreign=True)
    example = torch.zeros(2, *masked.input_shape)
    groups = groups or channels(masked.model, example)
    plan = shrink_plan(masked.model, masked.masks, example, round_to=round_to, groups=groups)
    model = apply_plan(masked.model, plan, masks=masked.masks)
    smaller = Network(model, keep(plan, masked.masks), masked.spec, masked.input_shape, plan)
    difference = prove(masked.model, masked.masks, plan, example)
    return Pair(masked, smaller, groups, difference)


def write_files(pair: Pair, settings: Exporting, folder: Path) -> dict[str, Any]:
    """Write the shrunk network in every format asked for; return what was found on the way."""
    model, masks = pair.shrunk.model, pair.shrunk.masks
    (folder / "network").mkdir()
    write(pair.shrunk, folder / "network")
    facts: dict[str, Any] = {}
    if {"program", "onnx"} & set(settings.formats):
        facts |= _write_programs(pair, settings, folder)
    if "compressed" in settings.formats:
        partly = {name: mask for name, mask in masks.items() if not bool(mask.all())}
        write_compressed(folder / "compressed.safetensors", model.state_dict(), partly)
    if "csr" in settings.formats:
        write_csr(folder / "csr.safetensors", csr(model, masks))
    if "semi_structured" in settings.formats:
        facts |= _semi_structured(model, masks)
    return facts


def _write_programs(pair: Pair, settings: Exporting, folder: Path) -> dict[str, float]:
    """Write programs that give the network's outputs; return how far they are from them."""
    model, example = pair.shrunk.model, pair.example(2)
    exported = program(model, example)
    facts = {"program_difference": check(exported.module(), model, example, PROGRAM)}
    if "program" in settings.formats:
        write_program(exported, folder / PROGRAM)
    if "onnx" in settings.formats:
        write_onnx(exported, folder / ONNX)
        call = onnx_call(folder / ONNX, threads=settings.threads)
        facts["onnx_difference"] = check(call, model, example, ONNX)
    return facts


def _semi_structured(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Any]:
    """Try torch's 2:4 kernels on the accelerator, if there is one; return what could not be."""
    # The kernels work in half precision, which the network that is exported is not to get.
    tried = deepcopy(model).half().cuda() if torch.cuda.is_available() else model
    _, reasons = semi_structured(tried, masks)
    matrices = [name for name, mask in masks.items() if mask.ndim > 1]
    told = "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
    return {
        "semi_structured_layers": len(matrices) - len(reasons),
        "semi_structured_not": told or "nothing",
    }


def counts(pair: Pair, size: int, folder: Path) -> dict[str, float]:
    """Return what was gained as far as it can be counted, for a batch of `size` images.

    Bytes are those of files; a dense one is written beside for its size, and taken away again.
    """
    before = folder / "dense.safetensors"
    write_tensors(before, pair.masked.model.state_dict())
    sizes = {"dense": before, "shrunk": folder / "network" / "weights.safetensors"}
    sizes["masks"] = folder / "network" / "masks.safetensors"
    for path in sorted(folder.iterdir()):
        if path.is_file() and path != before:
            sizes[path.stem if path.suffix == ".safetensors" else path.suffix[1:]] = path
    facts = {f"bytes_{name}": path.stat().st_size for name, path in sizes.items()}
    before.unlink()
    example = pair.example(size)
    for name, network in (("dense", pair.masked), ("shrunk", pair.shrunk)):
        facts[f"parameters_{name}"] = sum(p.numel() for p in network.model.parameters())
        facts[f"macs_{name}"] = sum(macs_by_layer(network.model, pair.example(1)).values())
        facts[f"activation_bytes_{name}"] = peak_activation_bytes(network.model, example)
    facts["weights_kept_shrunk"] = sum(int(m.sum()) for m in pair.shrunk.masks.values())
    return facts


def write_layers(pair: Pair, folder: Path) -> None:
    """Write macs.csv, the multiply-adds of every layer for one image, and pinned.csv."""
    dense = macs_by_layer(pair.masked.model, pair.example(1))
    left = macs_by_layer(pair.shrunk.model, pair.example(1))
    rows = [(layer, count, left.get(layer, 0)) for layer, count in dense.items()]
    write_table(folder / "macs.csv", ("layer", "macs_dense", "macs_shrunk"), rows)
    pinned = [(each.parameter, each.channels, each.of, each.reason) for each in pair.groups.pinned]
    write_table(folder / "pinned.csv", ("parameter", "pinned", "channels", "by"), pinned)
