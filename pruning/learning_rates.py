"""How the learning rate moves: every public function maps an epoch to a factor of the base rate."""

from collections.abc import Sequence
from math import cos, pi

from pruning.errors import PruningError


def constant(epoch: float, epochs: float) -> float:
    """The base rate throughout.

    Source: plain SGD.

    >>> constant(3.5, 10)
    1.0
    """
    return 1.0


def multistep(
    epoch: float, epochs: float, *, milestones: Sequence[float] = (), gamma: float = 0.1
) -> float:
    """Times `gamma` at each of the `milestones`, given in epochs.

    Source: He et al. 2016, section 4.2, and most pruning papers since.

    >>> [round(multistep(e, 160, milestones=(80, 120)), 4) for e in (0, 79.9, 80, 159)]
    [1.0, 1.0, 0.1, 0.01]
    """
    return float(gamma ** sum(epoch >= milestone for milestone in milestones))


def cosine(epoch: float, epochs: float, *, final: float = 0.0) -> float:
    """Half a cosine from the base rate down to `final` times it.

    Source: Loshchilov & Hutter 2017, "SGDR", equation 5, without restarts.

    >>> [round(cosine(e, 10), 4) for e in (0, 5, 10)]
    [1.0, 0.5, 0.0]
    """
    return final + (1 - final) * 0.5 * (1 + cos(pi * min(epoch / epochs, 1.0)))


def linear(epoch: float, epochs: float, *, hold: float = 0.0, final: float = 0.0) -> float:
    """The base rate for the share `hold` of the run, then in a line down to `final` times it.

    Source: Molchanov et al. 2017, the authors' code: `hold` 0.5 for LeNet-300-100, 0 for LeNet-5.

    >>> [linear(e, 200, hold=0.5) for e in (0, 100, 150, 200)]
    [1.0, 1.0, 0.5, 0.0]

    Raises `PruningError` for a `hold` outside [0, 1].
    """
    if not 0 <= hold <= 1:
        raise PruningError(f"learning rate 'linear': hold {hold} is no share of the run, 0 to 1")
    left = min(max(1 - epoch / epochs, 0.0) / (1 - hold), 1.0) if hold < 1 else 1.0
    return final + (1 - final) * left
