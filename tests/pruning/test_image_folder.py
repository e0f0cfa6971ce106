import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pruning import datasets
from pruning.errors import PruningError

CIFAR_JPEG = Path(__file__).parents[2].parent / "shared" / "data" / "cifar10-jpeg.tar.xz"


def write_images(root: Path, *, size: tuple[int, int] = (4, 3), per_class: int = 5) -> Path:
    draw = np.random.default_rng(0)
    for name in ("zebra", "ape"):
        (root / "train" / name).mkdir(parents=True)
        for number in range(per_class):
            pixels = draw.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "train" / name / f"{number}.png")
    return root


@pytest.mark.skipif(not CIFAR_JPEG.is_file(), reason="no CIFAR-10 JPEGs in ../shared/data")
def test_real_jpegs_are_what_torchvisions_image_folder_makes_of_them(tmp_path: Path):
    from torchvision.datasets import ImageFolder

    with tarfile.open(CIFAR_JPEG) as archive:
        wanted = (m for m in archive if m.name.endswith(("00.jpg", "01.jpg")) and "train" in m.name)
        for number, member in enumerate(wanted):
            archive.extract(member, tmp_path, filter="data")
            if number == 110:  # the 100 of airplane and some of automobile
                break
    data = datasets.load("folder", root=tmp_path)
    source = ImageFolder(tmp_path / "train")
    assert data.classes == tuple(source.classes) == ("airplane", "automobile")
    assert len(source) == len(data.images) + len(data.test_images) == 111
    held = set(data.held_out.tolist())
    kept = [number for number in range(len(source)) if number not in held]
    for image, label, number in zip(data.images, data.labels, kept, strict=True):
        expected = torch.from_numpy(np.array(source[number][0])).permute(2, 0, 1)
        assert torch.equal(image, expected)
        assert int(label) == source[number][1]


def test_a_folder_by_hand_with_its_own_test_set(tmp_path: Path):
    for part, names in (("train", ("b", "a")), ("test", ("b",))):
        for value, name in enumerate(names):
            (tmp_path / part / name / "deeper").mkdir(parents=True)
            colour = (10 + value, 20, 30)
            Image.new("RGB", (4, 3), colour).save(tmp_path / part / name / "deeper" / "x.PNG")
    (tmp_path / "train" / "a" / "notes.txt").write_text("not an image")
    data = datasets.load("folder", root=tmp_path)
    assert data.name == tmp_path.name
    assert data.classes == ("a", "b")
    assert data.images.shape == (2, 3, 3, 4)
    assert data.images[:, :, 2, 3].tolist() == [[11, 20, 30], [10, 20, 30]]
    assert (data.labels.tolist(), data.test_labels.tolist()) == ([0, 1], [1])
    assert len(data.held_out) == 0


def test_a_size_scales_keeping_the_aspect_and_crops_the_centre(tmp_path: Path):
    for name in ("a", "b"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            # 12 x 4 (width x height): red, green and blue squares; the green one is the centre
            bands = [Image.new("RGB", (4, 4), colour) for colour in ("red", "lime", "blue")]
            image = Image.fromarray(np.hstack([np.asarray(band) for band in bands]))
            image.save(tmp_path / "train" / name / f"{number}.png")
    data = datasets.load("folder", root=tmp_path, size=4)
    assert data.images.shape == (2, 3, 4, 4)
    assert data.images.unique(dim=0)[0, :, 1, 1].tolist() == [0, 255, 0]
    assert data.images[:, 1].min() == 255
    assert datasets.load("folder", root=tmp_path, size=(2, 6)).images.shape == (2, 3, 2, 6)


def test_grey_images_become_three_equal_channels(tmp_path: Path):
    for value, name in enumerate("ab"):
        (tmp_path / "train" / name).mkdir(parents=True)
        for number in range(2):
            Image.new("L", (2, 2), 50 + value).save(tmp_path / "train" / name / f"{number}.png")
    data = datasets.load("folder", root=tmp_path)
    assert data.images[:, :, 0, 0].tolist() == [[50, 50, 50], [51, 51, 51]]


@pytest.mark.parametrize("part", ["train", "test"])
def test_one_image_of_another_size_is_named(tmp_path: Path, part: str):
    write_images(tmp_path)
    (tmp_path / part / "ape").mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (5, 3)).save(tmp_path / part / "ape" / "odd.png")
    with pytest.raises(PruningError, match=r"odd\.png has \(height, width\) \(3, 5\).*\(3, 4\)"):
        datasets.load("folder", root=tmp_path)


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\n"])
def test_a_broken_image_is_named(tmp_path: Path, content: bytes):
    write_images(tmp_path)
    (tmp_path / "train" / "zebra" / "broken.png").write_bytes(content)
    with pytest.raises(PruningError, match=r"broken\.png cannot be read"):
        datasets.load("folder", root=tmp_path)


def test_a_truncated_image_is_named(tmp_path: Path):
    path = write_images(tmp_path, size=(64, 64)) / "train" / "zebra" / "3.png"
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(PruningError, match=r"zebra/3\.png cannot be read"):
        datasets.load("folder", root=tmp_path)


def test_folders_that_are_not_in_the_layout_are_refused(tmp_path: Path):
    with pytest.raises(PruningError, match=r"no folder .*train"):
        datasets.load("folder", root=tmp_path)
    (tmp_path / "train").mkdir()
    with pytest.raises(PruningError, match="train holds no <class>/<image>"):
        datasets.load("folder", root=tmp_path)
    write_images(tmp_path / "other")
    (tmp_path / "other" / "train" / "void").mkdir()
    with pytest.raises(PruningError, match="void holds no image"):
        datasets.load("folder", root=tmp_path / "other")
    (tmp_path / "other" / "train" / "void").rmdir()
    (tmp_path / "other" / "test" / "gnu").mkdir(parents=True)
    with pytest.raises(PruningError, match="class 'gnu' is not in"):
        datasets.load("folder", root=tmp_path / "other")


@pytest.mark.parametrize("size", [0, (3,), (4, -1), (1, 2, 3)])
def test_a_bad_size_is_refused(tmp_path: Path, size):
    with pytest.raises(PruningError, match="neither one number of pixels nor"):
        datasets.load("folder", root=write_images(tmp_path), size=size)
