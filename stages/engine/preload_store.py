"""MLflow too, for a study that is tracked."""

from stages.engine import warm

warm.load(*warm.STORE)
