"""Choose what an experiment starts from and what "rewound" means in it."""

import shutil
from pathlib import Path
from typing import Any

from stages.command import (
    PARAMS,
    Experiment,
    Fold,
    ParamsFile,
    application,
    one_line_errors,
)

NETWORK = ("network.json", "weights.safetensors", "masks.safetensors")


def snapshot(experiment: Experiment, fold: Fold = None, params: ParamsFile = PARAMS) -> None:
    """Lay out an experiment's round 0: the dense network and the rewind point of every fold."""
    with one_line_errors():
        from stages import groups, own_code
        from stages.files import DENSE, Manifest, code_of, output, start_of
        from stages.params import read

        study = read(params)
        method = study.method(experiment)
        rewind = method.rewind
        replicates = range(study.cross_validation.replicates)
        group = groups.of_experiment(study, experiment)
        manifest = Manifest(
            study.study, "snapshot", experiment, 0, replicates, {"rewind": rewind}, group, (DENSE,)
        )
        with output(start_of(experiment), manifest, fold) as folder:
            for replicate in replicates if fold is None else [fold]:
                lay_out(DENSE / f"fold-{replicate}", folder / f"fold-{replicate}", rewind)
        uses = [part.model_dump() for part in (method, study.model, study.training)]
        own_code.note(uses, study.own_code, code_of(experiment))
        print(f"{experiment}: starts from the dense network, rewinds to {describe(rewind)}")


def lay_out(dense: Path, folder: Path, rewind: dict[str, Any]) -> None:
    """Copy one fold's dense network and the snapshot that `rewind` names."""
    from pruning.errors import PruningError

    kept = dense / "snapshots"
    source = kept / f"{_name(rewind)}.safetensors"
    if not source.is_file():
        choices = ", ".join(sorted(path.stem for path in kept.glob("*.safetensors")))
        raise PruningError(f"{kept}: no snapshot {source.stem!r}; choose from {choices}")
    folder.mkdir()
    for name in NETWORK:
        shutil.copyfile(dense / name, folder / name)
    shutil.copyfile(source, folder / "rewind.safetensors")


def describe(rewind: dict[str, Any]) -> str:
    """Return a rewind point in words."""
    return _name(rewind).replace("-", " ")


def _name(rewind: dict[str, Any]) -> str:
    kind, at = next(iter(rewind.items()))
    if kind in ("best", "final"):
        return kind
    return "step-0" if at == 0 else f"{kind}-{at}"


app = application(snapshot)

if __name__ == "__main__":
    app()
