"""Log a network as an MLflow model: a traced graph (`pt2`), nothing pickled, nothing inferred."""

import tempfile
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.tracking.store import Store

if TYPE_CHECKING:
    from torch import Tensor, nn


def log_network_model(
    store: Store,
    run: Any,
    model: "nn.Module",
    example: "Tensor",
    name: str,
    tags: Mapping[str, str] | None = None,
) -> str:
    """Log `model` under `run` with the signature that `example` (N, ...) gives; return its id.

    Signature and requirements are given, not inferred: MLflow would start a process for that. The
    client is asked by explicit ids, as `mlflow.pytorch.log_model` follows the environment instead.
    """
    client, run_id = store.client, run.info.run_id
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model"
        made = client.create_logged_model(
            run.info.experiment_id, name, run_id, dict(tags or {}), model_type="pruned network"
        )
        try:
            _save(model, example, path, made)
            client.log_model_artifacts(made.model_id, str(path))
        except BaseException:
            client.finalize_logged_model(made.model_id, "FAILED")
            raise
    client.finalize_logged_model(made.model_id, "READY")
    _link(client, run_id, made.model_id)
    return str(made.model_id)


def _save(model: "nn.Module", example: "Tensor", path: Path, made: Any) -> None:
    """Write the MLflow model folder for what was `made` in the store."""
    import mlflow.pytorch
    import torch
    from mlflow.models import Model

    # two samples at least: the exporter takes a batch of one for a constant
    batch = example if len(example) > 1 else torch.cat([example, example])
    model = model.cpu().eval()
    with torch.no_grad():
        output = model(batch)
    entry = Model(
        artifact_path=made.artifact_location,
        model_uuid=made.model_id,
        run_id=made.source_run_id,
        model_id=made.model_id,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the exporter's own code
        mlflow.pytorch.save_model(
            model,
            path,
            mlflow_model=entry,
            signature=_signature(batch, output),
            input_example=batch.numpy(),
            pip_requirements=[f"torch=={torch.__version__.split('+')[0]}"],
            serialization_format="pt2",
        )


def _signature(batch: "Tensor", output: Any) -> Any:
    """Return the shapes that go in and, where it is one tensor, come out."""
    import numpy as np
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    def schema(tensor: "Tensor") -> Schema:
        array = tensor.numpy()
        return Schema([TensorSpec(np.dtype(array.dtype), (-1, *array.shape[1:]))])

    return ModelSignature(schema(batch), schema(output) if hasattr(output, "numpy") else None)


def _link(client: Any, run_id: str, model_id: str) -> None:
    from mlflow.entities import LoggedModelOutput

    client.log_outputs(run_id, [LoggedModelOutput(model_id, step=0)])
