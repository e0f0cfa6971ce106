"""Code of one's own that params.yaml names: which files DVC has to see, and who uses them."""

import ast
import json
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator

if TYPE_CHECKING:
    from stages.params import Params

FILE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/-]*\.py")
"""What DVC may put into commands and paths."""

PACKAGES = ("pruning", "stages")
"""Our own, which dvc.yaml lists module by module."""


def _safe_file(file: str) -> str:
    if not FILE.fullmatch(file) or ".." in file or "//" in file:
        raise ValueError(f"{file!r} is no file of Python beside params.yaml, as in methods/mine.py")
    return file


OwnFile = Annotated[str, AfterValidator(_safe_file)]


def named(settings: Any) -> set[str]:
    """Return the modules that settings name, as in `module:function`."""
    return set(re.findall(r'"([A-Za-z_][\w.]*):\w+"', json.dumps(settings)))


def check(params: "Params") -> None:
    """Refuse, with `ValueError`, a module beside params.yaml whose file is not listed."""
    sections = {"model": params.model.model_dump(), "training": params.training.model_dump()}
    sections |= {
        f"methods.{name}": params.methods[name].model_dump() for name in params.experiments
    }
    for key, settings in sections.items():
        for module in sorted(named(settings)):
            file = _file_of(module)
            if file is not None and file.as_posix() not in params.own_code:
                raise ValueError(
                    f"own_code: {params.own_code} lacks {file.as_posix()}, the {module} of {key}; "
                    "list it, or DVC would not see that it changes"
                )


def used(settings: Any, listed: Sequence[str], root: Path) -> list[str]:
    """Return which of the `listed` files in `root` settings name, or what they name imports."""
    files = {_module_of(file): file for file in listed}
    found: set[str] = set()
    waiting = list(named(settings))
    while waiting:
        name = waiting.pop()
        if "." in name:  # a package is imported before what is in it
            waiting.append(name.rpartition(".")[0])
        if name in files.keys() - found:
            found.add(name)
            waiting += _imported(root / files[name], name)
    return sorted(files[module] for module in found)


def _file_of(module: str) -> Path | None:
    """Return the file of a module beside params.yaml, seen from there; None if it is elsewhere."""
    if module.split(".")[0] in PACKAGES:
        return None
    path = Path(*module.split("."))
    files = (path / "__init__.py", path.with_suffix(".py"))
    return next((each for each in files if each.is_file()), None)


def _module_of(file: str) -> str:
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def _imported(path: Path, module: str) -> Iterator[str]:
    """Yield every name that may be of a module which the one in `path` imports."""
    try:
        tree = ast.parse(path.read_text(encoding="utf-8"))
    except (SyntaxError, ValueError):  # the stage that imports it tells of it
        return
    parts = module.split(".") + (["__init__"] if path.name == "__init__.py" else [])
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (each.name for each in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = parts[: -node.level] if node.level else []
            base = ".".join([*above, *filter(None, [node.module])])
            yield base
            yield from (f"{base}.{each.name}" for each in node.names)
