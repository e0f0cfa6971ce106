"""One network trained by several processes: PRUNING_PROCESSES=2 before any command does it.

How many processes compute a result is no part of it, so neither params.yaml nor a stage's command
says it, and DVC does not see it: the result is that of one process up to the order of additions.
"""

import os
import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, NoReturn

from pruning.errors import PruningError

if TYPE_CHECKING:
    from torch import Tensor, nn

VARIABLE = "PRUNING_PROCESSES"


def rank() -> int:
    """Return which of the processes this is; rank 0 writes and logs."""
    return int(os.environ.get("RANK", "0"))


def processes() -> int:
    """Return how many processes train together, this one among them."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def to_launch() -> int:
    """Return how many processes are asked for and still to be started; 0 where none are."""
    wanted = os.environ.get(VARIABLE, "1")
    if not wanted.isdecimal() or int(wanted) < 1:
        raise PruningError(f"{VARIABLE}={wanted!r} is no number of processes; choose 1 or more")
    return int(wanted) if int(wanted) > 1 and "RANK" not in os.environ else 0


def launch(stage: str, number: int) -> NoReturn:
    """Run this stage's command in `number` processes, as torchrun does, and end as they end."""
    import logging

    from torch.distributed.elastic.multiprocessing import DefaultLogsSpecs
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    logging.getLogger("torch.distributed").setLevel(logging.CRITICAL)
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=number,
        run_id=f"{stage}-{os.getpid()}",
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        max_restarts=0,
        logs_specs=DefaultLogsSpecs(local_ranks_filter={0}),
    )
    sys.stdout.flush()
    try:
        elastic_launch(config, sys.executable)("-m", f"stages.{stage}", *sys.argv[1:])
    except ChildFailedError as error:
        at, failure = error.get_first_failure()
        if failure.exitcode == 2 and at == 0:  # it has said why
            raise SystemExit(2) from None
        raise PruningError(f"rank {at} of {number} ended with {failure.exitcode}") from None
    raise SystemExit(0)


def together(device: str) -> AbstractContextManager[None]:
    """Join the other processes, where there are any."""
    if processes() == 1:
        return nullcontext()
    from pruning import distributed

    return distributed.group(device)


@contextmanager
def writing(output: AbstractContextManager[Path]) -> Iterator[Path]:
    """Yield the folder of `output` to rank 0, and one that is thrown away to the others."""
    if rank() == 0:
        with output as folder:
            yield folder
    else:
        with TemporaryDirectory() as folder:
            yield Path(folder)


@contextmanager
def resuming(folder: Path) -> Iterator[Path]:
    """Yield the folder of checkpoints to rank 0, and a copy of it to each of the others."""
    if processes() == 1:
        yield folder
        return
    import torch.distributed as dist

    with TemporaryDirectory() as temporary:
        mine = folder if rank() == 0 else Path(temporary) / folder.name
        if mine != folder and folder.is_dir():
            shutil.copytree(folder, mine)
        dist.barrier()  # rank 0 may write a new one from here on
        yield mine


def meet() -> None:
    """Wait until every process is here."""
    if processes() > 1:
        import torch.distributed as dist

        dist.barrier()


def shared(loss: "Callable[[nn.Module, Any], Tensor]") -> "dict[str, Any]":
    """Return what `pruning.fit` needs beside the rest: the loss, and how gradients are joined."""
    if processes() == 1:
        return {"loss": loss}
    from pruning import distributed

    return {"loss": distributed.shared(loss), "gradients": distributed.add_gradients}


def joined(model: "nn.Module", masks: "dict[str, Tensor]") -> None:
    """Average running statistics, then refuse ranks whose weights or masks have come to differ."""
    if processes() > 1:
        from pruning import distributed

        distributed.average_buffers(model)
        held = {f"mask of {name}": mask for name, mask in masks.items()}
        distributed.check_equal({**model.state_dict(), **held})


def same_masks(masks: "dict[str, Tensor]") -> "dict[str, Tensor]":
    """Return rank 0's masks."""
    if processes() == 1:
        return masks
    from pruning import distributed

    return distributed.broadcast_masks(masks)
