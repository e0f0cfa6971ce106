"""Settings that differ by layer: one value for all, a list in order, or values by name pattern."""

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TypeAlias

from pruning.errors import PruningError

Setting: TypeAlias = float | Sequence[float] | Mapping[str, float]


def by_layer(
    setting: Setting, layers: Sequence[str], what: str, *, default: float | None = None
) -> dict[str, float]:
    """Return the value of `setting` for each of the `layers`.

    In a mapping the first pattern that matches a layer decides, and a layer that none matches gets
    the `default`. Raises `PruningError` for a list of another length, a pattern that matches no
    layer, a layer without a value, and what is no number.

    >>> by_layer({"conv*": 0.5, "fc": 0.9}, ["conv1", "conv2", "fc"], "ratios")
    {'conv1': 0.5, 'conv2': 0.5, 'fc': 0.9}
    """
    if isinstance(setting, Mapping):
        values = _matched(setting, layers, what, default)
    elif isinstance(setting, Sequence) and not isinstance(setting, str):
        if len(setting) != len(layers):
            raise PruningError(
                f"{what} has {len(setting)} values for {len(layers)} layers: {', '.join(layers)}"
            )
        values = dict(zip(layers, setting, strict=True))
    else:
        values = dict.fromkeys(layers, setting)
    for name, value in values.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or value != value:
            raise PruningError(f"{what} of layer {name!r} is {value!r}, not a number")
    return {name: float(value) for name, value in values.items()}


def _matched(
    setting: Mapping[str, float], layers: Sequence[str], what: str, default: float | None
) -> dict[str, float]:
    for pattern in setting:
        if not any(fnmatchcase(layer, pattern) for layer in layers):
            raise PruningError(
                f"{what}: pattern {pattern!r} matches no layer; choose from {', '.join(layers)}"
            )
    values = {}
    for layer in layers:
        value = next((v for p, v in setting.items() if fnmatchcase(layer, p)), default)
        if value is None:
            raise PruningError(f"{what}: no pattern of {[*setting]} matches layer {layer!r}")
        values[layer] = value
    return values
