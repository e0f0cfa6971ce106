"""What a worker of `stages.run` has imported before its first stage.

Imported by the process from which the workers are forked. It starts no thread and touches no
accelerator: neither survives a fork.
"""

import importlib
import os
from contextlib import suppress

from stages.command import die_with_parent

die_with_parent()
os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1")

MODULES = (
    *("stages.prepare", "stages.pretrain", "stages.snapshot", "stages.prune"),
    *("stages.finetune", "stages.evaluate", "stages.compare", "stages.engine.folds"),
    *("stages.fold.samples", "stages.fold.recovery", "stages.fold.masking", "stages.groups"),
    *("stages.fold.targets", "stages.fold.layers", "stages.fold.fitting"),
    *("stages.reporting.summary", "stages.reporting.pictures", "stages.reporting.report"),
    *("stages.reporting.sanity", "pruning.network", "pruning.selection", "pruning.allocation"),
    *("pruning.criteria.weights", "tqdm", "multiprocessing.synchronize"),
)


def warm() -> None:
    """Import what the stages import late, and what torch itself imports at a first step."""
    for module in MODULES:
        with suppress(ImportError):
            importlib.import_module(module)
    import torch

    torch.set_num_threads(1)
    weight = torch.zeros(1, requires_grad=True)
    weight.grad = torch.zeros(1)
    optimizer = torch.optim.SGD([weight], lr=0.1, momentum=0.9)
    optimizer.step()
    optimizer.zero_grad()


warm()
