"""Where labelled images come from: scikit-learn's digits, IDX files, torchvision's CIFAR."""

import gzip
import zlib
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pruning.errors import PruningError

_IDX_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
_FASHION = "T-shirt/top Trouser Pullover Dress Coat Sandal Shirt Sneaker Bag Ankle_boot"
_IDX_CLASSES = {
    "MNIST": tuple("0123456789"),
    "FashionMNIST": tuple(name.replace("_", " ") for name in _FASHION.split()),
}
_CIFAR_FOLDERS = {"CIFAR10": "cifar-10-batches-py", "CIFAR100": "cifar-100-python"}


class Images(NamedTuple):
    """A source's images (N, C, H, W) uint8, labels (N,) and class names, with its test set."""

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    test_images: Tensor | None = None
    test_labels: Tensor | None = None


def digits() -> Images:
    """Return scikit-learn's 1,797 digits of 8 x 8 pixels; it has no test set of its own.

    The values 0 to 16 become 0 to 240, times 15, so that nothing is rounded.
    """
    from sklearn.datasets import load_digits  # type: ignore[import-untyped]

    found = load_digits()
    images = torch.from_numpy(found.images * 15).to(torch.uint8).unsqueeze(1)
    return Images(images, torch.from_numpy(found.target), tuple("0123456789"))


def idx(name: str, root: Path, *, download: bool) -> Images:
    """Return MNIST or FashionMNIST from root/<name>/raw, torchvision's place, gzipped or not.

    Read here and not by torchvision, which takes six seconds to import and cannot read the files
    gzipped; it is used for the download alone, which it checks against the published MD5s.
    """
    raw = root / name / "raw"
    missing = next((file for file in _IDX_FILES if _idx_path(raw, file) is None), None)
    if missing and not download:
        raise PruningError(
            f"{name}: neither {missing} nor {missing}.gz is in {raw}; {_how_to_allow(name)}"
        )
    if missing:
        _download(name, root)
    parts = [_read_idx(_idx_path(raw, file) or raw / file) for file in _IDX_FILES]
    images, labels, test_images, test_labels = parts
    return Images(
        images.unsqueeze(1),
        labels.long(),
        _IDX_CLASSES[name],
        test_images.unsqueeze(1),
        test_labels,
    )


def cifar(name: str, root: Path, *, download: bool) -> Images:
    """Return CIFAR10 or CIFAR100 from `root` as torchvision lays it out.

    The published files are pickles, so torchvision's class reads them: it does so only after their
    MD5s are the published ones.
    """
    place = root / _CIFAR_FOLDERS[name]
    if not place.is_dir() and not download:
        raise PruningError(f"{name}: no folder {place}; {_how_to_allow(name)}")
    kind = _torchvision(name)
    try:
        train = kind(root, train=True, download=download)
        test = kind(root, train=False)
    except (RuntimeError, OSError) as error:
        raise PruningError(
            f"{name}: {place} is not complete or not the published files; {_how_to_allow(name)}"
        ) from error
    images, test_images = (
        torch.from_numpy(part.data).permute(0, 3, 1, 2).contiguous() for part in (train, test)
    )
    labels, test_labels = torch.tensor(train.targets), torch.tensor(test.targets)
    return Images(images, labels, tuple(train.classes), test_images, test_labels)


def _torchvision(name: str) -> Any:
    from torchvision import datasets  # type: ignore[import-untyped]

    return getattr(datasets, name)


def _how_to_allow(name: str) -> str:
    return f"name the root folder that holds {name}, or allow its download with download=True"


def _idx_path(raw: Path, file: str) -> Path | None:
    return next((path for path in (raw / file, raw / f"{file}.gz") if path.is_file()), None)


def _download(name: str, root: Path) -> None:
    try:
        _torchvision(name)(root, download=True)
    except (RuntimeError, OSError) as error:
        raise PruningError(f"{name}: the download into {root} failed: {error}") from error


def _read_idx(path: Path) -> Tensor:
    """Return the unsigned bytes of an IDX file: a magic number, the sizes, the values."""
    try:
        packed = path.read_bytes()
        content = gzip.decompress(packed) if path.suffix == ".gz" else packed
    except (OSError, EOFError, zlib.error) as error:
        raise PruningError(f"{path} cannot be read: {error}") from error
    dimensions = 3 if "idx3" in path.name else 1
    start = 4 + 4 * dimensions
    sizes = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if content[:4] != bytes((0, 0, 8, dimensions)) or len(content) - start != prod(sizes):
        raise PruningError(
            f"{path} is no whole IDX file of bytes in {dimensions} dimension(s):"
            f" {len(content)} bytes, the first four {content[:4]!r}"
        )
    values = torch.frombuffer(bytearray(content), dtype=torch.uint8, offset=start)
    return values.reshape(sizes)
