"""How signals pass a network on its way from the rewind point to the recovered network."""

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from pruning.isometry import enforce_isometry
from pruning.jacobian import layer_singular_values, singular_values, statistics
from pruning.rewind import Snapshot, capture, restore
from stages.files import write_table
from stages.fold.samples import Samples
from stages.params.signal_params import Isometry, Spectrum

NETWORK = "network"
"""What the whole network is called beside its layers."""

SPECTRUM_COLUMNS = ("moment", "layer", "example", "rank", "value")
ISOMETRY_COLUMNS = ("step", "epoch", "split", "loss")
ISOMETRY_ROWS = 200

Values = dict[str, Tensor]
"""Singular values by layer, (examples, rank), the network's own under its name."""


@dataclass
class Spectra:
    """Singular values at each moment that was looked at; none where they are not asked for."""

    settings: Spectrum | None
    samples: Samples
    found: dict[str, Values] = field(default_factory=dict)

    def at(self, moment: str, model: nn.Module) -> None:
        """Look at `model` now."""
        if self.settings is not None:
            self.found[moment] = measure(model, self.samples, self.settings)

    def at_rewind_point(self, model: nn.Module, rewind: Snapshot) -> None:
        """Look at the dense network of the rewind point."""
        if self.settings is not None:
            dense = deepcopy(model)
            restore(dense, rewind)
            self.at("init" if rewind.step == 0 else f"step-{rewind.step}", dense)

    def write(self, folder: Path) -> dict[str, Any]:
        """Write spectrum.csv and its picture; return what metrics.json tells of it."""
        if not self.found:
            return {}
        from stages.fold.spectrum_picture import draw

        write_table(folder / "spectrum.csv", SPECTRUM_COLUMNS, _rows(self.found))
        draw(self.found, folder / "spectrum.png")
        told = {
            moment: {layer: statistics(values) for layer, values in found.items()}
            for moment, found in self.found.items()
        }
        return {"spectrum": told}


def measure(model: nn.Module, samples: Samples, settings: Spectrum) -> Values:
    """Return the singular values of a network and of the layers asked for."""
    evidence = samples.evidence(settings.batches, settings.examples)
    found = {NETWORK: singular_values(model, evidence)}
    if settings.layers:
        layers = None if settings.layers == "all" else settings.layers
        found |= layer_singular_values(
            model, evidence, layers=layers, examples=settings.layer_examples
        )
    return {name: values.detach().cpu() for name, values in found.items()}


def make_isometric(
    model: nn.Module, masks: Mapping[str, Tensor], settings: Isometry, folder: Path
) -> dict[str, float]:
    """Make the kept weights as orthogonal as they can be, in place; write the course of the loss.

    Returns what metrics.json tells of it.
    """
    course = enforce_isometry(
        model,
        masks,
        steps=settings.steps,
        lr=settings.learning_rate,
        patience=settings.patience,
    )
    every = max(1, len(course) // ISOMETRY_ROWS)
    steps = sorted({*range(0, len(course), every), len(course) - 1})
    rows = [(step, 0, "isometry", course[step]) for step in steps]
    write_table(folder / "isometry.csv", ISOMETRY_COLUMNS, rows)
    return {
        "isometry_steps": len(course) - 1,
        "isometry_loss_before": course[0],
        "isometry_loss": course[-1],
    }


def with_weights_of(model: nn.Module, snapshot: Snapshot | None) -> Snapshot | None:
    """Return a snapshot whose optimizer goes on, but from the weights that `model` has now."""
    if snapshot is None:
        return None
    return replace(snapshot, model=capture(model, None, snapshot.step).model)


def _rows(found: Mapping[str, Values]) -> list[tuple[Any, ...]]:
    return [
        (moment, layer, example, rank, value)
        for moment, spectra in found.items()
        for layer, values in spectra.items()
        for example, row in enumerate(values.tolist())
        for rank, value in enumerate(row)
    ]
