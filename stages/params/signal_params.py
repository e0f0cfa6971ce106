"""The parts of params.yaml about how signals pass the sparse network before it trains."""

from typing import Annotated, Literal

from pydantic import Field

from stages.params.parts import Count, Part


class Isometry(Part):
    """Approximate dynamical isometry, enforced on the kept weights before recovery trains them."""

    steps: Annotated[int, Field(ge=0)] = 10_000
    learning_rate: Annotated[float, Field(gt=0)] = 0.1
    patience: Count | None = None
    """Stop once so many steps have not helped."""


class Spectrum(Part):
    """Singular values of the input-output Jacobian, measured before and after recovery."""

    batches: Count = 1
    examples: Count = 16
    """Examples in a batch; each has a Jacobian of its own."""
    layers: Literal["all"] | list[str] = []
    """Also each of these layers' own Jacobian (module name patterns): costs a backward pass for
    each of its outputs."""
    layer_examples: Count = 1
