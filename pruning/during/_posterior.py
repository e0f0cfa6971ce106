"""What the weights may be while sparse variational dropout trains them, and the noise they make."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any

import torch
from torch import Tensor, nn

from pruning import distributed
from pruning.during import Training
from pruning.during._groups import groups_of
from pruning.during._variational import NOISY, output_deviation, squares
from pruning.enforcement import bits, clear
from pruning.errors import PruningError
from pruning.rewind import placed
from pruning.types import Masks


class Posterior:
    """The mean and the variance of every weight, and the masks through which means are seen."""

    def __init__(self, training: Training, threshold: float | None, start: float) -> None:
        self.training, self.threshold, self.now = training, threshold, training.start
        self.weights = training.own_weights()
        self.layers = _layers(training.model, self.weights)
        self._keep(training.current())
        means, variances = training.saved("mean/"), training.saved("log_sigma2/")
        self.means = {name: w.detach().clone() for name, w in self.weights.items()}
        self.log_sigma2 = {name: _like(w, start) for name, w in self.weights.items()}
        with torch.no_grad():
            for name, mean in means.items():
                self.means[name].copy_(mean)
                self.log_sigma2[name].copy_(variances[name])
        self.heard: set[str] = set()
        self.draws: dict[torch.device, torch.Generator] = {}
        self.look()

    def enter(self, exits: ExitStack) -> None:
        """Add the noise, and let the optimizer, and it alone, see all means and train both."""
        optimizer = self.training.optimizer
        exits.callback(self._leave, optimizer)
        self._join(optimizer)
        for name, layer in self.layers:
            handle = layer.register_forward_hook(self._noise(name, layer), with_kwargs=True)
            exits.callback(handle.remove)
        for name, weight in self.weights.items():
            if weight.requires_grad:
                hook = weight.register_post_accumulate_grad_hook(self._masking(name))  # type: ignore[no-untyped-call]
                exits.callback(hook.remove)
        exits.callback(optimizer.register_step_post_hook(lambda *_: self._remember()).remove)

    def at(self, step: int) -> None:
        """Go on to the noise of another step."""
        self.now = step
        self.draws.clear()

    @torch.no_grad()
    def look(self) -> None:
        """Compare variances and means, prune what is above the threshold, show what is kept."""
        self.squares = {name: squares(mean) for name, mean in self.means.items()}
        self.log_alpha = {
            name: self.log_sigma2[name] - square.log() for name, square in self.squares.items()
        }
        if self.threshold is not None:
            self._keep({name: a <= self.threshold for name, a in self.log_alpha.items()})
        self._show()

    def rank(self, progress: float) -> None:
        """Prune exactly the share that is due: the pieces of the largest log alpha."""
        training = self.training
        share = training.initial + progress * (training.sparsity - training.initial)

        def certainty(model: nn.Module, params: Any, evidence: Any) -> dict[str, Tensor]:  # noqa: ARG001
            # A layer that is not known here is refused together with the masks.
            return {name: -self.log_alpha.get(name, weight) for name, weight in params.items()}

        self._keep(training.chosen_anew(share, criterion=certainty))
        self._show()

    @torch.no_grad()
    def uncover(self) -> None:
        """Give the optimizer all means."""
        for name, weight in self.weights.items():
            weight.copy_(self.means[name])

    def state(self) -> dict[str, Tensor]:
        """Return what the model and the optimizer's other groups do not hold."""
        found = {f"mean/{name}": mean for name, mean in self.means.items()}
        for name, variance in self.log_sigma2.items():
            found[f"log_sigma2/{name}"] = variance.detach()
            for key, value in self.training.optimizer.state.get(variance, {}).items():
                if isinstance(value, Tensor):
                    found[f"optimizer/{name}/{key}"] = value
        return found

    def _join(self, optimizer: torch.optim.Optimizer) -> None:
        still = {"weight_decay": 0.0} if "weight_decay" in optimizer.defaults else {}
        named = "param_names" in optimizer.param_groups[0]
        for _, settings, names in [*groups_of(optimizer, self.weights)]:
            members = [(f"log_sigma2/{name}", self.log_sigma2[name]) for name in names]
            params = members if named else [variance for _, variance in members]
            optimizer.add_param_group({"params": params, **settings, **still})
        for path, value in self.training.saved("optimizer/").items():
            name, _, key = path.rpartition("/")
            variance = self.log_sigma2[name]
            optimizer.state[variance][key] = placed(value, variance, optimizer, key)
        if isinstance(optimizer, torch.optim.Adagrad):  # it alone makes its state beforehand
            begun = optimizer.defaults["initial_accumulator_value"]
            for variance in self.log_sigma2.values():
                state = optimizer.state[variance]
                state.setdefault("step", torch.zeros(()))
                state.setdefault("sum", torch.full_like(variance.detach(), begun))

    def _leave(self, optimizer: torch.optim.Optimizer) -> None:
        for variance in self.log_sigma2.values():
            optimizer.state.pop(variance, None)
        own = {id(variance) for variance in self.log_sigma2.values()}
        optimizer.param_groups[:] = [
            group for group in optimizer.param_groups if not own & set(map(id, group["params"]))
        ]

    def _noise(self, name: str, layer: nn.Module) -> Callable[..., Tensor | None]:
        def add(module: nn.Module, args: Any, kwargs: Any, output: Tensor) -> Tensor | None:
            # A copy of the model has this hook as well, and longer than the training lasts.
            if module is not layer or not module.training:
                return None
            self.heard.add(name)
            inputs = args[0] if args else kwargs["input"]
            deviation = output_deviation(module, inputs, self.log_sigma2[name])
            draw = self._draw(output.device)
            noise = torch.empty_like(deviation).normal_(generator=draw)
            return output + (deviation * noise).to(output.dtype)

        # torch.compile would follow into the random numbers and compile anew for every step's.
        apart: Callable[..., Tensor | None] = torch.compiler.disable(add)  # type: ignore[no-untyped-call]
        return apart

    def _draw(self, device: torch.device) -> torch.Generator:
        """Return the step's randomness on a device, so that no noise is copied there."""
        if device not in self.draws:
            # Named by the order in which devices come, so that their numbers are no part of it.
            purpose = f"variational_dropout {distributed.rank()} {len(self.draws)}"
            seed = self.training.generator(purpose, self.now).initial_seed()
            self.draws[device] = torch.Generator(device).manual_seed(seed)
        return self.draws[device]

    def _masking(self, name: str) -> Callable[[Tensor], None]:
        def mask(weight: Tensor) -> None:
            if weight.grad is not None:
                clear(weight.grad, self.bits[name])

        return mask

    def _keep(self, masks: Masks) -> None:
        self.masks = {name: mask.to(self.weights[name].device) for name, mask in masks.items()}
        self.bits = {name: bits(mask, self.weights[name]) for name, mask in self.masks.items()}

    @torch.no_grad()
    def _remember(self) -> None:
        for name, weight in self.weights.items():
            self.means[name].copy_(weight)
            self.log_sigma2[name].grad = None  # a loop may zero those of the model alone
        self.look()

    @torch.no_grad()
    def _show(self) -> None:
        for name, weight in self.weights.items():
            weight.copy_(self.means[name])
            clear(weight, self.bits[name])


def _like(weight: Tensor, value: float) -> nn.Parameter:
    wide = torch.promote_types(weight.dtype, torch.float32)
    return nn.Parameter(torch.full_like(weight, value, dtype=wide, requires_grad=False))


def _layers(model: nn.Module, weights: Mapping[str, Tensor]) -> list[tuple[str, nn.Module]]:
    """Return (name of the weight, layer) for every layer that uses one; refuse any other use."""
    names = {id(weight): name for name, weight in weights.items()}
    found = []
    for path, module in model.named_modules():
        for key, parameter in module.named_parameters(recurse=False):
            if id(parameter) in names:
                if not isinstance(module, NOISY) or key != "weight":
                    kinds = ", ".join(kind.__name__ for kind in NOISY)
                    raise PruningError(
                        f"variational_dropout: {f'{path}.{key}'.strip('.')!r} is a weight of "
                        f"{type(module).__name__}, and noise is known for those of {kinds}; leave "
                        f"others out with skip"
                    )
                found.append((names[id(parameter)], module))
    return found
