"""Which settings define an experiment, so that adding a round goes on with the same runs."""

from typing import Any

from stages.params import Params


def of_dense(params: Params) -> dict[str, Any]:
    """Return the settings that the dense network depends on."""
    given = {"checkpoints": [each.model_dump() for each in params.checkpoints]}
    return {
        **(given if params.checkpoints else {}),
        "data": params.data.model_dump(),
        "cross_validation": params.cross_validation.model_dump(),
        "model": params.model.model_dump(),
        "training": params.training.model_dump(),
        "snapshots": params.snapshots.model_dump(),
    }


def of_experiment(params: Params, experiment: str) -> dict[str, Any]:
    """Return the settings that an experiment's networks depend on, the grid of rounds aside."""
    chain: Any = "iterative" if experiment in params.iterative else "one_shot"
    if of := params.lender(experiment):
        chain = {"masks_of": of_experiment(params, of)}
    method = params.method(experiment).model_dump()
    return {**of_dense(params), "chain": chain, "method": method}
