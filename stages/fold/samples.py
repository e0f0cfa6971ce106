"""The prepared images as one fold sees them."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from pruning import datasets, folds, stream
from pruning.datasets import Dataset
from pruning.errors import PruningError
from pruning.evidence import Evidence, classification
from pruning.folds import Fold
from stages.files import PREPARED
from stages.params import Params, Training

EVALUATION_BATCH = 500
"""Images in a batch of evaluation: large enough to be fast, small enough for any network here."""


@dataclass(frozen=True)
class Samples:
    """One fold of the prepared dataset, on a device."""

    dataset: Dataset
    fold: Fold
    seed: int
    device: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Return the shape of one image."""
        return tuple(self.dataset.images.shape[1:])

    def training(self, recipe: Training, start: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Return the endless training batches from step `start` on."""
        return stream.stream(
            self.dataset.images,
            self.dataset.labels,
            indices=self.fold.train,
            batch_size=recipe.batch_size,
            seed=self.seed,
            mean=self.dataset.mean,
            std=self.dataset.std,
            start=start,
            augment=recipe.augment,
            padding=recipe.padding,
        )

    def steps_per_epoch(self, recipe: Training) -> int:
        """Return the training steps in one epoch."""
        return stream.steps_per_epoch(len(self.fold.train), recipe.batch_size)

    def validation(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return one pass over the validation part."""
        images, labels = self.dataset.images, self.dataset.labels
        return self._ordered(images, labels, self.fold.validation)

    def test(self) -> Iterator[tuple[Tensor, Tensor]]:
        """Return one pass over the test set, which no fold has seen."""
        return self._ordered(self.dataset.test_images, self.dataset.test_labels, None)

    def evidence(self, batches: int | Literal["all"], batch_size: int) -> Evidence:
        """Return the first batches of a fixed shuffle of the training part, not augmented.

        All of the training part where `batches` is all, the last batch as small as it comes.
        """
        if batches == "all":
            images, labels = self.dataset.images, self.dataset.labels
            whole = self._ordered(images, labels, self.fold.train, batch_size)
            return classification([*whole], seed=self.seed)
        source = stream.stream(
            self.dataset.images,
            self.dataset.labels,
            indices=self.fold.train,
            batch_size=min(batch_size, len(self.fold.train)),
            seed=self.seed,
            mean=self.dataset.mean,
            std=self.dataset.std,
        )
        return classification([next(source) for _ in range(batches)], seed=self.seed)

    def _ordered(
        self,
        images: Tensor,
        labels: Tensor,
        indices: Tensor | None,
        batch_size: int = EVALUATION_BATCH,
    ) -> Iterator[tuple[Tensor, Tensor]]:
        return stream.ordered(
            images,
            labels,
            indices=indices,
            batch_size=batch_size,
            mean=self.dataset.mean,
            std=self.dataset.std,
        )


def of_fold(params: Params, fold: int) -> Samples:
    """Return the prepared samples as replicate `fold` sees them, its seed the study's plus it."""
    device = params.training.device
    check_device(device)
    dataset = datasets.read(PREPARED)
    parts = folds.read(PREPARED / "folds.json")
    if not 0 <= fold < len(parts):
        raise PruningError(f"unknown fold {fold}; choose from 0 to {len(parts) - 1}")
    part = parts[fold]
    if device != "cpu":
        dataset = dataset.to(device)
        part = Fold(part.train.to(device), part.validation.to(device))
    return Samples(dataset, part, params.cross_validation.seed + fold, device)


def check_device(device: str) -> None:
    """Refuse a device that this machine or this build of torch has not."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise PruningError(
            f"training.device: {device!r} cannot be used here ({reason}); choose from "
            f"{', '.join(_devices())}"
        ) from None


def _devices() -> list[str]:
    if not torch.accelerator.is_available():
        return ["cpu"]
    kind = torch.accelerator.current_accelerator()
    return ["cpu", *(f"{kind}:{index}" for index in range(torch.accelerator.device_count()))]
