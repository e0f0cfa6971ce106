from itertools import islice
from math import log2
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pruning import PruningError
from pruning import masks as mask_tools
from pruning.choices import resolve
from pruning.during import Course, Training
from pruning.masks import dense
from pruning.models import build
from pruning.prunables import prunable
from pruning.text import (
    Text,
    bits_per_character,
    contiguous,
    language_modelling,
    next_token_loss,
    read,
    steps_per_pass,
    windows,
)
from pruning.training import fit

SHAKESPEARE = Path(__file__).parents[2].parent / "shared" / "data" / "tinyshakespeare" / "input.txt"
STEPS = 160


def test_a_text_by_hand(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("banana band", encoding="utf-8")
    text = read(path, validation=0.2, test=0.3)
    assert text.alphabet == " abdn"
    assert text.tokens.dtype == torch.uint8
    assert text.tokens.tolist() == [2, 1, 4, 1, 4, 1]
    assert text.validation.tolist() == [0, 2]
    assert text.test.tolist() == [1, 4, 3]


def test_many_characters_are_int64(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_text("".join(map(chr, range(300, 600))) * 2, encoding="utf-8")
    assert read(path).tokens.dtype == torch.int64


def test_what_is_no_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "text"
    path.write_bytes(b"\xff\xfe")
    for file in (path, tmp_path / "absent"):
        with pytest.raises(PruningError, match="no readable UTF-8 text"):
            read(file)
    path.write_text("abc")
    with pytest.raises(PruningError, match=r"3 characters .* leave parts of 3, 0 and 0"):
        read(path)


@given(st.integers(2, 60), st.integers(1, 4), st.integers(1, 9), st.integers(0, 9))
def test_windows_are_pieces_of_the_text_that_step_and_seed_decide(
    size: int, batch_size: int, length: int, start: int
) -> None:
    tokens = torch.arange(size, dtype=torch.uint8)
    if length >= size:
        with pytest.raises(PruningError, match=f"windows of length {length} cannot be read from"):
            windows(tokens, batch_size=batch_size, length=length, seed=0)
        return
    settings = {"batch_size": batch_size, "length": length, "seed": 5}
    batches = list(islice(windows(tokens, **settings), start + 2))
    inputs, targets = batches[start]
    assert inputs.shape == targets.shape == (batch_size, length)
    assert inputs.dtype == torch.int64
    assert torch.equal(targets, inputs + 1)
    again = next(windows(tokens, **settings, start=start))
    assert all(map(torch.equal, again, (inputs, targets)))


def test_windows_begin_at_every_place() -> None:
    batches = windows(torch.arange(9), batch_size=64, length=4, seed=1)
    assert sorted(set(next(batches)[0][:, 0].tolist())) == [0, 1, 2, 3, 4]


def test_contiguous_rows_go_on_where_they_ended_by_hand() -> None:
    batches = list(islice(contiguous(torch.arange(14), batch_size=2, length=3), 3))
    assert batches[0][0].tolist() == [[0, 1, 2], [7, 8, 9]]
    assert batches[0][1].tolist() == [[1, 2, 3], [8, 9, 10]]
    assert batches[1][0].tolist() == [[3, 4, 5], [10, 11, 12]]
    assert torch.equal(batches[2][0], batches[0][0])
    assert steps_per_pass(torch.arange(14), batch_size=2, length=3) == 2
    third = next(contiguous(torch.arange(14), batch_size=2, length=3, start=1))
    assert torch.equal(third[0], batches[1][0])
    with pytest.raises(PruningError, match="14 tokens in 5 strands of 2 are too short"):
        contiguous(torch.arange(14), batch_size=5, length=3)


class Fixed(nn.Module):
    """Always the same chances, whatever came before."""

    def __init__(self, *chances: float) -> None:
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(chances).log())

    def forward(self, tokens: Tensor) -> Tensor:
        return self.logits.expand(*tokens.shape, -1)


@pytest.mark.parametrize(("length", "batch_size"), [(2, 1), (3, 2), (5, 9), (100, 1)])
def test_every_character_but_the_first_counts_once(length: int, batch_size: int) -> None:
    tokens = torch.tensor([0, 1, 2, 2, 1, 2], dtype=torch.uint8)
    model = Fixed(0.5, 0.25, 0.25)
    model.train()
    found = bits_per_character(model, tokens, length=length, batch_size=batch_size)
    assert found == pytest.approx(2.0)
    assert model.training
    skewed = bits_per_character(Fixed(0.1, 0.2, 0.7), tokens, length=length)
    assert skewed == pytest.approx(-(2 * log2(0.2) + 3 * log2(0.7)) / 5)


def test_evidence_of_text() -> None:
    batch = next(windows(torch.tensor([0, 1, 2, 0, 1]), batch_size=2, length=3, seed=0))
    evidence = language_modelling([batch])
    model = build({"factory": "lstm_lm", "tokens": 3, "embedding": 4, "hidden": 5, "layers": 1})
    assert evidence.run(model, batch).shape == (2, 3, 3)
    assert torch.equal(evidence.loss(model, batch), next_token_loss(model, batch))


def small_model() -> nn.Module:
    torch.manual_seed(0)
    return build({"factory": "lstm_lm", "embedding": 16, "hidden": 48, "layers": 1})


def train(
    model: nn.Module, text: Text, *, steps: int, trained: Any = None, look: Any = None
) -> Course:
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    masks = dense(prunable(model))
    training = Training(model, optimizer, masks, 0.9, steps, 40, trained=trained)
    method = resolve("during", {"name": "rnn", "frequency": 5, "start": 5} if trained else "none")
    batches = windows(text.tokens, batch_size=16, length=32, seed=0)
    with method(training) as course:
        hooks = [course.hook, *([look] if look else [])]
        fit(model, batches, optimizer, next_token_loss, steps=steps, hooks=hooks)
    return course


def test_every_module_s_mode_is_put_back_whatever_happens() -> None:
    model = nn.Sequential(nn.Embedding(3, 3), nn.Dropout()).train()
    model[1].eval()
    tokens = torch.tensor([0, 1, 2, 1])
    bits_per_character(model, tokens)
    assert [module.training for module in model.modules()] == [True, True, False]
    with pytest.raises(IndexError):
        bits_per_character(model, tokens + 3)
    assert [module.training for module in model.modules()] == [True, True, False]


@pytest.mark.skipif(not SHAKESPEARE.is_file(), reason="tinyshakespeare is not there")
def test_a_model_of_shakespeare_pruned_by_the_ramp_keeps_learning() -> None:
    text = read(SHAKESPEARE)
    assert len(text.alphabet) == 65
    assert sum(map(len, (text.tokens, text.validation, text.test))) == 1_115_394
    dense_model, model = (small_model() for _ in range(2))
    train(dense_model, text, steps=STEPS)
    halves: dict[int, float] = {}

    def look(step: int, _: Tensor) -> None:
        if step in (1, STEPS // 2):
            halves[step] = bits_per_character(model, text.validation[:8000])

    trained = dict(dense_model.named_parameters())
    course = train(model, text, steps=STEPS, trained=trained, look=look)
    final = bits_per_character(model, text.validation[:8000])
    mask_tools.verify(model, course.masks)
    assert 0.8 < mask_tools.sparsity(course.masks) < 0.95
    assert all(0.6 < 1 - mask.float().mean() < 1 for mask in course.masks.values())
    # all masks are final from the middle on: what is left goes on learning
    assert final < halves[STEPS // 2] - 0.05 < halves[1] - 1
