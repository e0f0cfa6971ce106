"""Lower layers never import higher ones: read from the source of every file."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FILES = sorted((ROOT / "pruning").rglob("*.py"))
PIPELINE = {
    *("typer", "click", "dvc", "mlflow", "pydantic", "yaml", "pandas"),
    *("stages", "tests", "benchmarks"),
}


def module_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_of(path): path for path in FILES}


def imports(path: Path) -> Iterator[str]:
    """Yield every module that the file imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            inner = [f"{node.module}.{alias.name}" for alias in node.names]
            within = [name for name in inner if name in MODULES]
            yield from within
            if len(within) < len(inner):
                yield str(node.module)


def test_the_files_are_found():
    assert {"pruning", "pruning.selection", "pruning.criteria.weights"} <= MODULES.keys()
    assert set(imports(MODULES["pruning.pruner"])) >= {"pruning.masks", "torch", "warnings"}


@pytest.mark.parametrize("module", MODULES)
def test_the_library_knows_nothing_of_the_pipeline(module):
    found = {name.partition(".")[0] for name in imports(MODULES[module])}
    assert not found & PIPELINE


@pytest.mark.parametrize("module", [m for m in MODULES if m.startswith("pruning.models")])
def test_models_know_nothing_of_pruning(module):
    inside = {name for name in imports(MODULES[module]) if name.partition(".")[0] == "pruning"}
    # Building by name looks names up; the networks themselves may only refuse.
    allowed = {"pruning.errors"} | ({"pruning.catalogue"} if module == "pruning.models" else set())
    assert {name for name in inside if not name.startswith("pruning.models")} <= allowed


def test_no_module_imports_itself_through_another():
    # The package itself only names its parts for type checkers and loads them when asked.
    graph = {
        module: {name for name in imports(path) if name in MODULES and name != "pruning"}
        for module, path in MODULES.items()
        if module != "pruning"
    }
    assert len([*TopologicalSorter(graph).static_order()]) >= len(graph)


def test_a_look_at_the_choices_does_not_import_torch():
    code = (
        "import sys, pruning\n"
        "for axis in pruning.catalogue.AXES: assert pruning.catalogue.entries(axis), axis\n"
        "pruning.catalogue.check('criterion', 'lp_norm', {'p': 1})\n"
        "heavy = {'torch', 'numpy', 'safetensors', 'torchvision'} & sys.modules.keys()\n"
        "assert not heavy, heavy\n"
        "try: pruning.nothing\n"
        "except AttributeError as error: assert 'nothing' in str(error)\n"
        "else: raise SystemExit('no error')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
