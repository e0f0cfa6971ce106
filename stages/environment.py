"""What the environment switches off: PRUNING_TRACKING=off, PRUNING_STANDBY=0."""

import os
from collections.abc import Mapping

TRACKING = "PRUNING_TRACKING"
STANDBY = "PRUNING_STANDBY"


def is_off(variable: str, environment: Mapping[str, str] = os.environ) -> bool:
    """Return whether `variable` says off, 0, false or no; what is not there says nothing."""
    return environment.get(variable, "").lower() in ("off", "0", "false", "no")
