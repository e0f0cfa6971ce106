"""What can be told of a setting without importing torch: whether its name and kind are known."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from pruning import catalogue
from pruning.errors import PruningError, unknown
from pruning.presets import PRESETS

DATASETS = ("digits", "MNIST", "FashionMNIST", "CIFAR10", "CIFAR100", "folder")

OPTIMIZERS: Mapping[str, tuple[str, ...]] = {
    "sgd": ("momentum", "dampening", "weight_decay", "nesterov"),
    "adam": ("betas", "eps", "weight_decay", "amsgrad", "decoupled_weight_decay"),
    "adamw": ("betas", "eps", "weight_decay", "amsgrad"),
    "nadam": ("betas", "eps", "weight_decay", "momentum_decay", "decoupled_weight_decay"),
    "radam": ("betas", "eps", "weight_decay", "decoupled_weight_decay"),
    "rmsprop": ("alpha", "eps", "weight_decay", "momentum", "centered"),
    "adagrad": ("lr_decay", "weight_decay", "initial_accumulator_value", "eps"),
}
"""The optimizers of torch.optim with what can be set of each; the rate is `learning_rate.base`."""

PIECES = ("weight", "vector", "column", "kernel", "filter", "channel")
UNBUDGETED = ("per_layer", "threshold")
"""The allocations that bring their own targets, as in `pruning.allocation`."""

BY_LAYER = ("min_keep", "max_sparsity", "ratios", "s", "q")
"""The settings that may differ by layer: a number, a list, or numbers by name pattern."""

BY_TARGET = ("alpha",)
"""The settings that may differ by round: a number, or numbers by target sparsity."""

NESTED = {("criterion", "of"): "criterion", ("during", "schedule"): "schedule"}
"""The settings that are a choice themselves, with its axis."""

DEVICES = re.compile(r"cpu|(cuda|mps|xpu)(:\d+)?")


def choice(axis: str) -> Callable[[Any], dict[str, Any]]:
    """Return the check of a choice on `axis`: a name, or a mapping of `name` and its settings."""

    def check(value: Any) -> dict[str, Any]:
        chosen = {"name": value} if isinstance(value, str) else value
        if not isinstance(chosen, dict) or not isinstance(chosen.get("name"), str):
            raise ValueError(f"{value!r} is neither a name nor a mapping with a name")
        given = {key: setting for key, setting in chosen.items() if key != "name"}
        check_settings(axis, chosen["name"], given)
        return chosen

    return check


def check_settings(axis: str, name: str, given: Mapping[str, Any]) -> None:
    """Refuse a name that `axis` has not, a setting that it has not, and a value of another kind."""
    catalogue.check(axis, name, given)
    known = {} if ":" in name else catalogue.entries(axis)[name].settings
    for setting, default in known.items():
        if setting not in given:
            if default is ...:
                raise PruningError(f"{axis} {name!r} needs a value for its setting {setting!r}")
        elif (axis, setting) in NESTED:
            choice(NESTED[axis, setting])(given[setting])
        elif not all(_of_its_kind(value, default) for value in _values(setting, given[setting])):
            raise PruningError(
                f"{axis} {name!r}: {setting}: {given[setting]!r} is no {_kind(default)}"
            )


def preset(name: Any) -> Mapping[str, Any]:
    """Return a published row of `prune`; refuse a name that stands for none."""
    if name not in PRESETS:
        raise unknown("preset", str(name), PRESETS)
    return PRESETS[name]


def dataset(name: str) -> str:
    """Refuse the name of a dataset that there is not."""
    if name not in DATASETS:
        raise unknown("dataset", name, DATASETS)
    return name


def granularity(name: str) -> str:
    """Refuse a granularity that there is not: a piece, or N:M with N below M."""
    pattern = re.fullmatch(r"(\d{1,4}):(\d{1,4})", name)
    if name not in PIECES and not (pattern and 0 < int(pattern[1]) < int(pattern[2])):
        raise unknown("granularity", name, [*PIECES, "N:M such as 2:4"])
    return name


def device(name: str) -> str:
    """Refuse what is no name of a device; whether it is there is asked when it is needed."""
    if not DEVICES.fullmatch(name):
        raise unknown("device", name, ["cpu", "cuda", "cuda:N", "mps", "xpu"])
    return name


def optimizer(name: str, given: Mapping[str, Any]) -> None:
    """Refuse a setting that an optimizer has not, and one that is no number or pair of numbers."""
    for setting, value in given.items():
        if setting not in OPTIMIZERS[name]:
            raise unknown(f"setting of optimizer {name!r}", setting, OPTIMIZERS[name])
        values = value if setting == "betas" and isinstance(value, list) else [value]
        if not all(isinstance(each, int | float) for each in values):
            raise PruningError(f"optimizer {name!r}: {setting}: {value!r} is no number")


def _values(setting: str, value: Any) -> list[Any]:
    """Return the values of a setting: several where it may differ by layer or by target."""
    if setting in BY_LAYER + BY_TARGET and isinstance(value, dict):
        return list(value.values())
    return value if setting in BY_LAYER and isinstance(value, list) else [value]


def _of_its_kind(value: Any, default: Any) -> bool:
    if isinstance(default, bool):
        return isinstance(value, bool)
    if isinstance(default, int | float):
        return isinstance(value, int | float) and not isinstance(value, bool)
    return True


def _kind(default: Any) -> str:
    return "yes or no" if isinstance(default, bool) else "number"
