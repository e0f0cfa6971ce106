"""Folders that are there whole or not at all, whatever kills the one who writes them."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pruning.errors import PruningError
from pruning.folders import whole

ROOT = Path(__file__).parents[2]


def write(folder: Path, text: str) -> None:
    with whole(folder) as partial:
        (partial / "inner").mkdir()
        (partial / "inner" / "text").write_text(text)


def text_of(folder: Path) -> str:
    return (folder / "inner" / "text").read_text()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def killed(code: str, folder: Path) -> None:
    """Run `code` in a process of its own, which has to die of SIGKILL."""
    program = (
        "import os, signal, sys, pathlib\nfrom pruning.folders import whole\n"
        "folder = pathlib.Path(sys.argv[1])\n"
        "def die(*_): os.kill(os.getpid(), signal.SIGKILL)\n" + code
    )
    run = subprocess.run([sys.executable, "-c", program, str(folder)], cwd=ROOT)
    assert run.returncode == -signal.SIGKILL


IN_THE_MIDDLE = """
with whole(folder) as partial:
    (partial / "half").write_text("half")
    die()
"""

AT_RENAME = """
rename, calls = pathlib.Path.rename, []
def counted(path, target):
    if len(calls) == {at}: die()
    calls.append(path)
    return rename(path, target)
pathlib.Path.rename = counted
with whole(folder) as partial:
    (partial / "inner").mkdir()
    (partial / "inner" / "text").write_text("new")
"""

AT_CLEANING = """
import shutil
with whole(folder) as partial:
    (partial / "inner").mkdir()
    (partial / "inner" / "text").write_text("new")
    shutil.rmtree = die
"""


def test_a_new_folder_and_its_parents(tmp_path: Path):
    folder = tmp_path / "a" / "b"
    write(folder, "one")
    assert text_of(folder) == "one"
    assert names(folder.parent) == ["b"]


def test_nothing_is_there_before_the_end(tmp_path: Path):
    with whole(tmp_path / "a") as partial:
        (partial / "x").write_text("x")
        assert not (tmp_path / "a").exists()
    assert names(tmp_path / "a") == ["x"]


def test_the_old_folder_is_replaced_whole(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "stale").write_text("stale")
    with whole(tmp_path / "a") as partial:
        (partial / "x").write_text("x")
        assert names(tmp_path / "a") == ["stale"]
    assert names(tmp_path / "a") == ["x"]
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_error_leaves_the_old_folder(tmp_path: Path, error):
    write(tmp_path / "a", "old")
    with pytest.raises(error), whole(tmp_path / "a") as partial:
        (partial / "x").write_text("x")
        raise error
    assert text_of(tmp_path / "a") == "old"
    assert names(tmp_path) == ["a"]


def test_killed_in_the_middle_leaves_no_folder_and_the_next_run_cleans_up(tmp_path: Path):
    folder = tmp_path / "a"
    killed(IN_THE_MIDDLE, folder)
    assert not folder.exists()
    assert [path.name for path in tmp_path.glob(".a.*/half")] == ["half"]
    write(folder, "new")
    assert names(tmp_path) == ["a"]


def test_killed_in_the_middle_leaves_the_old_folder(tmp_path: Path):
    write(tmp_path / "a", "old")
    killed(IN_THE_MIDDLE, tmp_path / "a")
    assert text_of(tmp_path / "a") == "old"


@pytest.mark.parametrize("at", [0, 1])
def test_killed_while_the_two_change_places_loses_nothing(tmp_path: Path, at):
    folder = tmp_path / "a"
    write(folder, "old")
    killed(AT_RENAME.format(at=at), folder)
    assert folder.exists() == (at == 0)
    with pytest.raises(ValueError), whole(folder):
        assert text_of(folder) == "old"
        raise ValueError
    assert names(tmp_path) == ["a"]


def test_killed_while_the_old_one_is_cleared_leaves_the_new_one(tmp_path: Path):
    folder = tmp_path / "a"
    write(folder, "old")
    killed(AT_CLEANING, folder)
    assert text_of(folder) == "new"
    assert len(names(tmp_path)) == 2
    write(folder, "newer")
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("name", ["a[1]", "a*", "fold-1", "ä b"])
def test_only_what_is_its_own_is_cleared_away(tmp_path: Path, name):
    others = [".a1.7.partial", ".fold-10.7.partial", ".ab.7.old", "kept"]
    for other in others:
        (tmp_path / other).mkdir()
    (tmp_path / f".{name}.7.partial").mkdir()
    write(tmp_path / name, "text")
    assert names(tmp_path) == sorted(
        [".a1.7.partial", ".ab.7.old", ".fold-10.7.partial", "kept", name]
    )


def test_a_file_in_its_place_is_refused_and_kept(tmp_path: Path):
    (tmp_path / "a").write_text("a file")
    with pytest.raises(PruningError, match="a: is a file; a folder is to be written"):
        write(tmp_path / "a", "text")
    assert (tmp_path / "a").read_text() == "a file"
    assert names(tmp_path) == ["a"]


def test_a_name_relative_to_where_one_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    write(Path("a"), "text")
    assert text_of(tmp_path / "a") == "text"
