"""The three mappings that pass between the axes, all by dotted parameter name."""

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

Params: TypeAlias = Mapping[str, Tensor]
"""The parameters up for pruning."""

Scores: TypeAlias = dict[str, Tensor]
"""Higher means keep; a score broadcasts to its parameter and its shape is the granularity."""

Masks: TypeAlias = dict[str, Tensor]
"""Boolean, in the parameter's shape, True means kept; an absent name was never up for pruning."""
