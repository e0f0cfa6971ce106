"""BatchNorm scales pressed towards zero, so that whole channels can go afterwards."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from pruning.during import Course, Training
from pruning.enforcement import enforced
from pruning.errors import PruningError
from pruning.penalties import penalised
from pruning.traits import traits


@traits("given", "fixed", "exact")
@contextmanager
def slimming(
    training: Training, *, strength: float = 1e-4, scale: float | None = None
) -> Iterator[Course]:
    """An L1 penalty on every BatchNorm scale, while the masks given are held.

    Source: Liu et al. 2017, "Learning Efficient Convolutional Networks through Network Slimming",
    equation 1, by the subgradient strength * sign(scale), 0 at 0, added to the scale's gradient.

    The paper's `strength` is 1e-4 for VGG, 1e-5 for ResNet-164 and DenseNet-40, and its networks
    train from scratch with all scales 0.5 (`scale`; without it they are left as they are). It is
    added after clipping and once a step. The channels go later, by the criterion `bn_scale`.
    """
    if not strength >= 0:
        raise PruningError(f"slimming: strength {strength} is not at least 0")
    scales = _scales(training.model)
    if scale is not None and not training.resumed:
        with torch.no_grad():
            for parameter in scales:
                parameter.fill_(scale)

    def pressure() -> Iterator[tuple[nn.Parameter, Tensor]]:
        return ((parameter, strength * parameter.sign()) for parameter in scales)

    with (
        penalised(training.optimizer, pressure),
        enforced(training.model, training.optimizer, training.current()) as held,
    ):
        yield Course(held.masks)


def _scales(model: nn.Module) -> list[nn.Parameter]:
    norms = (m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm))
    found = [norm.weight for norm in norms if norm.affine and norm.weight.requires_grad]
    if not found:
        raise PruningError(
            f"slimming: {type(model).__name__} has no BatchNorm layer with a scale that trains"
        )
    return found
