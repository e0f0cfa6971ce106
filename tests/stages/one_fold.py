"""A study of one fold in this process: the stage functions themselves, few steps, no DVC."""

from collections.abc import Iterable, Iterator
from contextlib import chdir, contextmanager
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch

from pruning import datasets, folds
from pruning.facts import read_json
from pruning.folders import whole
from pruning.network import Network, load
from stages import finetune, pretrain, prune, snapshot
from stages.files import DENSE, PREPARED, RESUME, fold_of, pruned, start_of, tuned
from stages.params import Params

SETTINGS: dict[str, Any] = {
    "study": "tiny",
    "data": {"name": "digits"},
    "cross_validation": {"folds": 2},
    "model": {"factory": "digits_conv", "width": 4},
    "training": {
        "epochs": 2,
        "batch_size": 128,
        "optimizer": {"name": "sgd", "momentum": 0.9, "weight_decay": 0.0005},
        "learning_rate": {"base": 0.1, "name": "cosine"},
    },
    "snapshots": {"epochs": [1], "steps": [3]},
    "rounds": [{"n": 1, "from": 0, "sparsity": 0.5}, {"n": 2, "from": 1, "sparsity": 0.8}],
    "tracking": False,
}


def params(method: dict[str, Any], *, iterative: bool = False, **changes: Any) -> Params:
    """Return the checked params of a study whose one experiment, `it`, is `method`."""
    named = {"iterative": ["it"] if iterative else [], "one_shot": [] if iterative else ["it"]}
    whole_study = {"experiments": ["it"], **named, "control": None, "methods": {"it": method}}
    return Params.model_validate(deepcopy(SETTINGS) | whole_study | changes)


class Study:
    """A folder with prepared data and one fold's dense network, in which methods are tried."""

    def __init__(self, folder: Path, *, folds_of: Iterable[int] = (0,), **changes: Any) -> None:
        self.folder, self.changes = folder, changes
        study = params({"rewind": "init", "prune": {}, "finetune": {"resume": "start"}}, **changes)
        with self.entered():
            split = study.cross_validation
            dataset = datasets.load(**study.data.model_dump(), seed=split.seed)
            with whole(PREPARED) as partial:
                datasets.save(dataset, partial)
                folds.save(
                    folds.folds(dataset.labels, **split.model_dump()), partial / "folds.json"
                )
            for fold in folds_of:
                with whole(fold_of(DENSE, fold)) as partial:
                    pretrain.train_fold(study, partial, RESUME, fold, lambda *_: None)

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Work in the study's folder, the global randomness put back."""
        with chdir(self.folder), torch.random.fork_rng():
            yield

    def run(
        self, method: dict[str, Any], *, rounds: int = 1, iterative: bool = False
    ) -> list[dict[str, Any]]:
        """Run a method's rounds, prune and finetune; return the metrics of each."""
        study = params(method, iterative=iterative, **self.changes)
        with self.entered():
            with whole(fold_of(start_of("it"), 0).parent) as partial:
                rewind = study.method("it").rewind
                snapshot.lay_out(fold_of(DENSE, 0), partial / "fold-0", rewind)
            return [self._round(study, n) for n in range(1, rounds + 1)]

    def network(self, n: int = 1) -> Network:
        """Return the recovered network of round `n` of the last method."""
        with self.entered():
            return load(fold_of(tuned("it", n), 0), foreign=True)

    def output(self, n: int = 1) -> Path:
        """Return the folder of the recovered network of round `n`."""
        return self.folder / fold_of(tuned("it", n), 0)

    def _round(self, study: Params, n: int) -> dict[str, Any]:
        with whole(fold_of(pruned("it", n), 0)) as partial:
            prune.prune_fold(study, "it", n, partial, RESUME / "p", 0, lambda *_: None)
        with whole(fold_of(tuned("it", n), 0)) as partial:
            finetune.recover_fold(study, "it", n, partial, RESUME / "f", 0, lambda *_: None)
        return read_json(fold_of(tuned("it", n), 0) / "metrics.json")
