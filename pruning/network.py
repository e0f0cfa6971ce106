"""The portable artefact: a folder with how the model is built, its weights and its masks."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pruning import masks as mask_tools
from pruning.errors import PruningError
from pruning.facts import read_json, write_json
from pruning.folders import whole
from pruning.models import build
from pruning.positions import lengthened, shortened
from pruning.tensors import read_tensors, write_tensors

FORMAT = 1
SHRUNK = 2
"""The format of a folder with a plan, which older versions of this package must not misread."""


@dataclass(frozen=True)
class Network:
    """A model with its masks, how it is built, and the shape of one of its inputs.

    A shrunk model has the `plan` that cuts it from what `spec` builds, as `shrink_plan` returns it;
    its masks are those of the weights that it still has.
    """

    model: nn.Module
    masks: Mapping[str, Tensor]
    spec: Mapping[str, Any]
    input_shape: tuple[int, ...] = field(default=())
    plan: Mapping[str, Any] | None = None


def save(network: Network, folder: Path | str) -> None:
    """Write `network` into a new `folder`, whole or not at all.

    Weights under the names of the dense model's state_dict, masks as bits by parameter name, and
    the rest as JSON: nothing is pickled. Replaces a network that is there; refuses a folder of
    anything else, and a pruned weight that is not zero.
    """
    folder = Path(folder)
    if folder.is_dir() and any(folder.iterdir()) and not (folder / "network.json").is_file():
        raise PruningError(f"{folder}: holds something else than a network; name a new folder")
    with whole(folder) as partial:
        write(network, partial)


def write(network: Network, folder: Path) -> None:
    """Write the files of `network` into an existing folder."""
    masks = mask_tools.by_first_name(network.model, network.masks, where=str(folder))
    mask_tools.verify(network.model, masks, where=str(folder))
    write_tensors(folder / "weights.safetensors", network.model.state_dict())
    bits = {name: mask_tools.pack(mask) for name, mask in masks.items()}
    write_tensors(folder / "masks.safetensors", bits)
    facts = {
        "format": FORMAT if network.plan is None else SHRUNK,
        "model": dict(network.spec),
        "input_shape": list(network.input_shape),
        "masks": {name: list(mask.shape) for name, mask in masks.items()},
    }
    if network.plan is not None:
        facts["plan"] = shortened(network.plan)
    write_json(folder / "network.json", facts)


def load(folder: Path | str, *, foreign: bool = False) -> Network:
    """Return the network of a folder, ready to run and to be pruned further.

    Nothing in the folder is executed. Its model is built by the package's or torchvision's own
    factory; a factory of another package is called only if you say `foreign=True`, as that runs
    its code. A shrunk network is built dense, then cut by its plan. Raises `PruningError` for a
    truncated or foreign file and for a plan, masks or weights that do not fit.
    """
    folder = Path(folder)
    facts = _facts(folder)
    plan = _plan(facts, folder)
    model = build(facts["model"], foreign=foreign)
    if plan is not None:
        model = _cut(model, plan, folder)
    _fill(model, read_tensors(folder / "weights.safetensors"), folder)
    masks = read_masks(folder, facts["masks"])
    mask_tools.check(masks, model, where=str(folder))
    mask_tools.verify(model, masks, where=str(folder))
    # In the order of the model: files hold them by name.
    ordered = {name: masks[name] for name, _ in model.named_parameters() if name in masks}
    return Network(model.eval(), ordered, facts["model"], tuple(facts["input_shape"]), plan)


def read_masks(folder: Path, shapes: Mapping[str, list[int]] | None = None) -> dict[str, Tensor]:
    """Return the masks of a network folder without building its model."""
    shapes = _facts(folder)["masks"] if shapes is None else shapes
    path = folder / "masks.safetensors"
    bits = read_tensors(path)
    if bits.keys() != shapes.keys():
        raise PruningError(
            f"{path}: holds masks {sorted(bits)}, network.json says {sorted(shapes)}"
        )
    try:
        return {name: mask_tools.unpack(bits[name], shape) for name, shape in shapes.items()}
    except PruningError as error:
        raise PruningError(f"{path}: {error}") from None


def _fill(model: nn.Module, weights: Mapping[str, Tensor], folder: Path) -> None:
    for name, value in [*model.named_parameters(), *model.named_buffers()]:
        if name in weights and value.is_floating_point() and weights[name].is_floating_point():
            # load_state_dict would round a double or half network to the factory's precision.
            value.data = value.data.to(weights[name].dtype)
    try:
        model.load_state_dict(weights)
    except RuntimeError as error:
        reason = " ".join(str(error).split())
        raise PruningError(f"{folder}: the weights do not fit the model: {reason}") from None


def _plan(facts: Mapping[str, Any], folder: Path) -> dict[str, Any] | None:
    if facts["format"] != SHRUNK:
        return None
    try:
        return dict(lengthened(facts["plan"]))
    except (KeyError, TypeError, ValueError) as error:
        raise PruningError(f"{folder / 'network.json'}: no plan of what is kept: {error}") from None


def _cut(model: nn.Module, plan: dict[str, Any], folder: Path) -> nn.Module:
    from pruning.shrinking.rebuild import apply_plan

    try:
        return apply_plan(model, plan)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError, StopIteration) as error:
        reason = " ".join(str(error).split())
        raise PruningError(f"{folder}: the plan does not fit the model: {reason}") from None


def _facts(folder: Path) -> dict[str, Any]:
    path = folder / "network.json"
    facts = read_json(path)
    if not isinstance(facts, dict) or facts.get("format") not in (FORMAT, SHRUNK):
        raise PruningError(f"{path}: not a network of format {FORMAT} or {SHRUNK}")
    missing = {"model", "masks", "input_shape"} - facts.keys()
    if missing:
        raise PruningError(f"{path}: lacks {sorted(missing)}")
    shapes = facts["masks"]
    if not isinstance(facts["model"], dict) or not isinstance(shapes, dict):
        raise PruningError(f"{path}: model and masks must be mappings")
    for name, shape in [("input_shape", facts["input_shape"]), *shapes.items()]:
        if not isinstance(shape, list) or not all(type(n) is int and n >= 0 for n in shape):
            raise PruningError(f"{path}: {name} has the shape {shape!r}, no list of sizes")
    return facts
