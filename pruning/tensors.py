"""Tensors in safetensors files, with errors that name the file."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from pruning.errors import PruningError


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Write tensors by name; the same tensors give the same bytes."""
    # Cloned, since safetensors refuses names that share memory (tied weights).
    plain = {name: tensors[name].detach().cpu().contiguous().clone() for name in sorted(tensors)}
    save_file(plain, path, metadata=dict(metadata) if metadata else None)


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file; raises `PruningError` if it is absent, truncated or foreign."""
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise PruningError(f"{path}: no readable tensors: {error}") from error
