"""A stage's command, run in a process that has begun already."""

import importlib
import shlex
import subprocess
import sys


def run(command: str) -> int:
    """Run a stage's command and return its exit code; `python -m stages.NAME ...` needs no start.

    Any other command goes through the shell, as DVC runs it.
    """
    name, arguments = parsed(command)
    if not name:
        return subprocess.run(command, shell=True, check=False).returncode
    return call(name, arguments)


def call(name: str, arguments: list[str]) -> int:
    """Run the command of a stage's module, as `python -m` does, and return its exit code."""
    module = importlib.import_module(name)
    sys.argv = [f"python -m {name}", *arguments]
    try:
        module.app(args=arguments)
    except SystemExit as end:
        sys.stdout.flush()
        return end.code if isinstance(end.code, int) else int(end.code is not None)
    return 0


def parsed(command: str) -> tuple[str, list[str]]:
    """Return the stage's module and its arguments; ("", []) where the command is another."""
    words = [] if set(command) & set("\n;|&<>$`*?(){}") else shlex.split(command)
    words = words[1:] if words[:1] == ["exec"] else words
    if words[:2] == ["python", "-m"] and len(words) > 2 and words[2].startswith("stages."):
        return words[2], words[3:]
    return "", []
