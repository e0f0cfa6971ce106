"""Images from files in torchvision's ImageFolder layout, by Pillow alone."""

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pruning.errors import PruningError
from pruning.image_sources import Images

EXTENSIONS = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
"""The files that count as images: torchvision's list."""

Size: TypeAlias = int | tuple[int, int]
"""One number for a square, or (height, width), in pixels."""


def folder(root: Path, *, size: Size | None) -> Images:
    """Return the images of root/train/<class>/** and root/test/<class>/**, as RGB.

    Classes and files come in sorted order. With `size` each image is scaled, its aspect kept, and
    cropped around its centre; without, all must have one size. Raises `PruningError` naming the
    file that is broken or differs.
    """
    train, test = root / "train", root / "test"
    if not train.is_dir():
        raise PruningError(f"no folder {train}; the layout is <root>/train/<class>/<image>")
    classes = tuple(sorted(entry.name for entry in train.iterdir() if entry.is_dir()))
    files, labels = _listed(train, classes)
    shape = _shape(size) if size is not None else _shape_of(files[0])
    images = _decoded(files, shape, scale=size is not None)
    if not test.is_dir():
        return Images(images, labels, classes)
    foreign = sorted({entry.name for entry in test.iterdir() if entry.is_dir()} - set(classes))
    if foreign:
        raise PruningError(f"{test / foreign[0]}: class {foreign[0]!r} is not in {train}")
    test_files, test_labels = _listed(test, classes)
    test_images = _decoded(test_files, shape, scale=size is not None)
    return Images(images, labels, classes, test_images, test_labels)


def _listed(part: Path, classes: Sequence[str]) -> tuple[list[Path], Tensor]:
    """Return the image files below each class's folder, and their labels."""
    files: list[Path] = []
    labels: list[int] = []
    for label, name in enumerate(classes):
        below = _walk(part / name)
        if not below and part.name == "train":
            raise PruningError(f"{part / name} holds no image ({', '.join(EXTENSIONS)})")
        files += below
        labels += [label] * len(below)
    if not files:
        raise PruningError(f"{part} holds no <class>/<image> ({', '.join(EXTENSIONS)})")
    return files, torch.tensor(labels)


def _walk(top: Path) -> list[Path]:
    # In torchvision's order, which is a folder's own files before those of the folders in it.
    return [
        Path(where, name)
        for where, _, names in sorted(os.walk(top, followlinks=True))
        for name in sorted(names)
        if name.lower().endswith(EXTENSIONS)
    ]


def _shape(size: Size) -> tuple[int, int]:
    pair = (size, size) if isinstance(size, int) else tuple(size)
    if len(pair) != 2 or min(pair) < 1:
        raise PruningError(f"size {size!r} is neither one number of pixels nor (height, width)")
    return pair[0], pair[1]


def _shape_of(file: Path) -> tuple[int, int]:
    _, height, width = _decode(file, None).shape
    return height, width


def _decoded(files: Sequence[Path], shape: tuple[int, int], *, scale: bool) -> Tensor:
    """Return all images as one tensor (N, 3, H, W), each thread decoding every n-th file."""
    images = np.empty((len(files), 3, *shape), dtype=np.uint8)

    def decode_some(positions: range) -> None:
        for position in positions:
            image = _decode(files[position], shape if scale else None)
            if image.shape[1:] != shape:
                sizes = f"has (height, width) {image.shape[1:]}, others have {shape}"
                raise PruningError(f"{files[position]} {sizes}; give a size to scale them all to")
            images[position] = image

    threads = min(4, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(decode_some, (range(i, len(files), threads) for i in range(threads))))
    return torch.from_numpy(images)


def _decode(file: Path, shape: tuple[int, int] | None) -> npt.NDArray[np.uint8]:
    """Return one image (3, H, W) as RGB, scaled and cropped to `shape` if one is given."""
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as opened:
            image = opened.convert("RGB")
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PruningError(f"{file} cannot be read as an image: {error}") from error
    if shape is not None:
        image = ImageOps.fit(image, (shape[1], shape[0]), method=Image.Resampling.BILINEAR)
    return np.asarray(image).transpose(2, 0, 1)
