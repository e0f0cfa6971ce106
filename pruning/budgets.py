"""Counts of pieces that stay in each layer: what guards leave, and exact shares of a total."""

from collections.abc import Mapping, Sequence
from math import ceil, floor

from torch import Tensor

from pruning.errors import PruningError
from pruning.patterns import Setting, by_layer
from pruning.scores import AnyScores


def living(scores: AnyScores, alive: Mapping[str, Tensor]) -> dict[str, int]:
    """Return how many pieces of each layer may still stay."""
    return {
        name: int(alive[name].sum()) if name in alive else score.numel()
        for name, score in scores.items()
    }


def floors(
    scores: AnyScores, alive: Mapping[str, Tensor], min_keep: Setting, max_sparsity: Setting
) -> dict[str, int]:
    """Return how many pieces of each layer stay whatever they score.

    As many as `min_keep` and `max_sparsity` ask for (numbers, lists or name patterns), at most
    those that are alive. Raises `PruningError` for a guard that makes no sense.
    """
    names = list(scores)
    keep = by_layer(min_keep, names, "min_keep", default=0)
    most = by_layer(max_sparsity, names, "max_sparsity", default=1)
    result = {}
    for name, left in living(scores, alive).items():
        if keep[name] < 0 or keep[name] != int(keep[name]):
            raise PruningError(f"min_keep of layer {name!r} is {keep[name]}, not a count")
        if not 0 <= most[name] <= 1:
            raise PruningError(f"max_sparsity of layer {name!r} is {most[name]}, outside [0, 1]")
        # Rounded first: 10 * (1 - 0.9) is a hair above 1 and would ask for two.
        least = ceil(round(scores[name].numel() * (1 - most[name]), 6))
        result[name] = min(left, max(int(keep[name]), least))
    return result


def between(ratios: Sequence[Setting], pieces: Mapping[str, int], total: int) -> list[float]:
    """Return each layer's share of `total` on the way through the `ratios` at several points.

    Raises `PruningError` for no list of points, a ratio outside [0, 1] and one that falls.

    >>> between([{"a": 0.0, "b": 0.5}], {"a": 4, "b": 4}, 3)
    [2.0, 1.0]
    """
    if isinstance(ratios, str | Mapping) or not isinstance(ratios, Sequence) or not ratios:
        raise PruningError(f"ratios {ratios!r} are no list of points, each with its ratios")
    points = [[float(count) for count in pieces.values()]]
    for number, point in enumerate(ratios, start=1):
        found = by_layer(point, list(pieces), f"point {number} of ratios")
        points.append([count * (1 - found[name]) for name, count in pieces.items()])
        for name, left, before in zip(pieces, points[-1], points[-2], strict=True):
            if not 0 <= left <= before:
                raise PruningError(
                    f"point {number} of ratios: {found[name]} for layer {name!r} is above 1 or "
                    "below that of the point before"
                )
    points.append([0.0] * len(pieces))
    after = next(n for n, point in enumerate(points) if n and sum(point) <= total)
    low, high = sum(points[after]), sum(points[after - 1])
    part = (total - low) / (high - low) if high > low else 0.0
    return [
        end + part * (start - end)
        for start, end in zip(points[after - 1], points[after], strict=True)
    ]


def proportional(
    weights: Sequence[float], total: int, lows: Sequence[int], highs: Sequence[int]
) -> list[int]:
    """Return counts that add up to `total`, proportional to `weights` within their bounds.

    A count at a bound is fixed there and the rest is shared anew; what rounding leaves goes to the
    largest fractions, the first of equals first. Raises `PruningError` where no counts fit.

    >>> proportional([1.0, 1.0, 8.0], 10, [0, 0, 0], [9, 9, 5])
    [3, 2, 5]
    """
    if not sum(lows) <= total <= sum(highs):
        raise PruningError(f"cannot keep {total}: the layers allow {sum(lows)} to {sum(highs)}")
    scale = _scale(weights, total, lows, highs)
    exact = [
        min(max(scale * weight, low), high)
        for weight, low, high in zip(weights, lows, highs, strict=True)
    ]
    counts = [floor(value + 1e-9) for value in exact]
    order = sorted(range(len(counts)), key=lambda index: counts[index] - exact[index])
    for index in order[: total - sum(counts)]:
        counts[index] += 1
    return counts


def _scale(
    weights: Sequence[float], total: int, lows: Sequence[int], highs: Sequence[int]
) -> float:
    """Return the factor at which the bounded shares add up to `total`."""

    def shares(scale: float) -> float:
        bounded = zip(weights, lows, highs, strict=True)
        return sum(min(max(scale * weight, low), high) for weight, low, high in bounded)

    edges = sorted(
        {bound / w for bs in (lows, highs) for bound, w in zip(bs, weights, strict=True)}
    )
    # Between two edges the sum is linear: find them, then the point.
    right = next((edge for edge in edges if shares(edge) >= total - 1e-9), edges[-1])
    left = max((edge for edge in edges if edge < right), default=0.0)
    below, above = shares(left), shares(right)
    if above == below:
        return right
    return left + (right - left) * (total - below) / (above - below)
