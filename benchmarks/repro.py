"""How long `dvc repro` of the default takes from nothing, again, and how much of it is imports.

    python -m benchmarks.repro

A copy of the study is run in a temporary folder. The share of process starts and imports is the
sum, over the stages that ran, of the time of a process that imports what that stage imports and
does nothing else; MLflow's import is left out of training stages, where it overlaps with training.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from statistics import median

ROOT = Path(__file__).parents[1]
CODE = (
    *("pruning", "stages", "data/paper_results.csv"),
    *("dvc.yaml", "params.yaml", ".dvcignore", ".gitignore", ".dvc/config"),
)

TORCH = (
    "import stages.params, stages.engine.folds, stages.fold.samples, pruning.network, "
    "pruning.training"
)
OPTIMIZER = "import torch; torch.optim.SGD([torch.zeros(1, requires_grad=True)]).zero_grad()"
IMPORTS = {
    "check": "import stages.params",
    "prepare": "import stages.params, pruning.datasets, sklearn.datasets",
    "pretrain": f"{TORCH}; {OPTIMIZER}",
    "snapshot": "import stages.params, stages.files",
    "prune": f"{TORCH}; import stages.fold.masking",
    "finetune": f"{TORCH}; import stages.fold.recovery, stages.fold.masking; {OPTIMIZER}",
    "evaluate": TORCH,
    "compare": (
        "import stages.params, stages.reporting.summary, stages.reporting.pictures, "
        "stages.reporting.report, mlflow"
    ),
}


def main() -> None:
    """Run the default twice and print both times, and the imports' share of the first."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        lay_out(folder)
        first, output = timed(folder, "dvc", "repro")
        again, _ = timed(folder, "dvc", "repro")
        stages = Counter(re.split(r"[@-]", name)[0] for name in executed(output))
        starts = {kind: start_of(folder, kind) for kind in stages}
    imports = sum(count * starts[kind] for kind, count in stages.items())
    print(f"{sum(stages.values())} stages: {dict(stages)}")
    print(f"from nothing {first:.1f} s; again {again:.1f} s")
    print(f"starts and imports {imports:.1f} s, {100 * imports / first:.0f} % of the first run")
    for kind, seconds in starts.items():
        print(f"  {kind:10} {stages[kind]:3} x {seconds:.2f} s")


def lay_out(folder: Path) -> None:
    """Copy the study without anything computed."""
    for name in CODE:
        source, target = ROOT / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, target)
    subprocess.run(["git", "init", "-q", "."], cwd=folder, check=True)


def timed(folder: Path, *command: str) -> tuple[float, str]:
    """Return the seconds that a command takes, and what it prints."""
    # DVC and the stages' python are those of this environment, active or not.
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    tools = {**os.environ, "PATH": path}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=tools)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began, done.stdout


def executed(output: str) -> list[str]:
    """Return the names of the stages that DVC ran."""
    return re.findall(r"Running stage '(.+)':", output)


def start_of(folder: Path, kind: str) -> float:
    """Return the median seconds of a process that only imports what a stage imports."""
    command = (sys.executable, "-c", IMPORTS[kind])
    return median(timed(folder, *command)[0] for _ in range(3))


if __name__ == "__main__":
    main()
