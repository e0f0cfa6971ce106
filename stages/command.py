"""What every stage's command shares: its options, one-line errors, and dying with DVC."""

import ctypes
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

PARAMS = Path("params.yaml")

Experiment = Annotated[str, typer.Option(help="An experiment of params.yaml.")]
RoundNumber = Annotated[int, typer.Option("--round", help="The round, from 1; 0 is dense.")]
Fold = Annotated[int | None, typer.Option(help="Only this fold (default: all, side by side).")]
ParamsFile = Annotated[Path, typer.Option("--params", help="The file of settings.")]


def application(command: Callable[..., Any]) -> typer.Typer:
    """Return the typer application whose only command is `command`."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)
    app.command()(command)
    return app


UNHEARD = 2
"""Seconds for which a rank whose lines nobody sees waits, so that rank 0 is heard first."""


@contextmanager
def one_line_errors() -> Iterator[None]:
    """Turn a refusal, a full disk or an interrupt into one line on stderr and an exit code."""
    from pruning.errors import PruningError

    die_with_parent()
    try:
        yield
    except (PruningError, OSError) as error:
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        if os.environ.get("RANK", "0") != "0":
            time.sleep(UNHEARD)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


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
