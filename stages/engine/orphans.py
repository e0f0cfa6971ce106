"""No process of a stage outlives the one that started it."""

import ctypes
import os
import signal
import sys


def die_with_parent() -> None:
    """Ask Linux to kill this process when its parent dies: no orphan of DVC goes on writing.

    DVC runs a stage through a shell that becomes the stage (`exec` in dvc.yaml: not every shell
    does so of itself), so the parent is DVC. Elsewhere than on Linux there is no such request; a
    stray stage then still writes into its own folder only, which is put in place whole or not at
    all.
    """
    if not sys.platform.startswith("linux"):
        return
    parent = os.getppid()
    set_parent_death_signal = 1
    ctypes.CDLL(None).prctl(set_parent_death_signal, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(1)
