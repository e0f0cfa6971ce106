"""What dvc.yaml lists is there, and is all of the stages' own code that decides a result."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STAGES = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
PARTS = ("stages/fold/", "stages/literature/", "stages/reporting/")
BESIDE = {
    *("stages/fold/journal.py", "stages/fold/layers.py", "stages/fold/snapshots.py"),
    *("stages/fold/spectrum_picture.py", "stages/reporting/dry_run.py"),
}
"""Modules that write down or show what others have decided."""


def code(stage: str) -> set[str]:
    prefix = "${code}/"
    return {dep.removeprefix(prefix) for dep in STAGES[stage]["deps"] if dep.startswith(prefix)}


def reached(path: str, seen: set[str]) -> set[str]:
    """Return the modules of PARTS that `path` imports, those that they import, and so on."""
    for found in set(imported(ROOT / path)) - seen - BESIDE:
        seen.add(found)
        reached(found, seen)
    return seen


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{each.name}" for each in node.names)]
            paths = [f"{name.replace('.', '/')}.py" for name in names]
            yield from (
                each for each in paths if each.startswith(PARTS) and (ROOT / each).is_file()
            )


@pytest.mark.parametrize("stage", sorted(STAGES.keys() - {"gains"}))  # its times are of the moment
def test_a_stage_depends_on_all_of_its_code_that_decides_a_result(stage):
    command = STAGES[stage]["cmd"].split()[3].replace(".", "/") + ".py"
    assert reached(command, set()) <= code(stage)
    assert all((ROOT / path).exists() for path in code(stage))


def test_finetune_depends_on_what_chooses_masks_as_they_may_be_chosen_in_training():
    before = {"stages/prune.py", "pruning/compensation.py", "pruning/controls.py"}
    assert code("prune") == code("prune-one-shot") >= code("prune-control")
    assert code("finetune") >= code("prune") - before


@pytest.mark.parametrize(
    ("choices", "part"), [("allocation.py", "budgets.py"), ("during", "penalties.py")]
)
def test_what_depends_on_choices_depends_on_what_they_have_in_common(choices, part):
    stages = {stage for stage in STAGES if f"pruning/{choices}" in code(stage)}
    assert stages == {stage for stage in STAGES if f"pruning/{part}" in code(stage)} != set()


def test_who_notes_the_code_of_ones_own_depends_on_what_may_name_it():
    """Or DVC's run cache would give a row back what the code of that name made at another time."""
    assert {"model", "training"} <= set(STAGES["training-code"]["params"])
    assert "methods.${item.experiment}.prune" in STAGES["snapshot"]["params"]
    for stage in ("training-code", "snapshot"):
        assert {"stages/own_code.py", "stages/params/own_code.py"} <= code(stage)
        assert "work/own_code" in STAGES[stage]["deps"]


@pytest.mark.parametrize("stage", ["export", "gains", "compare"])
def test_what_chooses_among_the_rounds_depends_on_them(stage):
    assert "rounds" in STAGES[stage]["params"]
