from itertools import islice

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pruning.errors import PruningError
from pruning.stream import ordered, steps_per_epoch, stream

PLAIN = {"mean": [0.0], "std": [1 / 255]}  # leaves pixels as they are


def numbered(samples: int, channels: int = 1, height: int = 3, width: int = 3) -> Tensor:
    """Return random images; random so that no shifted or mirrored one equals another."""
    draw = torch.Generator().manual_seed(1)
    shape = (samples, channels, height, width)
    return torch.randint(1, 256, shape, dtype=torch.uint8, generator=draw)


def take(count: int, images: Tensor, labels: Tensor | None = None, **options):
    labels = torch.arange(len(images)) if labels is None else labels
    options = {"batch_size": 4, "seed": 0, **PLAIN} | options
    return list(islice(stream(images, labels, **options), count))


def test_normalisation_by_hand():
    images = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(2, 2, 1, 1)
    ((batch, labels),) = ordered(
        images, torch.tensor([7, 8]), batch_size=2, mean=[0.5, 0.2], std=[0.25, 0.5]
    )
    # of pixels 0, 0.2, 1 and 0.4: less 0.5 and 0.2, then over 0.25 and 0.5
    torch.testing.assert_close(batch.view(2, 2), torch.tensor([[-2.0, 0.0], [2.0, 0.4]]))
    assert batch.dtype == torch.float32
    assert labels.tolist() == [7, 8]


def test_steps_per_epoch_by_hand():
    assert steps_per_epoch(10, 4) == 2
    assert steps_per_epoch(10, 4, drop_last=False) == 3
    assert steps_per_epoch(8, 4, drop_last=False) == 2


def test_an_epoch_shows_every_sample_once_with_its_own_label():
    images = numbered(10)
    batches = take(3, images, drop_last=False)
    assert [len(labels) for _, labels in batches] == [4, 4, 2]
    for batch, labels in batches:
        assert torch.equal(batch, images[labels].float())
    assert sorted(torch.cat([labels for _, labels in batches]).tolist()) == list(range(10))


def test_a_dropped_last_batch_leaves_full_batches_and_no_sample_twice_an_epoch():
    labels = [labels.tolist() for _, labels in take(4, numbered(10))]
    assert [len(batch) for batch in labels] == [4] * 4
    assert len(set(labels[0] + labels[1])) == len(set(labels[2] + labels[3])) == 8


def test_each_epoch_and_each_seed_has_its_own_order():
    images = numbered(64)
    first, second = (labels.tolist() for _, labels in take(2, images, batch_size=64))
    assert first != second
    assert sorted(first) == sorted(second)
    assert take(1, images, batch_size=64, seed=1)[0][1].tolist() != first
    assert take(1, images, batch_size=64, seed=2**32)[0][1].tolist() != first


@settings(max_examples=30, deadline=None)
@given(
    start=st.integers(0, 30),
    drop_last=st.booleans(),
    augment=st.sampled_from([(), ("flip",), ("crop",), ("crop", "flip")]),
)
def test_starting_at_a_step_gives_what_the_whole_stream_gives_there(start, drop_last, augment):
    options = {"drop_last": drop_last, "augment": augment, "padding": 1, "seed": 5}
    whole = take(start + 3, numbered(10), **options)[start:]
    resumed = take(3, numbered(10), start=start, **options)
    for (images, labels), (images_again, labels_again) in zip(whole, resumed, strict=True):
        assert torch.equal(images, images_again)
        assert torch.equal(labels, labels_again)


def test_only_the_indices_given_take_part():
    images = numbered(20)
    batches = take(2, images, indices=torch.tensor([3, 5, 7, 11, 13, 17, 19, 2]))
    assert {*torch.cat([labels for _, labels in batches]).tolist()} == {2, 3, 5, 7, 11, 13, 17, 19}
    for batch, labels in batches:
        assert torch.equal(batch, images[labels].float())


def test_each_crop_is_a_window_of_its_padded_image_and_all_windows_occur():
    images = numbered(400, channels=2, height=3, width=4)
    normalisation = {"mean": [0.0] * 2, "std": [1 / 255] * 2}
    options = {"batch_size": 400, "augment": ["crop"], "padding": 1, **normalisation}
    ((batch, labels),) = take(1, images, **options)
    padded = torch.zeros(400, 2, 5, 6)
    padded[:, :, 1:4, 1:5] = images
    seen = {}
    for crop, label in zip(batch, labels.tolist(), strict=True):
        windows = {
            (y, x): padded[label, :, y : y + 3, x : x + 4] for y in range(3) for x in range(3)
        }
        (place,) = [key for key, window in windows.items() if torch.equal(window, crop)]
        seen[place] = seen.get(place, 0) + 1
    # 9 windows of 400 samples: 44 each, standard deviation 6.3
    assert len(seen) == 9
    assert min(seen.values()) > 15


def test_about_half_of_the_images_are_mirrored_left_to_right():
    images = numbered(400, height=2, width=3)
    ((batch, labels),) = take(1, images, batch_size=400, augment=["flip"])
    source = images[labels].float()
    mirrored = [torch.equal(a, b.flip(-1)) for a, b in zip(batch, source, strict=True)]
    unchanged = [torch.equal(a, b) for a, b in zip(batch, source, strict=True)]
    assert all(a != b for a, b in zip(mirrored, unchanged, strict=True))
    assert 150 < sum(mirrored) < 250


def test_augmentation_differs_from_step_to_step():
    images = numbered(1, height=8, width=8)
    crops = take(20, images, batch_size=1, augment=["crop"])
    assert len({tuple(batch.flatten().tolist()) for batch, _ in crops}) > 10


def test_no_padding_crops_nothing():
    images = numbered(4)
    ((batch, labels),) = take(1, images, augment=["crop"], padding=0)
    assert torch.equal(batch, images[labels].float())


@pytest.mark.parametrize("augment", [(), ("crop", "flip")])
def test_channels_last_stays_and_changes_no_value(augment):
    images = numbered(8, channels=3, height=5, width=4)
    options = {"augment": augment, "mean": [0.1, 0.2, 0.3], "std": [0.5] * 3}
    ((plain, _),) = take(1, images, **options)
    ((last, _),) = take(1, images.contiguous(memory_format=torch.channels_last), **options)
    assert plain.is_contiguous()
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert not last.is_contiguous()
    assert torch.equal(plain, last)


def test_a_view_with_gaps_gives_the_same_batches():
    wide = numbered(8, height=3, width=6)[..., ::2]
    options = {"augment": ("crop", "flip")}
    assert torch.equal(take(1, wide, **options)[0][0], take(1, wide.contiguous(), **options)[0][0])


def test_the_dataset_itself_is_never_written_to():
    images = numbered(8)
    before = images.clone()
    take(6, images, augment=("crop", "flip"))
    list(ordered(images, torch.arange(8), batch_size=3, **PLAIN))
    assert torch.equal(images, before)


def test_an_ordered_pass_is_whole_and_in_order():
    images, labels = numbered(10), torch.arange(10)
    batches = list(ordered(images, labels, batch_size=4, **PLAIN))
    assert [len(batch) for batch, _ in batches] == [4, 4, 2]
    assert torch.equal(torch.cat([batch for batch, _ in batches]), images.float())
    assert torch.cat([labels for _, labels in batches]).tolist() == list(range(10))
    chosen = ordered(images, labels, batch_size=2, indices=torch.tensor([9, 0, 4]), **PLAIN)
    assert [labels.tolist() for _, labels in chosen] == [[9, 0], [4]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cuda_device_gives_the_bits_of_the_cpu():
    images, labels = numbered(64, channels=3, height=9, width=7), torch.arange(64)
    options = {"augment": ("crop", "flip"), "mean": [0.1, 0.2, 0.3], "std": [0.3, 0.5, 0.7]}
    here = take(5, images, labels, batch_size=16, **options)
    there = take(5, images.cuda(), labels.cuda(), batch_size=16, **options)
    for (batch, targets), (batch_there, targets_there) in zip(here, there, strict=True):
        assert batch_there.is_cuda
        assert torch.equal(batch, batch_there.cpu())
        assert torch.equal(targets, targets_there.cpu())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"augment": ["rotate"]}, "unknown augmentation 'rotate'; choose from crop, flip"),
        ({"batch_size": 0}, "batch size 0"),
        ({"batch_size": 9}, "batch size 9 exceeds the 8 samples.*drop_last=False"),
        ({"start": -1}, "start -1"),
        ({"padding": -1}, "padding -1"),
        ({"seed": -3}, "seed -3"),
        ({"mean": [0.0, 0.0]}, "1 channel"),
        ({"std": [0.0]}, "std"),
        ({"std": [float("nan")]}, "std"),
        ({"indices": torch.tensor([0, 8])}, "indices from 0 to 8.*8 images"),
        ({"indices": torch.tensor([-1, 3, 4, 5])}, "indices from -1"),
        ({"indices": torch.tensor([], dtype=torch.int64)}, "0 samples"),
        ({"labels": torch.arange(7)}, "8 images have 7 labels"),
        ({"images": torch.rand(8, 1, 3, 3)}, "torch.float32"),
        ({"images": numbered(8)[:, 0]}, r"\(8, 3, 3\)"),
    ],
)
def test_bad_input_is_refused_at_the_call_in_one_line(options, message):
    given_ = {"images": numbered(8), "labels": torch.arange(8), "batch_size": 4, "seed": 0}
    with pytest.raises(PruningError, match=message) as refused:
        stream(**(given_ | PLAIN | options))
    assert "\n" not in str(refused.value)
