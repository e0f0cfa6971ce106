"""What one rank does in test_distributed.py; torchrun starts two of it."""

import json
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from pruning import distributed
from pruning.choices import resolve
from pruning.during import Training
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.masks import dense
from pruning.prunables import prunable
from pruning.training import Diverged, fit

STEPS, BATCH = 12, 10


def network() -> nn.Module:
    """Return the network that every process begins with."""
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 3))


def batches(count: int = STEPS) -> list[tuple[Tensor, Tensor]]:
    """Return the global batches: the last one cannot be halved."""
    source = torch.Generator().manual_seed(1)
    sizes = [BATCH] * (count - 1) + [BATCH + 1]
    return [
        (torch.randn(n, 6, generator=source), torch.randint(3, (n,), generator=source))
        for n in sizes
    ]


def masks(model: nn.Module, seed: int) -> dict[str, Tensor]:
    """Return random masks that keep about 40 %."""
    source = torch.Generator().manual_seed(seed)
    weights = prunable(model)
    return {name: torch.rand(w.shape, generator=source) < 0.4 for name, w in weights.items()}


def loss(model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
    """Return the mean loss over a batch's samples."""
    return cross_entropy(model(batch[0]), batch[1])


def trained(model: nn.Module, held: dict[str, Tensor], together: bool) -> list[float]:
    """Train under masks, momentum, weight decay and clipping; return the losses."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.5, momentum=0.9, weight_decay=0.01)
    found: list[float] = []
    with enforced(model, optimizer, held):
        fit(
            model,
            iter(batches()),
            optimizer,
            distributed.shared(loss) if together else loss,
            gradients=distributed.add_gradients if together else None,
            steps=STEPS,
            clip=0.5,
            hooks=[lambda _, value: found.append(float(value))],
        )
    return found


def noisy(model: nn.Module) -> dict[str, Tensor]:
    """Train under sparse variational dropout; return its state."""
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    kept = dense(prunable(model))
    training = Training(model, optimizer, kept, sparsity=0.5, steps=STEPS, steps_per_epoch=4)
    choice = {"name": "variational_dropout", "threshold": 3.0, "log_sigma2": -4.0}
    found = batches()[::-1]  # the first one cannot be halved
    with resolve("during", choice)(training) as course:
        shared_fit(model, found, optimizer, [course.hook])
        return course.state()


def shared_fit(model, found, optimizer, hooks=()) -> None:
    """Train on this rank's part of the batches."""
    fit(
        model,
        iter(found),
        optimizer,
        distributed.shared(loss),
        gradients=distributed.add_gradients,
        steps=STEPS,
        hooks=hooks,
    )


def refusal(tensors: dict[str, Tensor]) -> str:
    """Return how a difference is told."""
    try:
        distributed.check_equal(tensors)
    except PruningError as error:
        return str(error)
    return ""


def diverged() -> int:
    """Return the step at which this rank stops when rank 1 alone meets a NaN."""
    model, found = network(), batches()
    found[3][0][-1] = float("nan")  # in the last part of the batch
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    try:
        shared_fit(model, found, optimizer)
    except Diverged as error:
        return error.step
    return -1


def main(folder: Path) -> None:
    """Write what this rank found."""
    with distributed.group():
        rank, model = distributed.rank(), network()
        held = distributed.broadcast_masks(masks(model, seed=rank))
        losses = trained(model, held, together=True)
        state, tensor = model.state_dict(), torch.arange(6.0).view(2, 3)
        norm = nn.BatchNorm1d(1)
        norm.running_mean.fill_(float(rank))
        distributed.average_buffers(norm)
        found = {
            "losses": losses,
            "equal": refusal({**state, "nan": torch.tensor(float("nan"))}),
            "value": refusal({"same": tensor, "odd": tensor + rank, "odder": tensor - rank}),
            "shape": refusal({"same": tensor, "odd": torch.zeros(2 + rank)}),
            "missing": refusal({"same": tensor} | ({"more": tensor} if rank else {})),
            "part": [len(value) for value in distributed.part(batches()[-1])],
            "diverged": diverged(),
            "mean": float(norm.running_mean),
            "noisy": refusal(learned := noisy(network())),
            "samples": int(learned["samples"]),
        }
    torch.save({"weights": state, "masks": held}, folder / f"rank-{rank}.pt")
    (folder / f"rank-{rank}.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
