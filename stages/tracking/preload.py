"""What opening MLflow's store imports, for a process that others are forked from."""

import mlflow
import mlflow.store.tracking.sqlalchemy_store
import mlflow.store.tracking.sqlalchemy_workspace_store
import sqlalchemy.dialects.sqlite
from alembic import command, config

__all__ = ["command", "config", "mlflow", "sqlalchemy"]
