"""Folders that are there whole or not at all."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def whole(folder: Path) -> Iterator[Path]:
    """Yield a new folder beside `folder` and put it in its place once everything is written.

    A reader sees the old folder or the new one, never half of it: whatever goes wrong while
    writing, a full disk or a kill, leaves `folder` as it was.
    """
    partial = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        yield partial
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    _replace(partial, folder)


def _replace(partial: Path, folder: Path) -> None:
    for leftover in folder.parent.glob(f".{folder.name}.*.partial"):
        if leftover != partial:
            shutil.rmtree(leftover, ignore_errors=True)
    if folder.exists():
        old = folder.with_name(f".{folder.name}.{os.getpid()}.old")
        folder.rename(old)
        partial.rename(folder)
        shutil.rmtree(old)
    else:
        partial.rename(folder)
