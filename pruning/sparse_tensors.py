"""Masked weights as torch's sparse tensors: CSR for any mask, semi-structured for 2:4."""

import copy
import warnings
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError, first_line
from pruning.layouts import layouts
from pruning.semi_structured import rows
from pruning.tensors import read_tensors, write_tensors

PARTS = ("crow_indices", "col_indices", "values", "shape")


def csr(model: nn.Module, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the masked weights of two dimensions and more as CSR matrices, (outputs, the rest).

    A transposed convolution has a row for each output and place in the kernel. A layer whose mask
    keeps everything is not among them. Raises `PruningError` for masks of another model.
    """
    masks = mask_tools.by_first_name(model, masks)
    params = dict(model.named_parameters())
    chosen = {name: params[name] for name, mask in masks.items() if mask.ndim > 1}
    places = layouts(model, chosen)
    with _beta():
        return {
            name: rows(weight.detach() * masks[name], places[name]).to_sparse_csr()
            for name, weight in chosen.items()
            if not bool(masks[name].all())
        }


def write_csr(path: Path, matrices: Mapping[str, Tensor]) -> None:
    """Write CSR matrices into one safetensors file: name/crow_indices, /col_indices, /values."""
    parts = {}
    for name, matrix in matrices.items():
        parts[f"{name}/crow_indices"] = matrix.crow_indices().int()
        parts[f"{name}/col_indices"] = matrix.col_indices().int()
        parts[f"{name}/values"] = matrix.values()
        parts[f"{name}/shape"] = torch.tensor(matrix.shape)
    write_tensors(path, parts)


def read_csr(path: Path) -> dict[str, Tensor]:
    """Return the CSR matrices of a file by parameter name; `PruningError` for another file."""
    parts = read_tensors(path)
    found = {}
    with _beta():
        for name in sorted({each.rpartition("/")[0] for each in parts}):
            try:
                crow, columns, values, shape = (parts[f"{name}/{part}"] for part in PARTS)
                size = torch.Size(shape.tolist())
                found[name] = torch.sparse_csr_tensor(
                    crow, columns, values, size, check_invariants=True
                )
            except (KeyError, RuntimeError, TypeError) as error:
                reason = first_line(error)
                raise PruningError(f"{path}: {name!r} is no CSR matrix: {reason}") from None
    return found


def semi_structured(
    model: nn.Module, masks: Mapping[str, Tensor]
) -> tuple[nn.Module, dict[str, str]]:
    """Return a masked copy of `model` whose 2:4 linear layers run on semi-structured kernels.

    Beside it, for every masked weight that stays dense, the reason. The kernels are those of CUDA
    devices from compute capability 8.0 on, in half precision; they want both sizes of a weight in
    multiples. The model is left as it is.
    """
    found = copy.deepcopy(model)
    mask_tools.apply(found, masks)
    owners = {
        f"{path}.weight" if path else "weight": module for path, module in found.named_modules()
    }
    reasons = {}
    for name, mask in masks.items():
        owner = owners.get(name)
        if mask.ndim < 2:
            continue
        if not isinstance(owner, nn.Linear):
            reasons[name] = "only linear layers have a sparse kernel"
        elif not two_of_four(mask):
            reasons[name] = "its mask is not 2:4"
        elif reason := _convert(owner):
            reasons[name] = reason
    return found, reasons


def two_of_four(mask: Tensor) -> bool:
    """Return whether at most two of every four weights in a row stay."""
    if mask.ndim != 2 or mask.shape[1] % 4:
        return False
    return bool((mask.reshape(len(mask), -1, 4).sum(2) <= 2).all())


def _convert(layer: nn.Linear) -> str:
    """Replace a layer's weight by a semi-structured one; return why not, "" if it could."""
    weight = layer.weight.detach()
    if not weight.is_cuda:
        return f"semi-structured kernels need a CUDA device; the weight is on {weight.device}"
    try:
        with _beta():
            sparse = torch.sparse.to_sparse_semi_structured(weight)
    except (RuntimeError, ValueError, NotImplementedError) as error:
        return first_line(error)
    layer.weight = nn.Parameter(sparse, requires_grad=False)
    return ""


def _beta() -> "warnings.catch_warnings[None]":
    """Hide torch's warnings that its sparse tensors may change."""
    return warnings.catch_warnings(action="ignore")
