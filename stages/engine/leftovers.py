"""What a stage that was killed leaves to the next one: its folds' checkpoints, and whole folds."""

import hashlib
import importlib.util
import json
import shutil
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path

import pruning
import stages
from pruning.folders import whole
from stages.files import RESUME, Manifest
from stages.params.own_code import named

FINISHED = "finished"
"""Where the folds that were done lie, beside the checkpoints of those that were not."""


def folder_of(manifest: Manifest) -> Path:
    """Return where the work on an output is kept: of its settings, its inputs and this code."""
    name = f"{manifest.stage}-{manifest.experiment}-round-{manifest.round}"
    facts = json.dumps(manifest.facts(), sort_keys=True)
    made_by = hashlib.sha256(
        f"{facts} {code(sorted(named(manifest.facts())))} {state(manifest.inputs)}".encode()
    )
    return RESUME / f"{name}-{made_by.hexdigest()[:16]}"


def code(modules: Sequence[str] = ()) -> str:
    """Return the hash of both packages' source, of the user's `modules` and of torch's version."""
    found = hashlib.sha256(version("torch").encode())
    for package in (pruning, stages):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            found.update(f"{path.relative_to(root)}".encode() + path.read_bytes())
    for name in modules:
        with suppress(Exception):  # whatever a package does when imported: the stage tells of it
            spec = importlib.util.find_spec(name)
            if spec and spec.origin:
                found.update(Path(spec.origin).read_bytes())
    return found.hexdigest()


def state(folders: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return the files of folders with their sizes and times: cheap, and new with any writing."""
    files = sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())
    return [(f"{path}", path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def take_up(resume: Path, folder: Path) -> bool:
    """Copy a fold that was done into place; return whether there was one."""
    done = resume / FINISHED / folder.name
    if not done.is_dir():
        return False
    shutil.copytree(done, folder)
    return True


def keep(resume: Path, folder: Path) -> None:
    """Keep a copy of a fold that is done, whole or not at all, until its stage is."""
    done = resume / FINISHED / folder.name
    done.parent.mkdir(parents=True, exist_ok=True)
    with whole(done) as partial:
        shutil.copytree(folder, partial, dirs_exist_ok=True)


def forget(resume: Path, folds: Sequence[int]) -> None:
    """Drop the copies of folds that are in an output now, and what other code or settings left."""
    for fold in folds:
        shutil.rmtree(resume / FINISHED / f"fold-{fold}", ignore_errors=True)
    for folder in (resume / FINISHED, resume):
        with suppress(OSError):  # another fold's work is there
            folder.rmdir()
    of_this_output, _, _ = resume.name.rpartition("-")
    for other in RESUME.glob(f"{of_this_output}-{'[0-9a-f]' * 16}"):
        if other.name != resume.name:
            shutil.rmtree(other, ignore_errors=True)
