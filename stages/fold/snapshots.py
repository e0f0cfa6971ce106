"""Snapshots of training as files."""

from pathlib import Path

import torch

from pruning.errors import PruningError
from pruning.rewind import Snapshot
from pruning.tensors import read_tensors, write_tensors


def write(snapshot: Snapshot, path: Path) -> None:
    """Write a snapshot, whole or not at all."""
    tensors = {f"model/{name}": value for name, value in snapshot.model.items()}
    tensors |= {f"optimizer/{name}": value for name, value in snapshot.optimizer.items()}
    partial = path.with_suffix(".partial")
    write_tensors(partial, {**tensors, "step": torch.tensor(snapshot.step)})
    partial.replace(path)


def read(path: Path) -> Snapshot:
    """Return the snapshot of a file; refuse a truncated or foreign one."""
    tensors = read_tensors(path)
    if "step" not in tensors:
        raise PruningError(f"{path}: no snapshot of training: it names no step")
    parts: dict[str, dict[str, torch.Tensor]] = {"model": {}, "optimizer": {}}
    for name, value in tensors.items():
        part, _, rest = name.partition("/")
        if part in parts:
            parts[part][rest] = value
    return Snapshot(int(tensors["step"]), parts["model"], parts["optimizer"])
