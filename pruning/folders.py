"""Folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from glob import escape
from pathlib import Path

from pruning.errors import PruningError


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder` and put it in its place once everything is written.

    A reader sees the old folder or the new one, never half of it: whatever goes wrong while
    writing, a full disk or a kill, leaves `folder` as it was. A kill in the instant in which the
    two change places leaves the old one beside, and the next `whole` puts it back. Raises
    `PruningError` where `folder` is a file.
    """
    if not folder.name:
        folder = folder.resolve()
    _tidy(folder)
    partial = _beside(folder, "partial")
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _replace(partial, folder)


def _beside(folder: Path, kind: str) -> Path:
    return folder.with_name(f".{folder.name}.{os.getpid()}.{kind}")


def _tidy(folder: Path) -> None:
    """Clear away, or put back, what a killed run left beside `folder`."""
    if folder.exists() and not folder.is_dir():
        raise PruningError(f"{folder}: is a file; a folder is to be written there")
    for old in folder.parent.glob(f".{escape(folder.name)}.*.old"):
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
        else:
            old.rename(folder)
    for partial in folder.parent.glob(f".{escape(folder.name)}.*.partial"):
        shutil.rmtree(partial, ignore_errors=True)


def _replace(partial: Path, folder: Path) -> None:
    if folder.exists():
        old = _beside(folder, "old")
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)
