"""Show DVC the code of one's own that params.yaml lists, so that an edit reruns what uses it."""

import shutil
from collections.abc import Sequence
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


def note(settings: Any, listed: Sequence[str], path: Path) -> None:
    """Write which of the listed files `settings` use, and the hash of each, to `path`."""
    import hashlib

    from pruning.facts import write_json
    from stages.files import OWN_CODE

    files = _used(settings, listed)
    found = {file: hashlib.sha256((OWN_CODE / file).read_bytes()).hexdigest() for file in files}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_json(path, found)


def check_noted(settings: Any, listed: Sequence[str], experiment: str) -> None:
    """Refuse settings that use a listed file which the experiment's snapshot was noted without.

    Its note is what DVC goes by: from its run cache it could give back what an older version of
    the file made. Only settings that a snapshot does not depend on can be ahead of it.
    """
    from pruning.errors import PruningError
    from pruning.facts import read_json
    from stages.files import code_of

    noted = read_json(code_of(experiment)) if code_of(experiment).is_file() else {}
    for file in _used(settings, listed):
        if file not in noted:
            raise PruningError(
                f"{code_of(experiment)}: without {file}, which {experiment} names by now; "
                f"run `dvc repro --force --single-item snapshot@{experiment}` first"
            )


def _used(settings: Any, listed: Sequence[str]) -> list[str]:
    """Return which of the listed files `settings` use by their copies; each must be there."""
    from pruning.errors import PruningError
    from stages.files import OWN_CODE
    from stages.params import own_code

    missing = [file for file in listed if not (OWN_CODE / file).is_file()]
    if missing:
        raise PruningError(
            f"{OWN_CODE / missing[0]}: not there; run `dvc repro` or "
            f"`python -m stages.own_code --file {missing[0]}` first"
        )
    return own_code.used(settings, listed, OWN_CODE)


app = application(own_code)

if __name__ == "__main__":
    app()
