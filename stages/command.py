"""What every stage's command shares: its options, one-line errors, and dying with DVC."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.engine import standby
from stages.engine.orphans import die_with_parent

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


@contextmanager
def torch_stage() -> Iterator[None]:
    """Do as `one_line_errors`, for a stage that imports torch: under DVC where that is done."""
    with one_line_errors():
        standby.hand_over()
        yield
