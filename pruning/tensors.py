"""Tensors in safetensors files, with errors that name the file."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pruning.errors import PruningError


def write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors by name; the same tensors give the same bytes.

    Raises `PruningError` where the file cannot be written.
    """
    # Cloned, since safetensors refuses names that share memory (tied weights).
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    try:
        save_file(plain, path)
    except SafetensorError as error:
        raise PruningError(f"{path}: cannot be written: {error}") from error


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; raises `PruningError` if it is absent, truncated or foreign."""
    try:
        # Cloned, since a loaded tensor is a view of the file and would change along with it.
        return {name: tensor.clone() for name, tensor in load_file(path).items()}
    except (SafetensorError, OSError) as error:
        raise PruningError(f"{path}: no readable tensors: {error}") from error
