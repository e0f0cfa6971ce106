import json
from pathlib import Path

import numpy as np
import pytest
import torch

from pruning import datasets
from pruning.errors import PruningError


def two_classes(samples: int = 20) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (samples, 2, 3, 4), dtype=torch.uint8, generator=draw)
    return images, torch.arange(samples) % 2


def assert_same(one: datasets.Dataset, other: datasets.Dataset) -> None:
    for name in ("images", "labels", "test_images", "test_labels", "held_out"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name
        assert getattr(one, name).dtype == getattr(other, name).dtype
    for name in ("classes", "name", "mean", "std"):
        assert getattr(one, name) == getattr(other, name), name


def test_mean_and_deviation_by_hand():
    images = torch.tensor([0, 255, 51, 51, 255, 0, 51, 51], dtype=torch.uint8).view(2, 2, 1, 2)
    mean, std = datasets.channel_statistics(images)
    assert mean == pytest.approx((0.5, 0.2))
    assert std == pytest.approx((0.5, 1.0))  # the second channel is constant


def test_mean_and_deviation_over_several_chunks_are_numpys():
    images, _ = two_classes(3000)
    mean, std = datasets.channel_statistics(images)
    pixels = images.numpy().astype(np.float64) / 255
    assert mean == pytest.approx(tuple(pixels.mean((0, 2, 3))), rel=1e-12)
    assert std == pytest.approx(tuple(pixels.std((0, 2, 3))), rel=1e-12)


def test_floats_are_rounded_to_the_nearest_level_and_grey_gets_a_channel():
    images = np.array([[[0.0, 1.0]], [[0.501, 0.2]]] * 2)
    data = datasets.from_arrays(
        images, np.array([0, 1, 0, 1], dtype=np.int16), test_images=images, test_labels=[1, 0, 1, 0]
    )
    assert data.images.shape == (4, 1, 1, 2)
    assert data.images[:2].flatten().tolist() == [0, 255, 128, 51]  # 0.501 * 255 = 127.755
    assert data.labels.dtype == data.test_labels.dtype == torch.int64
    assert data.classes == ("0", "1")


def test_statistics_come_from_the_training_part_alone():
    data = datasets.from_arrays(*two_classes(), test_fraction=0.5)
    assert (data.mean, data.std) == datasets.channel_statistics(data.images)
    assert data.mean != datasets.channel_statistics(torch.cat([data.images, data.test_images]))[0]


def test_what_is_held_out_and_what_is_left_make_up_the_whole():
    images, labels = two_classes(30)
    data = datasets.from_arrays(images, labels, test_fraction=0.2, seed=1)
    assert torch.equal(images[data.held_out], data.test_images)
    left = torch.ones(30, dtype=torch.bool)
    left[data.held_out] = False
    assert torch.equal(images[left], data.images)
    assert torch.bincount(data.test_labels).tolist() == [3, 3]


def test_all_tensors_move_to_a_device_and_the_facts_stay():
    data = datasets.from_arrays(*two_classes())
    moved = data.to("meta")
    tensors = [value for value in vars(moved).values() if isinstance(value, torch.Tensor)]
    assert [tensor.device.type for tensor in tensors] == ["meta"] * 5
    facts = ("classes", "name", "mean", "std")
    assert all(getattr(moved, fact) == getattr(data, fact) for fact in facts)
    assert data.images.device.type == "cpu"


def test_a_read_only_array_is_taken_without_a_warning():
    images, labels = (tensor.numpy() for tensor in two_classes())
    images.setflags(write=False)
    assert len(datasets.from_arrays(images[::-1], labels).images) == 16


FLOATS = np.full((4, 1, 2, 2), 0.5)
WITH_NAN = FLOATS.copy()
WITH_NAN[2, 0, 1, 0], WITH_NAN[3, 0, 0, 0] = np.nan, np.inf


@pytest.mark.parametrize(
    ("images", "labels", "options", "message"),
    [
        (WITH_NAN, [0, 1, 0, 1], {}, r"2 of 16 values are NaN or inf.*index \(2, 0, 1, 0\)"),
        (FLOATS * 3, [0, 1, 0, 1], {}, "reach from 1.5 to 1.5"),
        (FLOATS - 1, [0, 1, 0, 1], {}, "reach from -0.5"),
        (FLOATS[:0], [], {}, r"shape \(0, 1, 2, 2\)"),
        (FLOATS[0, 0], [0, 1], {}, r"shape \(2, 2\)"),
        (FLOATS.astype(np.int64), [0, 1, 0, 1], {}, "torch.int64.*torch.uint8"),
        (np.array(["a", "b"]), [0, 1], {}, "images cannot become a tensor"),
        (FLOATS, [0, 1, 0], {}, "4 images have 3 labels"),
        (FLOATS, [1, 1, 1, 1], {"classes": ["a", "b"]}, "all 4 samples are of one class, 'b'"),
        (FLOATS, [0, 0, 0, 0], {}, "all 4 samples are of one class, '0'"),
        (FLOATS, [0, 2, 0, 2], {}, "class '1' has no sample"),
        (FLOATS, [0, 1, 0, 1], {"classes": ["a", "b", "c"]}, "class 'c' has no sample"),
        (FLOATS, [0, 1, 0, 2], {"classes": ["a", "b"]}, r"label 2 of images\[3\].* 0 to 1"),
        (FLOATS, [0, 1, -1, 0], {}, r"label -1 of images\[2\]"),
        (FLOATS, [0, 1, 0, 2**40], {}, f"label {2**40} is too large"),
        (FLOATS, [0.0, 1.0, 0.0, 1.0], {}, "labels are torch.float"),
        (FLOATS, [[0], [1], [0], [1]], {}, r"shape \(4, 1\)"),
        (FLOATS, [True, False, True, False], {}, "torch.bool"),
        (FLOATS, [0, 1, 0, 0], {}, "class 1 has 1 sample"),
        (FLOATS, [0, 1, 0, 1], {"test_fraction": 1.0}, "1.0"),
        (FLOATS, [0, 1, 0, 1], {"test_images": FLOATS}, "together"),
        (
            FLOATS,
            [0, 1, 0, 1],
            {"test_images": FLOATS[:1], "test_labels": [2]},
            r"label 2 of test images\[0\]",
        ),
        (
            FLOATS,
            [0, 1, 0, 1],
            {"test_images": FLOATS[:, :, :1], "test_labels": [0] * 4},
            r"test images have shape \(1, 1, 2\)",
        ),
    ],
)
def test_bad_arrays_are_refused_in_one_line(images, labels, options, message):
    with pytest.raises(PruningError, match=message) as refused:
        datasets.from_arrays(images, labels, **options)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("mnist", {}, "unknown dataset 'mnist'; choose from digits, MNIST"),
        ("MNIST", {}, "'MNIST' needs a root"),
        ("folder", {}, "'folder' needs a root"),
        ("digits", {"size": 3}, "size 3 is only for"),
        ("digits", {"test_fraction": 0.0}, "0.0"),
        ("digits", {"seed": -1}, "seed -1"),
    ],
)
def test_a_bad_request_is_refused(name, options, message):
    with pytest.raises(PruningError, match=message):
        datasets.load(name, **options)


def test_what_is_saved_reads_back_and_is_the_same_bytes_each_time(tmp_path: Path):
    data = datasets.from_arrays(*two_classes(), classes=["caf\u00e9", "b"], name="mine")
    for folder in ("a", "b"):
        datasets.save(data, tmp_path / folder)
    assert_same(datasets.read(tmp_path / "a"), data)
    names = sorted(path.name for path in (tmp_path / "a").iterdir())
    assert names == ["data.safetensors", "meta.json"]
    for name in names:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()


@pytest.mark.parametrize("name", ["data.safetensors", "meta.json"])
@pytest.mark.parametrize("share", [0.0, 0.2, 0.9, 0.999])
def test_a_truncated_file_is_refused_by_name(tmp_path: Path, name: str, share: float):
    datasets.save(datasets.from_arrays(*two_classes()), tmp_path)
    content = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(content[: min(int(share * len(content)), len(content) - 2)])
    with pytest.raises(PruningError, match=name):
        datasets.read(tmp_path)


@pytest.mark.parametrize("name", ["data.safetensors", "meta.json"])
def test_a_missing_file_is_refused_by_name(tmp_path: Path, name: str):
    datasets.save(datasets.from_arrays(*two_classes()), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(PruningError, match=name):
        datasets.read(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "another"}, "meta.json"),
        ({"classes": ["a"]}, "label 1 of images"),
        ({"classes": 3}, "no whole dataset"),
        ({"mean": [0.1]}, "mean"),
    ],
)
def test_foreign_facts_are_refused(tmp_path: Path, change, message):
    datasets.save(datasets.from_arrays(*two_classes()), tmp_path)
    facts = json.loads((tmp_path / "meta.json").read_text())
    (tmp_path / "meta.json").write_text(json.dumps(facts | change))
    with pytest.raises(PruningError, match=message) as refused:
        datasets.read(tmp_path)
    assert str(tmp_path) in str(refused.value)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"weights": torch.zeros(1)}, r"data\.safetensors holds"),
        ({"images": torch.zeros(16, 2, 3, 4)}, "images is torch.float32"),
        ({"labels": torch.zeros(7, dtype=torch.int64)}, "7 labels"),
        ({"test_images": torch.zeros(4, 2, 3, 5, dtype=torch.uint8)}, "test images have shape"),
    ],
)
def test_foreign_tensors_are_refused(tmp_path: Path, change, message):
    from safetensors.torch import load_file, save_file

    datasets.save(datasets.from_arrays(*two_classes()), tmp_path)
    tensors = {k: v.clone() for k, v in load_file(tmp_path / "data.safetensors").items()}
    save_file(tensors | change, tmp_path / "data.safetensors")
    with pytest.raises(PruningError, match=message) as refused:
        datasets.read(tmp_path)
    assert str(tmp_path) in str(refused.value)


def test_writing_that_breaks_off_is_never_taken_for_a_dataset(tmp_path: Path, monkeypatch):
    def full_disk(*_):
        raise OSError("No space left on device")

    datasets.save(datasets.from_arrays(*two_classes()), tmp_path)
    monkeypatch.setattr(datasets, "write_tensors", full_disk)
    with pytest.raises(OSError, match="No space"):
        datasets.save(datasets.from_arrays(*two_classes(40)), tmp_path)
    with pytest.raises(PruningError, match=r"meta\.json"):
        datasets.read(tmp_path)


def test_a_limit_draws_evenly_from_the_classes_and_leaves_the_test_set_alone():
    whole = datasets.load("digits", seed=3)
    few = datasets.load("digits", seed=3, limit=200)
    counts = torch.bincount(few.labels)
    assert abs(len(few.labels) + len(few.test_labels) - 200) <= 10
    assert int(counts.max() - counts.min()) <= 3
    again = datasets.load("digits", seed=3, limit=200)
    assert torch.equal(few.images, again.images)
    assert len(datasets.load("digits", limit=10**6).labels) == len(whole.labels)
    with pytest.raises(PruningError, match="limit 5 leaves none of some of 10 classes"):
        datasets.load("digits", limit=5)
