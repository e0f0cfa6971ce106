"""The pipeline: one module a stage, each a typer command that a DVC stage runs."""
