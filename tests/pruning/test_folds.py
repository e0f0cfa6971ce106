import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import folds as splits
from pruning.errors import PruningError

some_labels = st.lists(st.integers(8, 30), min_size=2, max_size=5).flatmap(
    lambda sizes: st.permutations([c for c, size in enumerate(sizes) for _ in range(size)])
)


def counts(labels: torch.Tensor, index: torch.Tensor) -> list[int]:
    return torch.bincount(labels[index], minlength=int(labels.max()) + 1).tolist()


def test_six_zeros_and_three_ones_give_three_folds_of_two_zeros_and_a_one():
    labels = torch.tensor([0, 0, 1, 0, 0, 1, 0, 0, 1])
    found = splits.folds(labels, folds=3, seed=0)
    assert [counts(labels, fold.validation) for fold in found] == [[2, 1]] * 3
    assert [counts(labels, fold.train) for fold in found] == [[4, 2]] * 3


@settings(max_examples=40, deadline=None)
@given(some_labels, st.integers(2, 8), st.integers(1, 3), st.integers(0, 2**40))
def test_every_index_validates_once_a_repeat_and_classes_are_even_within_one(
    values, number, repeats, seed
):
    labels = torch.tensor(values)
    found = splits.folds(labels, folds=number, repeats=repeats, seed=seed)
    assert len(found) == number * repeats
    for repeat in range(repeats):
        group = found[repeat * number : (repeat + 1) * number]
        together = torch.cat([fold.validation for fold in group]).sort().values
        assert torch.equal(together, torch.arange(len(labels)))
        for shares in zip(*(counts(labels, fold.validation) for fold in group), strict=True):
            assert max(shares) - min(shares) <= 1
        sizes = [len(fold.validation) for fold in group]
        assert max(sizes) - min(sizes) <= 1


@settings(max_examples=40, deadline=None)
@given(some_labels, st.sampled_from([1, 2, 5]), st.integers(0, 99))
def test_training_and_validation_part_the_indices_between_them_in_order(values, number, seed):
    labels = torch.tensor(values)
    for fold in splits.folds(labels, folds=number, seed=seed):
        both = torch.cat([fold.train, fold.validation])
        assert torch.equal(both.sort().values, torch.arange(len(labels)))
        assert torch.equal(fold.train, fold.train.sort().values)
        assert torch.equal(fold.validation, fold.validation.sort().values)


@settings(max_examples=40, deadline=None)
@given(some_labels, st.floats(0.01, 0.99), st.integers(0, 99))
def test_a_hold_out_takes_its_share_of_every_class_within_one_and_never_all(values, share, seed):
    labels = torch.tensor(values)
    (fold,) = splits.folds(labels, folds=1, validation=share, seed=seed)
    held, sizes = counts(labels, fold.validation), torch.bincount(labels).tolist()
    for count, size in zip(held, sizes, strict=True):
        assert abs(count - share * size) <= 1
        assert 1 <= count < size


def test_a_tenth_of_twenty_and_thirty_is_two_and_three():
    labels = torch.tensor([0] * 20 + [1] * 30)
    (fold,) = splits.folds(labels, folds=1, validation=0.1, seed=3)
    assert counts(labels, fold.validation) == [2, 3]


@pytest.mark.parametrize("number", [1, 3])
def test_the_seed_decides_and_repeats_differ(number):
    labels = torch.tensor([0, 1] * 50)

    def validation(seed: int) -> list[list[int]]:
        found = splits.folds(labels, folds=number, repeats=2, seed=seed)
        return [fold.validation.tolist() for fold in found]

    assert validation(0) == validation(0)
    assert validation(0) != validation(1)
    assert validation(0)[:number] != validation(0)[number:]
    # torch's generator on the CPU reads 32 bits of a seed; ours must tell these two apart
    assert validation(1) != validation(1 + 2**32)


def test_a_file_of_folds_reads_back_and_is_the_same_bytes_each_time(tmp_path: Path):
    found = splits.folds(torch.tensor([0, 1] * 10), folds=3, repeats=2, seed=0)
    splits.save(found, tmp_path / "a.json")
    splits.save(found, tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    again = splits.read(tmp_path / "a.json")
    assert len(again) == 6
    for one, other in zip(found, again, strict=True):
        assert torch.equal(one.train, other.train)
        assert torch.equal(one.validation, other.validation)
    assert again[0].train.dtype == torch.int64
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.json", "b.json"]


@pytest.mark.parametrize("share", [0.0, 0.3, 0.7, 0.99])
def test_a_truncated_file_of_folds_is_refused_by_name(tmp_path: Path, share: float):
    path = tmp_path / "folds.json"
    splits.save(splits.folds(torch.tensor([0, 1] * 10), folds=2, seed=0), path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(PruningError, match=r"folds\.json"):
        splits.read(path)


@pytest.mark.parametrize(
    "content",
    [
        [],
        {},
        {"format": "another 1", "folds": []},
        {"format": "pruning folds 1"},
        {"format": "pruning folds 1", "folds": [{"train": [0]}]},
        {"format": "pruning folds 1", "folds": [{"train": [0.5], "validation": [1]}]},
        {"format": "pruning folds 1", "folds": [{"train": [-1], "validation": [1]}]},
        {"format": "pruning folds 1", "folds": [{"train": [True], "validation": [1]}]},
        {"format": "pruning folds 1", "folds": [{"train": [2**70], "validation": [1]}]},
        {"format": "pruning folds 1", "folds": [{"train": [[0]], "validation": [1]}]},
        {"format": "pruning folds 1", "folds": 3},
    ],
)
def test_a_foreign_file_is_refused_by_name(tmp_path: Path, content):
    path = tmp_path / "folds.json"
    path.write_text(json.dumps(content))
    with pytest.raises(PruningError, match=r"folds\.json"):
        splits.read(path)


def test_a_missing_file_is_refused_by_name(tmp_path: Path):
    with pytest.raises(PruningError, match=r"none\.json"):
        splits.read(tmp_path / "none.json")


@pytest.mark.parametrize(
    ("labels", "settings", "message"),
    [
        ([0, 0, 0, 1, 1], {"folds": 3}, r"class 1 has 2 samples?.*folds=3"),
        ([0, 0, 0, 1], {"folds": 1}, r"class 1 has 1 sample"),
        ([], {"folds": 2}, r"shape \(0,\)"),
        ([[0, 1]], {"folds": 2}, r"shape \(1, 2\)"),
        ([0, 0, 1, 1], {"folds": 0}, "folds 0"),
        ([0, 0, 1, 1], {"folds": 2, "repeats": 0}, "repeats 0"),
        ([0, 0, 1, 1], {"folds": 1, "validation": 0.0}, "0.0"),
        ([0, 0, 1, 1], {"folds": 1, "validation": 1.0}, "1.0"),
        ([0, 0, 1, 1], {"folds": 2, "seed": -1}, "seed -1"),
    ],
)
def test_bad_input_is_refused_in_one_line(labels, settings, message):
    with pytest.raises(PruningError, match=message) as refused:
        splits.folds(torch.tensor(labels, dtype=torch.int64), **({"seed": 0} | settings))
    assert "\n" not in str(refused.value)
