"""How long `dvc repro` of the default takes from nothing, again, and how much of it is imports.

    python -m benchmarks.repro

A copy of the study is run in a temporary folder. The share of process starts and imports is the
sum of the standby's imports (torch, what torch imports with an optimizer, MLflow) and, over the
stages that ran, of the time of a process that hands its command over and of one forked from a
standby that imports what that stage imports and does nothing else.
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
IMPORTS = {
    "check": "import stages.params",
    "training": "import stages.params, stages.files",
    "prepare": "import stages.params, pruning.datasets, sklearn.datasets",
    "pretrain": TORCH,
    "snapshot": "import stages.params, stages.files",
    "prune": f"{TORCH}; import stages.fold.masking",
    "finetune": f"{TORCH}; import stages.fold.recovery, stages.fold.masking",
    "evaluate": TORCH,
    "compare": (
        "import stages.params, stages.reporting.summary, stages.reporting.pictures, "
        "stages.reporting.report, stages.tracking"
    ),
}
ALONE = ("check", "training", "snapshot")
"""The stages that need no torch, nor therefore the standby."""

WARM = """
import sys, time
from multiprocessing.context import ForkProcess
from stages.engine import warm
began = time.perf_counter()
warm.load(*warm.PACKAGES, *warm.OPTIMIZER, *warm.STORE)
print(time.perf_counter() - began)
for imports in sys.argv[1:]:
    began = time.perf_counter()
    process = ForkProcess(target=exec, args=(imports,))
    process.start()
    process.join()
    print(time.perf_counter() - began)
"""


def main() -> None:
    """Run the default twice and print both times, and the imports' share of the first."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        lay_out(folder)
        first, output = timed(folder, "dvc", "repro")
        again, _ = timed(folder, "dvc", "repro")
        stages = Counter(re.split(r"[@-]", name)[0] for name in executed(output))
        standby, starts = starts_of(folder)
    imports = standby + sum(count * starts[kind] for kind, count in stages.items())
    print(f"{sum(stages.values())} stages: {dict(stages)}")
    print(f"from nothing {first:.1f} s; again {again:.1f} s")
    print(f"starts and imports {imports:.1f} s, {100 * imports / first:.0f} % of the first run")
    print(f"  {'standby':10}   1 x {standby:.2f} s")
    for kind, count in stages.items():
        print(f"  {kind:10} {count:3} x {starts[kind]:.2f} s")


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
    kept = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    tools = {**kept, "PATH": path}
    began = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, env=tools)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)
    return time.perf_counter() - began, done.stdout


def executed(output: str) -> list[str]:
    """Return the names of the stages that DVC ran."""
    return re.findall(r"Running stage '(.+)':", output)


def starts_of(folder: Path) -> tuple[float, dict[str, float]]:
    """Return the median seconds of the standby's imports, and of each kind of stage's start."""
    shared = [kind for kind in IMPORTS if kind not in ALONE]
    asked = (sys.executable, "-c", WARM, *(IMPORTS[kind] for kind in shared))
    runs = [[float(line) for line in timed(folder, *asked)[1].split()] for _ in range(3)]
    standby, *forked = map(median, zip(*runs, strict=True))
    asking = process(folder, "import stages.command")
    alone = {kind: process(folder, IMPORTS[kind]) for kind in ALONE}
    return standby, alone | {k: asking + s for k, s in zip(shared, forked, strict=True)}


def process(folder: Path, code: str) -> float:
    """Return the median seconds of a process that runs only `code`."""
    return median(timed(folder, sys.executable, "-c", code)[0] for _ in range(3))


if __name__ == "__main__":
    main()
