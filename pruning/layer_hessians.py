"""How much the output of each layer alone feels a change of that layer's weights.

The squared error of a layer's outputs before the activation is quadratic in its weights. Its
Hessian is the second moment of what the layer reads: one block for all outputs, none between them.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd

from pruning.errors import PruningError
from pruning.evidence import Evidence
from pruning.probing import first_batches, named, undisturbed
from pruning.types import Params

ROOM = 1 << 22
"""Numbers that one step of the work may hold at a time: 32 megabytes of float64."""

_Owner = nn.Linear | _ConvNd


@dataclass(frozen=True)
class LayerHessian:
    """The damped second moment of a layer's inputs, by group of its outputs."""

    parameters: Mapping[str, Tensor]
    """The weight, then the bias where there is one: its input is the constant 1 and comes last."""
    matrix: Tensor
    """(groups, inputs, inputs) in float64."""
    where: str

    def inverse(self) -> Tensor:
        """Return the inverse of the matrix."""
        return torch.cholesky_inverse(cholesky(self.matrix, self.where))

    def rows(self, tensors: Mapping[str, Tensor]) -> Tensor:
        """Return what each output is made of as a row, (groups, outputs of a group, inputs)."""
        columns = [tensors[name].detach().reshape(len(p), -1) for name, p in self._named]
        rows = torch.cat(columns, 1)
        return rows.reshape(len(self.matrix), -1, rows.shape[1])

    def split(self, rows: Tensor) -> dict[str, Tensor]:
        """Return rows as tensors in the shapes of the parameters."""
        sizes = [parameter[0].numel() for _, parameter in self._named]
        columns = torch.split(rows.flatten(0, 1), sizes, 1)
        return {
            name: column.reshape(parameter.shape)
            for (name, parameter), column in zip(self._named, columns, strict=True)
        }

    @property
    def _named(self) -> list[tuple[str, Tensor]]:
        return [*self.parameters.items()]


def layer_hessians(
    model: nn.Module,
    params: Params,
    evidence: Evidence,
    *,
    origin: tuple[str, str],
    damping: float,
    limit: int | None = None,
) -> Iterator[LayerHessian]:
    """Yield the Hessian of every layer that has one of `params`, over the first `limit` batches.

    In evaluation mode, with the network as it is: no layer sees what another one's pruning does.
    `damping`, in units of the mean of the diagonal, is added to the diagonal. `origin` is the axis
    and the name of the method that asks, for its errors. Raises `PruningError` for a damping below
    0, a parameter that belongs to no linear layer or convolution, and a layer that reads nothing.
    """
    told = f"{origin[0]} {origin[1]!r}"
    if not 0 <= damping < float("inf"):
        raise PruningError(f"{told}: damping {damping!r} is not a number of at least 0")
    layers = _layers(model, params, told)
    moments: dict[str, Tensor] = {}
    counts = dict.fromkeys(layers, 0)

    def recording(name: str, layer: _Owner) -> Callable[..., None]:
        def record(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            for rows in _read(layer, args[0] if args else kwargs["input"], layers[name][1]):
                moments[name] = rows.mT @ rows + moments.get(name, 0)
                counts[name] += rows.shape[1]

        return record

    hooks = [
        layer.register_forward_pre_hook(recording(name, layer), with_kwargs=True)
        for name, (owners, _) in layers.items()
        for layer in owners
    ]
    try:
        doing = "score" if origin[0] == "criterion" else "correct"
        naming = named(origin[1], model, axis=origin[0], doing=doing)
        with undisturbed(model, evidence.generator), naming:
            for batch in first_batches(evidence, origin[1], limit, axis=origin[0]):
                with torch.no_grad():
                    evidence.run(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    for name, (_, bias) in layers.items():
        if not counts[name]:
            raise PruningError(f"{told}: layer {name!r} read nothing: skip the layer")
        matrix = _damped(moments.pop(name) / counts[name], damping)
        parts = [name] if bias is None else [name, bias]
        own = {part: model.get_parameter(part) for part in parts}
        yield LayerHessian(own, matrix, f"{told}: layer {name!r}")


def cholesky(matrix: Tensor, where: str) -> Tensor:
    """Return the lower factors of positive definite matrices; refuse others."""
    factor: Tensor
    factor, failed = torch.linalg.cholesky_ex(matrix)
    if bool(failed.any()):
        raise PruningError(f"{where}: the Hessian cannot be inverted: raise damping")
    return factor


def _layers(
    model: nn.Module, params: Params, told: str
) -> dict[str, tuple[list[_Owner], str | None]]:
    """Return the layers that own `params` by the name of the weight, with that of their bias."""
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    owners: dict[str, list[_Owner]] = {}
    kinds: dict[int, str] = {}
    owning: dict[int, str] = {}
    for module in model.modules():
        # What a parametrization computes is no parameter, and to ask for it may change it.
        own = dict(module.named_parameters(recurse=False))
        for parameter in own.values():
            kinds.setdefault(id(parameter), type(module).__name__)
        known = isinstance(module, _Owner) and not isinstance(module, _ConvTransposeNd)
        if known and "weight" in own:
            weight = names[id(own["weight"])]
            owners.setdefault(weight, []).append(module)  # type: ignore[arg-type]
            for parameter in own.values():
                owning.setdefault(id(parameter), weight)
    for name, given in params.items():
        if id(given) not in owning:
            kind = kinds.get(id(given), "no module")
            raise PruningError(
                f"{told}: layer {name!r} belongs to {kind}; it looks at the inputs of Linear and "
                "Conv layers: skip the layer"
            )
    wanted = dict.fromkeys(owning[id(given)] for given in params.values())
    found = {name: _bias(layers, names) for name, layers in owners.items()}
    counts = Counter(found.values())
    return {
        name: (owners[name], found[name] if counts[found[name]] == 1 else None) for name in wanted
    }


def _bias(owners: Iterable[_Owner], names: Mapping[int, str]) -> str | None:
    """Return the one bias of a layer: none where layers share a weight under several biases."""
    own = [dict(layer.named_parameters(recurse=False)).get("bias") for layer in owners]
    found = {None if bias is None else names[id(bias)] for bias in own}
    return found.pop() if len(found) == 1 else None


def _read(layer: _Owner, inputs: Tensor, bias: str | None) -> Iterator[Tensor]:
    """Yield what the outputs of a layer are made of, (groups, places, inputs), some at a time."""
    for part in _parts(layer, inputs.detach()):
        rows = part.to(torch.float64)
        yield rows if bias is None else functional.pad(rows, (0, 1), value=1.0)


def _parts(layer: _Owner, inputs: Tensor) -> Iterator[Tensor]:
    if isinstance(layer, nn.Linear):
        yield inputs.reshape(1, -1, layer.in_features)
        return
    examples = inputs if inputs.ndim == len(layer.kernel_size) + 2 else inputs.unsqueeze(0)
    one = max(_patches(layer, examples[:1]).numel(), 1)
    for some in torch.split(examples, max(ROOM // one, 1)):
        yield _patches(layer, some)


def _patches(layer: _ConvNd, examples: Tensor) -> Tensor:
    """Return the patches that a convolution reads, (groups, places, inputs of a filter)."""
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    windows = functional.pad(examples, layer._reversed_padding_repeated_twice, mode=mode)
    geometry = zip(layer.kernel_size, layer.stride, layer.dilation, strict=True)
    for dim, (size, stride, dilation) in enumerate(geometry, start=2):
        windows = windows.unfold(dim, dilation * (size - 1) + 1, stride)[..., ::dilation]
    places = windows.movedim(1, len(layer.kernel_size) + 1)
    inputs = layer.weight[0].numel()
    return places.reshape(-1, layer.groups, inputs).movedim(1, 0)


def _damped(moment: Tensor, damping: float) -> Tensor:
    """Return the moment with `damping` times the mean of its diagonal added to the diagonal."""
    diagonal = moment.diagonal(dim1=-2, dim2=-1)
    size = diagonal.mean(-1, keepdim=True)
    # A layer that only ever reads zeros has no scale of its own.
    diagonal += damping * torch.where(size > 0, size, 1.0)
    return moment
