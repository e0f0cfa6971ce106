"""Labelled images in memory: one uint8 tensor to learn from, one to test on.

Nothing is executed on load, and torchvision, scikit-learn and Pillow are imported only for the
sources that need them.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pruning import arrays, image_sources
from pruning.errors import PruningError, unknown
from pruning.facts import read_json, write_json
from pruning.folds import hold_out
from pruning.image_folder import Size, folder
from pruning.image_sources import Images
from pruning.tensors import read_tensors, write_tensors

NAMES = ("digits", "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "folder")
"""What `load` knows."""

_FORMAT = "pruning dataset 1"
_TENSORS = ("images", "labels", "test_images", "test_labels", "held_out")


@dataclass(frozen=True, eq=False)
class Dataset:
    """Images (N, C, H, W) uint8 with labels (N,) int64, and a test set that no fold ever indexes.

    `mean` and `std` are per channel over the training images, of pixels in [0, 1]. `held_out` says
    which samples of the source became the test set; it is empty where the source has its own.
    """

    images: Tensor
    labels: Tensor
    test_images: Tensor
    test_labels: Tensor
    held_out: Tensor
    classes: tuple[str, ...]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to(self, device: str | torch.device) -> "Dataset":
        """Return the dataset with all its tensors on `device`."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})


def load(
    name: str,
    *,
    root: str | Path | None = None,
    download: bool = False,
    size: Size | None = None,
    limit: int | None = None,
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return the dataset `name`, one of `NAMES`, from the folder `root` (digits needs none).

    "folder" is torchvision's ImageFolder layout: root/train/<class>/* and perhaps
    root/test/<class>/*; `size`, one number or (height, width), scales and centre-crops its images.
    Where there is no test set, a stratified `test_fraction` drawn from `seed` becomes it. `limit`
    keeps about that many images to learn from, stratified and drawn from `seed`. Torchvision's
    datasets are downloaded into `root` only with `download`. Raises `PruningError` for what is not
    there, is broken or cannot be learnt from.
    """
    if name not in NAMES:
        raise unknown("dataset", name, NAMES)
    if size is not None and name != "folder":
        raise PruningError(f"size {size!r} is only for dataset 'folder', not for {name!r}")
    if root is None and name != "digits":
        raise PruningError(f"dataset {name!r} needs a root folder to be found in; none was given")
    path = Path(root or ".")
    found = _limited(_found(name, path, download=download, size=size), limit, seed)
    return from_arrays(
        found.images,
        found.labels,
        test_images=found.test_images,
        test_labels=found.test_labels,
        classes=found.classes,
        name=path.resolve().name if name == "folder" else name,
        test_fraction=test_fraction,
        seed=seed,
    )


def from_arrays(
    images: Any,
    labels: Any,
    *,
    test_images: Any = None,
    test_labels: Any = None,
    classes: Sequence[str] | None = None,
    name: str = "arrays",
    test_fraction: float = 0.2,
    seed: int = 0,
) -> Dataset:
    """Return a dataset of your own arrays: images (N, C, H, W) or (N, H, W), labels (N,).

    Images are uint8, or floats in [0, 1], which are rounded to the nearest of 256 levels. Without a
    test set a stratified `test_fraction` of the samples, drawn from `seed`, is held out. Raises
    `PruningError` for NaN, values out of range, lengths that differ, labels without a class, and
    data that is empty or of one class.
    """
    if (test_images is None) != (test_labels is None):
        raise PruningError("test images and test labels must be given together, or neither")
    pixels, targets = arrays.pixels(images, "images"), arrays.targets(labels, "labels")
    names = tuple(classes) if classes is not None else arrays.numbered_classes(targets)
    arrays.check_pairs(pixels, targets, names, "images")
    arrays.check_learnable(targets, names)
    held_out = torch.empty(0, dtype=torch.int64)
    if test_images is None:
        split = hold_out(targets, fraction=test_fraction, seed=seed)
        held_out = split.validation
        test_pixels, test_targets = pixels[held_out], targets[held_out]
        pixels, targets = pixels[split.train], targets[split.train]
    else:
        test_pixels = arrays.pixels(test_images, "test images")
        test_targets = arrays.targets(test_labels, "test labels")
    mean, std = channel_statistics(pixels)
    dataset = Dataset(pixels, targets, test_pixels, test_targets, held_out, names, name, mean, std)
    _check_test_set(dataset)
    return dataset


def channel_statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Return mean and standard deviation per channel of uint8 `images` (N, C, H, W), over 255.

    Summed in integers, so exact and everywhere the same. A constant channel gets deviation 1.
    """
    count = images.numel() // images.shape[1]
    sums = torch.zeros(2, images.shape[1], dtype=torch.int64)
    for chunk in torch.split(images, 1024):
        sums[0] += chunk.sum((0, 2, 3), dtype=torch.int64)
        sums[1] += chunk.int().square_().sum((0, 2, 3), dtype=torch.int64)
    pairs = list(zip(*sums.tolist(), strict=True))
    mean = tuple(total / count / 255 for total, _ in pairs)
    std = (sqrt(count * squares - total * total) / count / 255 for total, squares in pairs)
    return mean, tuple(deviation or 1.0 for deviation in std)


def save(dataset: Dataset, folder: Path) -> None:
    """Write data.safetensors and meta.json into `folder`; the same dataset gives the same bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    # The facts go first and come back last: a folder without them is not taken for a dataset.
    (folder / "meta.json").unlink(missing_ok=True)
    write_tensors(folder / "data.safetensors", {name: getattr(dataset, name) for name in _TENSORS})
    facts = {"name": dataset.name, "classes": dataset.classes}
    write_json(
        folder / "meta.json", facts | {"mean": dataset.mean, "std": dataset.std, "format": _FORMAT}
    )


def read(folder: Path) -> Dataset:
    """Read what `save` wrote; a missing, truncated or foreign file is a `PruningError`."""
    facts = read_json(folder / "meta.json")
    if not isinstance(facts, dict) or facts.get("format") != _FORMAT:
        raise PruningError(f"{folder / 'meta.json'} is not of the format {_FORMAT!r}")
    tensors = read_tensors(folder / "data.safetensors")
    if set(tensors) != set(_TENSORS):
        raise PruningError(
            f"{folder / 'data.safetensors'} holds {sorted(tensors)}, not {sorted(_TENSORS)}"
        )
    try:
        parts: dict[str, Any] = {key: tuple(facts[key]) for key in ("classes", "mean", "std")}
        dataset = Dataset(name=facts["name"], **(parts | tensors))
        _check_read(dataset)
    except (KeyError, TypeError, PruningError) as error:
        raise PruningError(f"{folder} holds no whole dataset: {error}") from error
    return dataset


def _found(name: str, root: Path, *, download: bool, size: Size | None) -> Images:
    if name == "digits":
        return image_sources.digits()
    if name == "folder":
        return folder(root, size=size)
    read = image_sources.idx if name.endswith("MNIST") else image_sources.cifar
    return read(name, root, download=download)


def _limited(found: Images, limit: int | None, seed: int) -> Images:
    """Return a stratified draw of about `limit` of the images to learn from; the test set stays."""
    if limit is None or limit >= len(found.labels):
        return found
    labels = torch.as_tensor(found.labels)
    if limit < len(found.classes):
        raise PruningError(f"limit {limit} leaves none of some of {len(found.classes)} classes")
    kept = hold_out(labels, fraction=limit / len(labels), seed=seed, repeat=1).validation
    return found._replace(images=found.images[kept], labels=labels[kept])


def _check_read(dataset: Dataset) -> None:
    """Refuse tensors and facts that cannot have come from one dataset."""
    shapes = {"images": 4, "labels": 1, "test_images": 4, "test_labels": 1, "held_out": 1}
    for name, dimensions in shapes.items():
        tensor = getattr(dataset, name)
        kind = torch.uint8 if dimensions == 4 else torch.int64
        if tensor.ndim != dimensions or tensor.dtype != kind:
            raise PruningError(f"{name} is {tensor.dtype} of shape {tuple(tensor.shape)}")
    if not len(dataset.mean) == len(dataset.std) == dataset.images.shape[1]:
        raise PruningError(f"mean {dataset.mean} and std {dataset.std} do not fit the images")
    arrays.check_pairs(dataset.images, dataset.labels, dataset.classes, "images")
    _check_test_set(dataset)


def _check_test_set(dataset: Dataset) -> None:
    arrays.check_pairs(dataset.test_images, dataset.test_labels, dataset.classes, "test images")
    given, wanted = tuple(dataset.test_images.shape[1:]), tuple(dataset.images.shape[1:])
    if given != wanted:
        raise PruningError(f"test images have shape {given}, the images to learn from {wanted}")
