"""A machine's cores as slots that the folds of all stages share."""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from stages.engine import parallel

VARIABLE = "PRUNING_SLOTS"
"""Names the environment variable `COUNT:PATH`; without it every fold has a core of its own."""

LOOK_EVERY = 0.02
"""Seconds between two looks for a slot: little beside a fold, and cheap."""


def described(path: Path, count: int) -> str:
    """Return the variable's value for `count` slots, kept as locks in the file `path`."""
    return f"{count}:{path}"


def count(otherwise: int) -> int:
    """Return how many slots there are, or `otherwise` where none are shared."""
    shared = os.environ.get(VARIABLE)
    return int(shared.partition(":")[0]) if shared else otherwise


@contextmanager
def slot() -> Iterator[None]:
    """Hold one of the shared slots, waiting for it; a process that dies gives its slot back."""
    shared = os.environ.get(VARIABLE)
    if not shared or parallel.rank() > 0:  # which would wait for rank 0's
        yield
        return
    number, _, path = shared.partition(":")
    with Path(path).open("r+b") as file:
        while not any(_take(file, index) for index in range(int(number))):
            time.sleep(LOOK_EVERY)
        yield


def _take(file: IO[bytes], index: int) -> bool:
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, index)
    except (BlockingIOError, PermissionError):
        return False
    return True
