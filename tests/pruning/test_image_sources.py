import gzip
import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from pruning import datasets, image_sources
from pruning.errors import PruningError

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


def test_digits_are_scikit_learns_with_a_fifth_held_out_and_nothing_rounded():
    from sklearn.datasets import load_digits

    data, source = datasets.load("digits", seed=3), load_digits()
    assert data.images.shape == (1438, 1, 8, 8)
    assert data.test_images.shape == (359, 1, 8, 8)
    pixels = torch.from_numpy(source.images)
    assert torch.equal(data.test_images[:, 0] / 15, pixels[data.held_out].float())
    rest = sorted(set(range(1797)) - set(data.held_out.tolist()))
    assert torch.equal(data.images[:, 0] / 15, pixels[rest].float())
    assert data.labels.tolist() == source.target[rest].tolist()
    assert data.test_labels.tolist() == source.target[data.held_out.numpy()].tolist()
    whole, held = np.bincount(source.target), torch.bincount(data.test_labels)
    assert all(abs(h - 0.2 * w) <= 0.5 for h, w in zip(held.tolist(), whole, strict=True))


def test_the_held_out_digits_depend_on_the_seed_alone():
    first, again, other = (datasets.load("digits", seed=seed).held_out for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.skipif(not (SHARED / "MNIST").is_dir(), reason="no MNIST in ../shared/data")
def test_mnist_is_read_from_the_gzipped_files():
    data = datasets.load("MNIST", root=SHARED)
    assert data.images.shape == (60_000, 1, 28, 28)
    assert data.test_images.shape == (10_000, 1, 28, 28)
    assert data.labels[:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert data.test_labels[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    # the published MD5 of train-images-idx3-ubyte, which starts with 16 bytes of header
    header = b"".join(number.to_bytes(4, "big") for number in (2051, 60_000, 28, 28))
    digest = hashlib.md5(header + data.images.numpy().tobytes()).hexdigest()
    assert digest == "6bbc9ace898e44ae57da46a324031adb"
    assert data.mean == pytest.approx((0.1307,), abs=5e-5)
    assert data.std == pytest.approx((0.3081,), abs=5e-5)
    assert len(data.held_out) == 0


def write_idx(raw: Path, *, gzipped: bool) -> None:
    """Write 4 training and 2 test images of 2 x 3 pixels that count up from 0."""
    raw.mkdir(parents=True, exist_ok=True)
    for prefix, size in (("train", 4), ("t10k", 2)):
        shape = (size).to_bytes(4, "big") + bytes((0, 0, 0, 2, 0, 0, 0, 3))
        images = bytes((0, 0, 8, 3)) + shape + bytes(range(6 * size))
        labels = bytes((0, 0, 8, 1)) + size.to_bytes(4, "big") + bytes(range(10))[:size]
        for kind, content in (("images-idx3", images), ("labels-idx1", labels)):
            path = raw / f"{prefix}-{kind}-ubyte"
            if gzipped:
                path.with_name(path.name + ".gz").write_bytes(gzip.compress(content))
            else:
                path.write_bytes(content)


@pytest.mark.parametrize("gzipped", [False, True])
def test_idx_files_by_hand(tmp_path: Path, gzipped: bool):
    write_idx(tmp_path / "MNIST" / "raw", gzipped=gzipped)
    found = image_sources.idx("MNIST", tmp_path, download=False)
    assert found.images.shape == (4, 1, 2, 3)
    assert found.images[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]
    assert found.labels.tolist() == [0, 1, 2, 3]
    assert found.test_images is not None
    assert found.test_images[1].tolist() == [[[6, 7, 8], [9, 10, 11]]]


def test_fashion_mnist_is_read_from_its_own_folder_with_its_own_names(tmp_path: Path):
    write_idx(tmp_path / "FashionMNIST" / "raw", gzipped=True)
    found = image_sources.idx("FashionMNIST", tmp_path, download=False)
    assert len(found.classes) == 10
    assert (found.classes[0], found.classes[9]) == ("T-shirt/top", "Ankle boot")


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.95])
@pytest.mark.parametrize("gzipped", [False, True])
def test_a_truncated_idx_file_is_refused_by_name(tmp_path: Path, gzipped: bool, share: float):
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, gzipped=gzipped)
    (path,) = raw.glob("train-images*")
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PruningError, match=path.name):
        datasets.load("MNIST", root=tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"no gzip at all", gzip.compress(b"<html>not found</html>" * 9)],
    ids=["no gzip", "a page, gzipped"],  # the bytes hold the time, which tells workers apart
)
def test_a_foreign_idx_file_is_refused_by_name(tmp_path: Path, content: bytes):
    raw = tmp_path / "MNIST" / "raw"
    write_idx(raw, gzipped=True)
    (raw / "t10k-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(PruningError, match=r"t10k-labels-idx1-ubyte\.gz"):
        datasets.load("MNIST", root=tmp_path)


@pytest.mark.parametrize("name", ["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"])
def test_what_is_not_there_is_not_downloaded_unasked(tmp_path: Path, name: str, monkeypatch):
    monkeypatch.setattr(image_sources, "_torchvision", lambda _: pytest.fail("would download"))
    with pytest.raises(PruningError, match="download=True") as refused:
        datasets.load(name, root=tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_a_download_is_asked_of_torchvision_and_then_read(tmp_path: Path, monkeypatch):
    def torchvision_kind(root: Path, *, download: bool) -> None:
        assert download
        write_idx(root / "MNIST" / "raw", gzipped=False)

    monkeypatch.setattr(image_sources, "_torchvision", lambda _: torchvision_kind)
    assert image_sources.idx("MNIST", tmp_path, download=True).labels.tolist() == [0, 1, 2, 3]


def test_a_download_that_fails_is_a_clear_error(tmp_path: Path, monkeypatch):
    def torchvision_kind(root: Path, *, download: bool) -> None:
        raise OSError(f"no route to host for {root}, {download}")

    monkeypatch.setattr(image_sources, "_torchvision", lambda _: torchvision_kind)
    with pytest.raises(PruningError, match=r"MNIST: the download into .* no route to host"):
        datasets.load("MNIST", root=tmp_path, download=True)


def write_cifar(root: Path, monkeypatch) -> Path:
    """Write two images a part in CIFAR-10's own format and make their MD5s the published ones."""
    from torchvision.datasets import CIFAR10

    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    rows = np.arange(2 * 3072, dtype=np.int64).reshape(2, 3072) % 251
    batch = {"data": rows.astype(np.uint8), "labels": [0, 1]}
    contents = {"data_batch_1": batch, "test_batch": batch, "meta": {"label_names": ["cat", "dog"]}}
    sums = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        sums[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    meta = {"filename": "meta", "key": "label_names", "md5": sums["meta"]}
    monkeypatch.setattr(CIFAR10, "train_list", [["data_batch_1", sums["data_batch_1"]]])
    monkeypatch.setattr(CIFAR10, "test_list", [["test_batch", sums["test_batch"]]])
    monkeypatch.setattr(CIFAR10, "meta", meta)
    return folder


def test_cifar_is_read_by_torchvision_into_channels_first(tmp_path: Path, monkeypatch):
    write_cifar(tmp_path, monkeypatch)
    data = datasets.load("CIFAR10", root=tmp_path)
    assert data.images.shape == (2, 3, 32, 32)
    assert data.images.is_contiguous()
    # channel 2, row 1, column 5 of the second image is its value 2 * 1024 + 32 + 5
    assert int(data.images[1, 2, 1, 5]) == (3072 + 2048 + 37) % 251
    assert (data.labels.tolist(), data.classes) == ([0, 1], ("cat", "dog"))


def test_cifar_files_without_their_published_md5_are_not_unpickled(tmp_path: Path, monkeypatch):
    class Bomb:
        def __reduce__(self):
            return (Path.touch, (tmp_path / "exploded",))

    folder = write_cifar(tmp_path, monkeypatch)
    (folder / "data_batch_1").write_bytes(pickle.dumps(Bomb()))
    with pytest.raises(PruningError, match=r"cifar-10-batches-py.*not the published files"):
        datasets.load("CIFAR10", root=tmp_path)
    assert not (tmp_path / "exploded").exists()
