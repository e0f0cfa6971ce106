"""Every stage is a command that answers `--help` before anything heavy is imported."""

import shlex
import subprocess
import sys
from pathlib import Path

from stages import compare

ROOT = Path(__file__).parents[2]
STAGES = ("check", "prepare", "pretrain", "snapshot", "prune", "finetune", "evaluate", "compare")

HELP = """
import importlib, sys
from typer.testing import CliRunner
for name in sys.argv[1:]:
    done = CliRunner().invoke(importlib.import_module(f"stages.{name}").app, ["--help"])
    assert done.exit_code == 0, (name, done.output)
    print(name, " ".join(done.output.split()))
    heavy = {"torch", "mlflow", "numpy", "pandas", "pydantic", "dvc"} & sys.modules.keys()
    assert not heavy, (name, heavy)
"""


def commands():
    """Return the names of all modules of stages/ that are a command."""
    modules = sorted((ROOT / "stages").glob("*.py"))
    return [path.stem for path in modules if "\napp = " in path.read_text()]


def test_every_help_is_answered_without_torch_or_mlflow():
    # one process for all: what one of them imported, the next would be blamed for
    command = [sys.executable, "-c", HELP, *commands()]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    said = dict(line.split(" ", 1) for line in run.stdout.splitlines())
    assert said.keys() == set(commands()) >= set(STAGES)
    assert all("Usage:" in text and "--help" in text for text in said.values())
    assert all("--params" in said[name] for name in STAGES)
    for name in ("prune", "finetune", "evaluate"):
        assert all(option in said[name] for option in ("--experiment", "--round", "--fold"))


def test_every_stage_of_the_pipeline_is_such_a_command():
    import yaml

    stages = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
    said = [stage["cmd"].split() for stage in stages.values()]
    assert all(words[:3] == ["exec", "python", "-m"] for words in said)
    called = {words[3].removeprefix("stages.") for words in said}
    assert set(STAGES) <= called <= set(commands())
    for name in commands():
        assert 'if __name__ == "__main__":\n    app()' in (ROOT / f"stages/{name}.py").read_text()


def test_a_study_elsewhere_is_shown_in_mlflow_by_the_makefile_where_the_code_is(tiny, monkeypatch):
    study, folder = tiny.params(code=str(ROOT)), tiny.home / "a study"
    folder.mkdir()
    monkeypatch.chdir(folder)
    make, *arguments = shlex.split(compare.shown_by(study))
    told = subprocess.run([make, "-n", *arguments], capture_output=True, text=True, check=True)
    assert f'cd "{folder}" && ' in told.stdout
    assert '"sqlite:///$PWD/mlflow.db"' in told.stdout
    assert compare.shown_by(tiny.params()) == "make ui"
