"""The sparsity of each round of iterative pruning by a fraction of what remains."""

from pruning.errors import PruningError


def round_sparsities(fraction: float, until: float) -> list[float]:
    """Return the sparsity after each round that prunes `fraction` of the remaining weights.

    Stops after the first round that has pruned more than `until`. Every target is computed from the
    full count, not from the rounded round before, so that rounding never adds up.

    >>> [round(100 * (1 - s), 2) for s in round_sparsities(0.25, 0.85)]
    [75.0, 56.25, 42.19, 31.64, 23.73, 17.8, 13.35]
    """
    if not 0 < fraction < 1:
        raise PruningError(f"fraction {fraction!r} of the remaining weights is outside (0, 1)")
    if not 0 <= until < 1:
        raise PruningError(f"stopping sparsity {until!r} is outside [0, 1)")
    sparsities = [fraction]
    while sparsities[-1] <= until:
        sparsities.append(1 - (1 - fraction) ** (len(sparsities) + 1))
    return sparsities
