"""What a process imports before stages are forked from it: other people's packages, none of ours.

The code of the study is imported by each stage for itself, so that a stage runs the code that DVC
finds when the stage is done, however long ago this process began. Nothing here starts a thread or
touches an accelerator: neither survives a fork.
"""

import importlib
from contextlib import suppress

PACKAGES = (
    *("torch", "torch.utils.flop_counter", "numpy", "scipy.sparse", "safetensors.torch"),
    *("pydantic", "typer", "yaml", "tqdm", "concurrent.futures.process", "sqlite3"),
    *("multiprocessing.context", "multiprocessing.sharedctypes", "multiprocessing.synchronize"),
)
"""What the stages import."""

OPTIMIZER = ("torch._dynamo",)
"""What torch imports with a process's first optimizer, in two seconds more."""

STORE = (
    *("mlflow", "mlflow.store.tracking.sqlalchemy_store", "sqlalchemy.dialects.sqlite"),
    *("mlflow.store.tracking.sqlalchemy_workspace_store", "alembic.command", "alembic.config"),
)
"""What opening MLflow's store imports, which takes seconds more."""


def load(*names: str) -> None:
    """Import what is installed of `names`."""
    for name in names:
        with suppress(ImportError):
            importlib.import_module(name)
