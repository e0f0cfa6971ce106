"""What a training epoch costs in the lottery-ticket experiment, through the whole pipeline.

    python -m benchmarks.lottery [FOLDER WITH MNIST] [--rounds 12] [--epochs 10] [--replicates 5]
                                 [--engine repro|run|both] [--no-tracking]

LeNet-300-100 on MNIST, batches of 128, SGD: the dense network, then rounds that prune 20 % of what
is left and train again from the initialisation. A study is laid out in a temporary folder and run
from nothing by `dvc repro`, by `python -m stages.run`, or by each: all stages, MLflow, the report.
A training epoch is one pass over 60,000 images by one network, the unit in which OpenLTH takes
about 18 s on two cores; the goal is a tenth. The bare epoch beside it is `pruning.training.fit` in
this process on one core, and the overhead is what the run takes beyond it.
"""

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import yaml

from benchmarks.repro import ROOT, lay_out, timed

OPEN_LTH = 18.0
GOAL = OPEN_LTH / 10
IMAGES = 60_000
ENGINES = {"repro": ("dvc", "repro"), "run": (sys.executable, "-m", "stages.run")}


def main() -> None:
    """Print what each way of running the study costs; exit with 1 above the goal."""
    arguments = parsed()
    root = arguments.root.resolve()
    params = study(root, arguments.rounds, arguments.epochs, arguments.replicates)
    params["tracking"] = not arguments.no_tracking
    epochs = arguments.epochs * (arguments.rounds + 1) * arguments.replicates
    side_by_side = min(arguments.replicates, os.cpu_count() or 1)
    bare = bare_epoch(root)
    print(
        f"{arguments.rounds} rounds and the dense network, {arguments.epochs} epochs each, "
        f"{arguments.replicates} replicate(s): {epochs} epochs; bare epoch {bare:.3f} s on a core"
    )
    slow = False
    for engine in ENGINES if arguments.engine == "both" else [arguments.engine]:
        seconds = run(engine, params)
        slow |= report(engine, seconds, epochs, bare / side_by_side)
    raise SystemExit(slow)


def parsed() -> argparse.Namespace:
    """Return the arguments."""
    parser = argparse.ArgumentParser(description="a training epoch of the lottery experiment")
    default = Path(__file__).resolve().parents[2] / "shared" / "data"
    parser.add_argument("root", nargs="?", type=Path, default=default, help="folder with MNIST")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--replicates", type=int, default=5, help="seeds trained side by side")
    parser.add_argument("--engine", choices=[*ENGINES, "both"], default="repro")
    parser.add_argument("--no-tracking", action="store_true", help="leave MLflow out")
    return parser.parse_args()


def study(root: Path, rounds: int, epochs: int, replicates: int) -> dict[str, Any]:
    """Return the experiment as params.yaml, the default one changed: 20 % more go each round."""
    grid = [{"n": n, "from": n - 1, "sparsity": round(1 - 0.8**n, 6)} for n in range(1, rounds + 1)]
    return yaml.safe_load((ROOT / "params.yaml").read_text()) | {
        "study": "lottery",
        "data": {"name": "MNIST", "root": str(root)},
        # the smallest validation part that still is one: nearly all images train, as in OpenLTH
        "cross_validation": {"folds": 1, "repeats": replicates, "validation": 0.01, "seed": 0},
        "model": {"factory": "lenet_300_100"},
        "training": {
            "epochs": epochs,
            "batch_size": 128,
            "optimizer": {"name": "sgd"},
            "learning_rate": {"base": 0.1},
        },
        "snapshots": {"steps": [], "epochs": []},
        "rounds": grid,
        "experiments": ["lottery"],
        "iterative": ["lottery"],
        "one_shot": [],
        "controls": [],
        "control": None,
        "methods": {
            "lottery": {
                "rewind": "init",
                "prune": {"criterion": "magnitude", "allocation": "global"},
                "finetune": {"weights": "rewound", "resume": "start"},
            }
        },
    }


def bare_epoch(root: Path) -> float:
    """Return the seconds of the pipeline's training loop alone, one core, 60,000 images."""
    import torch

    from benchmarks.epoch import mnist, our_epoch
    from pruning import models

    torch.set_num_threads(1)
    data, times = mnist(root), []
    for _ in range(3):
        began = time.perf_counter()
        our_epoch(models.build({"factory": "lenet_300_100"}), data)
        times.append(time.perf_counter() - began)
    return min(times)


def run(engine: str, params: dict[str, Any]) -> float:
    """Return the seconds that a run of the study takes from nothing."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary) / "study"
        lay_out(folder)
        (folder / "params.yaml").write_text(yaml.safe_dump(params, sort_keys=False))
        seconds, _ = timed(folder, *ENGINES[engine])
    return seconds


def report(engine: str, seconds: float, epochs: int, bare: float) -> bool:
    """Print one way's figures; tell whether it misses the goal."""
    command, *rest = ENGINES[engine]
    each = seconds / epochs * IMAGES / (0.99 * IMAGES)
    print(
        f"{' '.join((Path(command).name, *rest))}: {seconds:.1f} s, {each:.2f} s a training epoch, "
        f"{1 / each:.2f} epochs a second, overhead {100 * (1 - bare / each):.0f} %; OpenLTH about "
        f"{OPEN_LTH:g} s: {OPEN_LTH / each:.0f} times as fast (goal: at most {GOAL:g} s)"
    )
    return each > GOAL


if __name__ == "__main__":
    main()
