"""Tensors and facts in files: the same bytes every time, and errors that name the file."""

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch

from pruning.errors import PruningError
from pruning.facts import read_json, write_json
from pruning.tensors import read_tensors, write_tensors

TENSORS = {
    "b": torch.tensor([[1.0, -0.0, float("nan")], [float("inf"), 1e-45, -2.5]]),
    "a": torch.arange(3),
    "half": torch.tensor([0.1], dtype=torch.bfloat16),
    "scalar": torch.tensor(7),
    "none": torch.empty(0, 3),
}


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let writing beyond `size` bytes of a file fail, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_every_bit_comes_back(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    found = read_tensors(path)
    assert found.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert (found[name].dtype, found[name].shape) == (tensor.dtype, tensor.shape)
        ours, theirs = found[name].reshape(-1), tensor.reshape(-1)
        assert torch.equal(ours.view(torch.uint8), theirs.view(torch.uint8))


def test_the_same_tensors_give_the_same_bytes(tmp_path: Path):
    write_tensors(tmp_path / "one", TENSORS)
    write_tensors(tmp_path / "two", dict(reversed(TENSORS.items())))
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_views_and_shared_memory_are_written_as_they_look(tmp_path: Path):
    whole = torch.arange(6.0).view(2, 3)
    write_tensors(tmp_path / "x", {"t": whole.t(), "same": whole, "part": whole[:, 1]})
    found = read_tensors(tmp_path / "x")
    assert found["t"].tolist() == [[0.0, 3.0], [1.0, 4.0], [2.0, 5.0]]
    assert found["part"].tolist() == [1.0, 4.0]


def test_what_was_read_does_not_change_with_the_file(tmp_path: Path):
    path = tmp_path / "x"
    write_tensors(path, {"a": torch.ones(4000)})
    found = read_tensors(path)["a"]
    with path.open("r+b") as file:
        file.seek(200)
        file.write(bytes(15_000))
    assert float(found.sum()) == 4000
    path.write_bytes(b"")
    assert float(found.sum()) == 4000


@pytest.mark.parametrize("length", [0, 1, 7, 8, 9, 60, 0.5, -1])
def test_a_truncated_file_is_named(tmp_path: Path, length):
    path = tmp_path / "x.safetensors"
    write_tensors(path, TENSORS)
    content = path.read_bytes()
    path.write_bytes(content[: int(length * len(content)) if length == 0.5 else length])
    with pytest.raises(PruningError, match=r"x\.safetensors: no readable tensors"):
        read_tensors(path)


@pytest.mark.parametrize("content", [b"{}", b"\x80\x04K\x01.", b"PK\x03\x04" * 30, b"\xff" * 99])
def test_a_foreign_file_is_named(tmp_path: Path, content):
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    with pytest.raises(PruningError, match=r"x\.safetensors: no readable tensors"):
        read_tensors(path)


def test_absent_files_and_folders_are_named(tmp_path: Path):
    for path in (tmp_path / "none", tmp_path):
        with pytest.raises(PruningError, match=f"{path.name}: no readable tensors"):
            read_tensors(path)
        with pytest.raises(PruningError, match=f"{path.name}: no readable JSON"):
            read_json(path)
    with pytest.raises(PruningError, match="none/x: cannot be written"):
        write_tensors(tmp_path / "none" / "x", TENSORS)
    with pytest.raises(PruningError, match="none/x: cannot be written"):
        write_json(tmp_path / "none" / "x", {})


def test_a_full_disk_is_told(tmp_path: Path):
    with files_of_at_most(4096):
        with pytest.raises(PruningError, match="x: cannot be written"):
            write_tensors(tmp_path / "x", {"a": torch.ones(4000)})
        with pytest.raises(PruningError, match="y: cannot be written"):
            write_json(tmp_path / "y", [*range(4000)])


def test_facts_come_back_and_are_sorted(tmp_path: Path):
    write_json(tmp_path / "one", {"b": [1, 2.5, None], "a": {"d": True, "c": "Erdős"}})
    write_json(tmp_path / "two", {"a": {"c": "Erdős", "d": True}, "b": [1, 2.5, None]})
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert read_json(tmp_path / "one") == {"b": [1, 2.5, None], "a": {"d": True, "c": "Erdős"}}


@pytest.mark.parametrize("facts", [float("nan"), {"a": torch.ones(1)}, object()])
def test_what_is_no_json_is_refused(tmp_path: Path, facts):
    with pytest.raises(PruningError, match="x: cannot be written"):
        write_json(tmp_path / "x", facts)
    assert not (tmp_path / "x").exists()


@pytest.mark.parametrize("text", ["", "{", '{"a": 1', "\x00", "[1,]"])
def test_what_is_no_json_is_named(tmp_path: Path, text):
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(PruningError, match=r"x\.json: no readable JSON"):
        read_json(tmp_path / "x.json")


def test_bytes_that_are_no_text_are_named(tmp_path: Path):
    (tmp_path / "x.json").write_bytes(b"\xff\xfe\x80")
    with pytest.raises(PruningError, match=r"x\.json: no readable JSON"):
        read_json(tmp_path / "x.json")
