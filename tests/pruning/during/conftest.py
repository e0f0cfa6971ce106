"""A small network, its data and a run under any method."""

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from pruning import fit
from pruning.choices import Choice, resolve
from pruning.during import Course, Training
from pruning.masks import dense
from pruning.prunables import prunable

Look = Callable[[int, Course], None]


def network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(36, 3)
    )


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    return nn.functional.cross_entropy(model(batch[0]), batch[1])


def batches(start: int = 0) -> Iterator[tuple[Tensor, Tensor]]:
    for step in range(start, 100_000):
        draw = torch.Generator().manual_seed(step)
        images = torch.randn(8, 1, 5, 5, generator=draw)
        yield images, torch.randint(0, 3, (8,), generator=draw)


class Runs:
    """Make networks and train them, with `look(step, course)` after every step."""

    network = staticmethod(network)
    loss = staticmethod(loss)
    batches = staticmethod(batches)

    @staticmethod
    def training(model: nn.Module, sparsity: float = 0.5, **changes: Any) -> Training:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=1e-3)
        settings: dict[str, Any] = {
            "optimizer": optimizer,
            "masks": dense(prunable(model)),
            "sparsity": sparsity,
            "steps": 12,
            "steps_per_epoch": 4,
        }
        return Training(model, **(settings | changes))

    @staticmethod
    def run(
        training: Training,
        method: Choice,
        look: Look | None = None,
        until: int | None = None,
    ) -> Course:
        with resolve("during", method)(training) as course:
            hooks = [course.hook]
            if look is not None:
                look(training.start, course)
                hooks.append(lambda step, _: look(step, course))
            fit(
                training.model,
                batches(training.start),
                training.optimizer,
                loss,
                start=training.start,
                steps=training.steps if until is None else until,
                hooks=hooks,
            )
        return course


@pytest.fixture(scope="session")
def runs() -> type[Runs]:
    return Runs
