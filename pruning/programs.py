"""Networks as programs that run without the code that made them: torch.export and ONNX."""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from pruning.coupling.copies import skeleton
from pruning.errors import PruningError, first_line
from pruning.shrinking.check import inputs, relative_difference

if TYPE_CHECKING:
    from torch.export import ExportedProgram

TOLERANCE = 1e-4
"""The largest difference that passes, relative to the largest output."""

INSTALL = "pip install 'pruning[onnx]'"


def program(model: nn.Module, example: Tensor) -> "ExportedProgram":
    """Return the torch.export program of `model` in eval mode, for inputs like `example` (N, ...).

    Any N where the network allows it, else that of the example, which is kept in the program: zeros
    make the same network the same bytes. The model is left as it is. Raises `PruningError` where it
    cannot be exported.
    """
    trial = skeleton(model).eval()
    # two samples at least: the exporter takes a batch of one for a constant
    batch = example if len(example) > 1 else torch.cat([example, example])
    free = ({0: torch.export.Dim("batch", min=1)},)
    with _quiet():
        try:
            return torch.export.export(trial, (batch,), dynamic_shapes=free)
        except Exception:
            return _fixed(trial, example)


def _fixed(trial: nn.Module, example: Tensor) -> "ExportedProgram":
    """Return the program for the example's own batch size."""
    try:
        return torch.export.export(trial, (example,))
    except Exception as error:
        reason = first_line(error)
        raise PruningError(
            f"{type(trial).__name__} cannot be exported: {type(error).__name__}: {reason}"
        ) from error


def write_program(exported: "ExportedProgram", path: Path) -> None:
    """Write a program as .pt2: `torch.export.load(path).module()` runs it, with torch alone."""
    with _quiet():
        torch.export.save(exported, path)


def write_onnx(exported: "ExportedProgram", path: Path) -> None:
    """Write a program as one ONNX file.

    Raises `PruningError` where the packages for it are not installed, and for an operation that
    ONNX lacks.
    """
    try:
        import onnxscript  # noqa: F401 - torch needs it and names it less clearly
    except ImportError as error:
        raise PruningError(f"ONNX: {error.name} is not installed; {INSTALL}") from None
    with _quiet():
        try:
            found = torch.onnx.export(exported, dynamo=True, verbose=False, external_data=False)
        except Exception as error:
            reason = first_line(error)
            raise PruningError(f"ONNX: cannot be exported: {reason}") from error
        if found is None:
            raise PruningError("ONNX: the exporter returned no program")
        found.save(path)


def onnx_call(path: Path, *, threads: int = 1) -> Callable[[Tensor], list[Tensor]]:
    """Return a function that runs an ONNX file on the CPU with onnxruntime.

    Raises `PruningError` where onnxruntime is not installed or refuses the file.
    """
    try:
        import onnxruntime  # type: ignore[import-untyped]
    except ImportError:
        raise PruningError(f"ONNX: onnxruntime is not installed; {INSTALL}") from None
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(
            str(path), options, providers=["CPUExecutionProvider"]
        )
    except Exception as error:
        raise PruningError(f"{path}: onnxruntime refuses it: {error}") from None
    name = session.get_inputs()[0].name

    def call(batch: Tensor) -> list[Tensor]:
        return [torch.from_numpy(each) for each in session.run(None, {name: batch.numpy()})]

    return call


@torch.no_grad()
def check(call: Callable[[Tensor], Any], model: nn.Module, example: Tensor, what: str) -> float:
    """Return the largest relative difference of a program's outputs to the model's.

    On the example and on random inputs like it, tokens in another order. Raises
    `PruningError` beyond 1e-4.
    """
    trial = skeleton(model).eval()
    batches: list[Any] = inputs(example)
    worst = 0.0
    for batch in batches:
        expected = torch.utils._pytree.tree_leaves(trial(batch))
        found = torch.utils._pytree.tree_leaves(call(batch))
        if len(expected) != len(found):
            raise PruningError(f"{what}: {len(found)} outputs, the network has {len(expected)}")
        pairs = zip(expected, found, strict=True)
        worst = max([worst, *(relative_difference(one, other) for one, other in pairs)])
    if worst > TOLERANCE:
        raise PruningError(
            f"{what}: its output differs from the network's by {worst:.3g} of the largest value, "
            f"more than {TOLERANCE:g}"
        )
    return worst


@contextmanager
def _quiet() -> Iterator[None]:
    """Hide the exporters' own warnings; let attention run as operations that all formats know."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
