"""Show DVC the code of one's own that params.yaml lists, so that an edit reruns what uses it."""

import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import PARAMS, ParamsFile, application, one_line_errors

File = Annotated[
    str | None, typer.Option("--file", help="Copy this one; without it, note what training uses.")
]


def own_code(file: File = None, params: ParamsFile = PARAMS) -> None:
    """Copy a file of own_code to where stages depend on it, or note which of them training uses."""
    with one_line_errors():
        from pruning.errors import unknown
        from stages.files import OWN_CODE, TRAINING_CODE
        from stages.params import read

        study = read(params)
        if file is None:
            uses = [study.model.model_dump(), study.training.model_dump()]
            note(uses, study.own_code, TRAINING_CODE)
        elif file not in study.own_code:
            raise unknown("file of own_code", file, study.own_code or ["none"], str(params))
        else:
            copy(Path(file), OWN_CODE / file)


def copy(source: Path, target: Path) -> None:
    """Copy one file."""
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source, target)


def note(settings: Any, listed: Iterable[str], path: Path) -> None:
    """Write which of the listed files `settings` use, and the hash of each, to `path`."""
    import hashlib

    from pruning.errors import PruningError
    from pruning.facts import write_json
    from stages.files import OWN_CODE
    from stages.params.own_code import used

    missing = [file for file in listed if not (OWN_CODE / file).is_file()]
    if missing:
        raise PruningError(
            f"{OWN_CODE / missing[0]}: not there; run `dvc repro` or "
            f"`python -m stages.own_code --file {missing[0]}` first"
        )
    files = used(settings, list(listed), OWN_CODE)
    found = {file: hashlib.sha256((OWN_CODE / file).read_bytes()).hexdigest() for file in files}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


app = application(own_code)

if __name__ == "__main__":
    app()
