"""Text in memory for character language models: one tensor of tokens, batches that read it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from math import log
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from pruning.errors import PruningError
from pruning.evidence import Evidence
from pruning.randomness import generator
from pruning.training import evaluating

Batch = tuple[Tensor, Tensor]
"""Tokens (N, T) int64 and those that follow each of them, in the same shape."""


@dataclass(frozen=True, eq=False)
class Text:
    """Tokens (N,) to learn from, then those to validate and to test on, cut in the order of a text.

    A token is the place of its character in `alphabet`: uint8, or int64 from 257 characters on.
    """

    tokens: Tensor
    validation: Tensor
    test: Tensor
    alphabet: str


def read(path: str | Path, *, validation: float = 0.05, test: float = 0.05) -> Text:
    """Return the UTF-8 text at `path`, its last fractions set apart; the alphabet is sorted.

    Raises `PruningError` for a file that is no text and for fractions that leave a part empty.
    """
    try:
        text = Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise PruningError(f"{path}: no readable UTF-8 text: {error}") from error
    alphabet = "".join(sorted(set(text)))
    places = {character: place for place, character in enumerate(alphabet)}
    tokens = torch.tensor([places[character] for character in text])
    sizes = (round(len(text) * validation), round(len(text) * test))
    rest = len(text) - sum(sizes)
    if min(*sizes, rest) < 2:
        raise PruningError(
            f"{path}: {len(text)} characters with validation {validation} and test {test} leave "
            f"parts of {rest}, {sizes[0]} and {sizes[1]}; each needs two"
        )
    narrow = tokens.to(torch.uint8) if len(alphabet) <= 256 else tokens
    learn, validate, check = torch.split(narrow, [rest, *sizes])
    return Text(learn, validate, check, alphabet)


def windows(
    tokens: Tensor, *, batch_size: int, length: int, seed: int, start: int = 0
) -> Iterator[Batch]:
    """Return endless batches of windows from random places; batch k depends on (seed, k) alone."""
    places = _places(tokens, batch_size, length)
    reach = torch.arange(length + 1)

    def batches() -> Iterator[Batch]:
        for step in count(start):
            draw = generator(seed, "windows", step)
            first = torch.randint(places, (batch_size, 1), generator=draw)
            yield _pair(tokens[(first + reach).to(tokens.device)])

    return batches()


def contiguous(tokens: Tensor, *, batch_size: int, length: int, start: int = 0) -> Iterator[Batch]:
    """Return endless batches in which row i goes on where row i of the batch before ended.

    For truncated backpropagation through time: the text is cut into `batch_size` strands that are
    read side by side, and from their beginning again after every `steps_per_pass` batches.
    """
    strand = _strand(tokens, batch_size, length)
    rows = torch.arange(batch_size)[:, None] * strand + torch.arange(length + 1)
    passes = (strand - 1) // length

    def batches() -> Iterator[Batch]:
        for step in count(start):
            yield _pair(tokens[(rows + step % passes * length).to(tokens.device)])

    return batches()


def steps_per_pass(tokens: Tensor, *, batch_size: int, length: int) -> int:
    """Return the number of batches after which `contiguous` has read the text once.

    >>> steps_per_pass(torch.arange(22), batch_size=2, length=5)
    2
    """
    return (_strand(tokens, batch_size, length) - 1) // length


def next_token_loss(model: nn.Module, batch: Batch) -> Tensor:
    """Return the mean cross entropy, in nats, of the logits (N, T, tokens) for the next tokens."""
    inputs, targets = batch
    return functional.cross_entropy(model(inputs).flatten(0, 1), targets.flatten())


def language_modelling(batches: Sequence[Batch], *, seed: int = 0) -> Evidence:
    """Return the evidence of batches of text under the next token's cross entropy."""
    draw = torch.Generator().manual_seed(seed)
    return Evidence(batches, next_token_loss, lambda batch: (batch[0],), draw)


@torch.no_grad()
def bits_per_character(
    model: nn.Module, tokens: Tensor, *, length: int = 256, batch_size: int = 64
) -> float:
    """Return the mean bits that `model` needs for each character but the first, in eval mode.

    The text is read in windows of `length` side by side, each from an empty state, so that the
    first characters of a window have little context: give both networks of a comparison the same
    `length`. The training mode of each of the model's modules is put back.
    """
    nats = 0.0
    with evaluating(model):
        for inputs, targets in _once(tokens, length, batch_size):
            logits = model(inputs).flatten(0, 1).float()
            nats += functional.cross_entropy(logits, targets.flatten(), reduction="sum").item()
    return nats / log(2) / (len(tokens) - 1)


def _once(tokens: Tensor, length: int, batch_size: int) -> Iterator[Batch]:
    """Yield every token but the first as a target once: whole windows, then the rest."""
    _places(tokens, batch_size, 1)
    whole = (len(tokens) - 1) // length * length
    inputs = tokens[:whole].view(-1, length).long()
    targets = tokens[1 : whole + 1].view(-1, length).long()
    yield from zip(torch.split(inputs, batch_size), torch.split(targets, batch_size), strict=True)
    if whole < len(tokens) - 1:
        yield _pair(tokens[None, whole:])


def _pair(window: Tensor) -> Batch:
    return window[:, :-1].long(), window[:, 1:].long()


def _places(tokens: Tensor, batch_size: int, length: int) -> int:
    """Return at how many places a window of `length` and the token after it can begin."""
    if batch_size < 1 or length < 1 or len(tokens) <= length:
        raise PruningError(
            f"batches of {batch_size} windows of length {length} cannot be read from "
            f"{len(tokens)} tokens"
        )
    return len(tokens) - length


def _strand(tokens: Tensor, batch_size: int, length: int) -> int:
    strand = len(tokens) // max(batch_size, 1)
    if batch_size < 1 or length < 1 or strand <= length:
        raise PruningError(
            f"{len(tokens)} tokens in {batch_size} strands of {strand} are too short for windows "
            f"of length {length}"
        )
    return strand
