"""What can be chosen on each axis, read from the source, so that a look costs no import of torch.

A choice is a public function in one of the axis' modules: whoever writes one has added it, and
nothing else has to be told.
"""

import ast
import importlib
import importlib.util
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pruning.errors import PruningError, unknown

AXES: Mapping[str, tuple[str, ...]] = {
    "criterion": ("criteria/*.py",),
    "allocation": ("allocation.py",),
    "compensation": ("compensation.py",),
    "schedule": ("schedules.py",),
    "initialization": ("initialization.py",),
    "learning rate": ("learning_rates.py",),
    "model": ("models/[a-z]*.py",),
    "during": ("during/[a-z]*.py",),
}
"""The axes with the files whose public functions are their choices."""


@dataclass(frozen=True)
class Entry:
    """One choice: where it is, what it means, whose it is and what can be set."""

    name: str
    module: str
    meaning: str
    source: str
    settings: Mapping[str, Any]
    """The keyword-only parameters with their defaults: `...` where one must be given, its source
    text where it is neither a literal nor a constant of its module."""

    traits: frozenset[str] = frozenset()
    """What `pruning.traits.traits` says of it."""

    def load(self) -> Callable[..., Any]:
        """Return the function itself; this is where torch is imported."""
        function: Callable[..., Any] = getattr(importlib.import_module(self.module), self.name)
        return function


@cache
def entries(axis: str) -> dict[str, Entry]:
    """Return the choices of `axis` by name, in alphabetical order."""
    if axis not in AXES:
        raise unknown("axis", axis, AXES)
    root = Path(__file__).parent
    files = sorted(path for pattern in AXES[axis] for path in root.glob(pattern))
    found = [entry for path in files for entry in _entries_of(path, root)]
    return {entry.name.rstrip("_"): entry for entry in sorted(found, key=lambda e: e.name)}


def find(axis: str, name: str, *, where: str = "") -> Callable[..., Any]:
    """Return the function `name` of `axis`: a known choice, or any `package.module:function`.

    Raises `PruningError` with the choices where there is none.
    """
    if ":" in name:
        return _outside(axis, name, where)
    known = entries(axis)
    if name not in known:
        raise unknown(axis, name, [*known, "package.module:function"], where)
    return known[name].load()


def check(axis: str, name: str, settings: Mapping[str, Any], *, where: str = "") -> None:
    """Refuse a name or a setting that `axis` does not have, without importing the choice."""
    if ":" in name:
        return
    known = entries(axis)
    if name not in known:
        raise unknown(axis, name, [*known, "package.module:function"], where)
    for setting in settings:
        if setting not in known[name].settings:
            choices = list(known[name].settings) or ["none: it has no settings"]
            raise unknown(f"setting of {axis} {name!r}", setting, choices, where)


def traits_of(axis: str, name: str) -> frozenset[str]:
    """Return what a choice says of itself (`pruning.traits`), from outside the package too.

    The file of an outside module is found and read, not imported; one that cannot be says nothing.
    """
    if ":" not in name:
        check(axis, name, {})
        return entries(axis)[name].traits
    module, _, attribute = name.partition(":")
    try:
        spec = importlib.util.find_spec(module)
        tree = ast.parse(Path(str(spec and spec.origin)).read_text(encoding="utf-8"))
    except (ImportError, ValueError, OSError, SyntaxError):
        return frozenset()
    found = (node for node in tree.body if isinstance(node, ast.FunctionDef))
    return next((_traits(node) for node in found if node.name == attribute), frozenset())


def _outside(axis: str, name: str, where: str) -> Callable[..., Any]:
    module, _, attribute = name.partition(":")
    origin = f"{where}: " if where else ""
    try:
        function = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise PruningError(f"{origin}{axis} {name!r} cannot be imported: {error}") from error
    if not callable(function):
        kind = type(function).__name__
        raise PruningError(f"{origin}{axis} {name!r} is a {kind}, not a function")
    return function  # type: ignore[no-any-return]


def _entries_of(path: Path, root: Path) -> list[Entry]:
    relative = path.relative_to(root.parent).with_suffix("")
    module = ".".join(relative.parts)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    public = [node for node in functions if not node.name.startswith("_")]
    constants = _constants(tree)
    return [_entry(node, module, constants) for node in public]


def _entry(node: ast.FunctionDef, module: str, constants: Mapping[str, ast.expr]) -> Entry:
    paragraphs = (ast.get_docstring(node) or "").split("\n\n")
    source = next((text for text in paragraphs if text.startswith("Source: ")), "")
    settings = {
        argument.arg: ... if default is None else _default(default, constants)
        for argument, default in zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    }
    return Entry(
        name=node.name,
        module=module,
        meaning=paragraphs[0].partition("\n")[0],
        source=" ".join(source.removeprefix("Source: ").split()),
        settings=settings,
        traits=_traits(node),
    )


def _traits(node: ast.FunctionDef) -> frozenset[str]:
    calls = (each for each in node.decorator_list if isinstance(each, ast.Call))
    said = (call.args for call in calls if ast.unparse(call.func).rpartition(".")[2] == "traits")
    names = (each.value for args in said for each in args if isinstance(each, ast.Constant))
    return frozenset(str(name) for name in names)


def _constants(tree: ast.Module) -> dict[str, ast.expr]:
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _default(node: ast.expr, constants: Mapping[str, ast.expr]) -> Any:
    if isinstance(node, ast.Name):
        node = constants.get(node.id, node)
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
