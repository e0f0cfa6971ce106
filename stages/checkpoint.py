"""Take a trained network that params.yaml names, instead of training one."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stages.command import PARAMS, ParamsFile, application, torch_stage

if TYPE_CHECKING:
    from stages.params import Params

Number = Annotated[int, typer.Option("--number", help="The checkpoint, from 0.")]


def checkpoint(number: Number, params: ParamsFile = PARAMS) -> None:
    """Read a checkpoint into a network of the study's model; refuse one of another model."""
    with torch_stage():
        from stages.files import given
        from stages.params import read

        study = read(params)
        take(study, number, given(number))
        print(f"checkpoint {number}: {study.checkpoint(number).file}")


def take(study: "Params", number: int, folder: Path) -> None:
    """Write the network of one checkpoint."""
    import hashlib

    from pruning.checkpoints import load_state, read_state
    from pruning.models import build
    from pruning.network import Network, write
    from stages.files import Manifest, output

    path = Path(study.checkpoint(number).file)
    spec = study.model.model_dump()
    model = build(spec, foreign=True)
    load_state(model, read_state(path), where=str(path))
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    settings = {"model": spec, "file": path.as_posix(), "sha256": digest}
    manifest = Manifest(study.study, "checkpoint", None, 0, (), settings, settings)
    with output(folder, manifest) as unfinished:
        write(Network(model.eval(), {}, spec), unfinished)


app = application(checkpoint)

if __name__ == "__main__":
    app()
