"""What every method owes to the loop that runs it, whatever the optimizer and the precision."""

from copy import deepcopy
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pruning import PruningError, catalogue, fit, prune
from pruning import masks as mask_tools
from pruning.choices import resolve

QUICK: dict[str, dict[str, Any]] = {
    "gradual": {"frequency": 2},
    "hard": {},
    "learning_compression": {"frequency": 4, "unit": "steps"},
    "none": {},
    "rigl": {"frequency": 2},
    "rnn": {"start": 1, "ramp": 3, "end": 9, "frequency": 1},
    "set": {"frequency": 2, "unit": "steps"},
    "slimming": {},
    "soft": {"frequency": 3, "unit": "steps"},
    "splicing": {},
    "trainable_threshold": {"alpha": 0.05},
    "variational_dropout": {"threshold": None},
}
TRAITS = {name: entry.traits for name, entry in catalogue.entries("during").items()}
HOLDS = [name for name, found in TRAITS.items() if "given" in found and "unmasked" not in found]
ZERO_AT: dict[str, Any] = {
    "none": lambda step: False,  # noqa: ARG005
    "soft": lambda step: step % 3 == 0,
    "learning_compression": lambda step: step == 12,
}
"""After which steps no pruned weight shows, of the methods under which they train."""

OPTIMIZERS: dict[str, Any] = {
    "sgd": lambda p: torch.optim.SGD(p, lr=0.05, momentum=0.9, weight_decay=1e-2),
    "adam": lambda p: torch.optim.Adam(p, lr=0.01),
    "adamw": lambda p: torch.optim.AdamW(p, lr=0.01, weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p, lr=0.05, initial_accumulator_value=0.1),
}
pytestmark = pytest.mark.filterwarnings("ignore::pruning.pruner.LayerCollapse")


def start(runs: Any, method: str, model: Any, optimizer: str = "sgd", **changes: Any) -> Any:
    made = OPTIMIZERS[optimizer](model.parameters())
    given_ = {"masks": prune(model, 0.6)} if method in HOLDS else {}
    return runs.training(model, 0.6, optimizer=made, **given_, **changes)


def test_every_method_of_the_catalogue_is_tested() -> None:
    assert catalogue.entries("during").keys() == QUICK.keys()
    for entry in catalogue.entries("during").values():
        assert entry.source and entry.meaning.endswith(".")


@pytest.mark.parametrize("method", sorted(QUICK))
@settings(max_examples=8)
@given(
    optimizer=st.sampled_from(sorted(OPTIMIZERS)),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
    clip=st.sampled_from([None, 0.5]),
)
def test_no_pruned_weight_shows_at_any_step(
    runs: Any, method: str, optimizer: str, precision: str, clip: float | None
) -> None:
    model = runs.network()
    training = start(runs, method, model, optimizer)
    with resolve("during", {"name": method} | QUICK[method])(training) as course:

        def look(step: int, _: Any) -> None:
            if method not in ZERO_AT or ZERO_AT[method](step):
                mask_tools.verify(model, course.masks)
            mask_tools.check(course.masks, model)

        fit(
            model,
            runs.batches(),
            training.optimizer,
            lambda m, b: runs.loss(m, b).float(),
            steps=training.steps,
            clip=clip,
            precision=precision,
            hooks=[course.hook, look],
        )
    mask_tools.verify(model, course.masks)
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    expected = {"none": (0.0, 0.0), "rnn": (0.2, 0.9), "trainable_threshold": (0.05, 0.99)}
    least, most = expected.get(method, (0.59, 0.61))
    assert least <= mask_tools.sparsity(course.masks) <= most


@pytest.mark.parametrize("method", sorted(QUICK))
def test_what_a_method_says_of_itself_is_true(runs: Any, method: str) -> None:
    model = runs.network()
    training = start(runs, method, model)
    seen = []
    course = runs.run(training, {"name": method} | QUICK[method], lambda _, c: seen.append(c.masks))
    weights = sum(mask.numel() for mask in course.masks.values())
    if "exact" in TRAITS[method]:
        assert mask_tools.kept(course.masks) == round(0.4 * weights)
    if "unmasked" in TRAITS[method]:
        assert mask_tools.kept(course.masks) == weights
    moved = any(not torch.equal(m[name], seen[0][name]) for m in seen for name in m)
    assert moved == ("fixed" not in TRAITS[method])


@pytest.mark.parametrize("method", sorted(QUICK))
def test_nothing_stays_behind_not_even_after_an_error(runs: Any, method: str) -> None:
    model = runs.network()
    training = start(runs, method, model)
    choice = resolve("during", {"name": method} | QUICK[method])
    with pytest.raises(KeyError, match="stopped"), choice(training) as course:
        for step, batch in zip(range(3), runs.batches(), strict=False):
            training.optimizer.zero_grad()
            runs.loss(model, batch).backward()
            training.optimizer.step()
            course.hook(step + 1, torch.zeros(()))
        raise KeyError("stopped")
    free = deepcopy(model)
    optimizer = OPTIMIZERS["sgd"](free.parameters())
    training.optimizer.state.clear()
    optimizer.param_groups[0].update(weight_decay=1e-2)
    for either, own in ((model, training.optimizer), (free, optimizer)):
        fit(either, runs.batches(), own, runs.loss, steps=2)
    assert all(map(torch.equal, model.parameters(), free.parameters()))


def twice(state: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    return state, deepcopy(state)


@pytest.mark.parametrize("method", sorted(QUICK))
def test_masks_and_state_that_the_caller_holds_are_never_changed(runs: Any, method: str) -> None:
    model = runs.network()
    training = start(runs, method, model)
    before = deepcopy(training.masks)
    with resolve("during", {"name": method} | QUICK[method])(training) as course:
        states: list[Any] = []
        fit(
            model,
            runs.batches(),
            training.optimizer,
            runs.loss,
            steps=4,
            hooks=[course.hook, lambda *_: states.append(twice(course.state()))],
        )
    assert training.masks.keys() == before.keys()
    assert all(torch.equal(training.masks[name], mask) for name, mask in before.items())
    for kept, copy in states:
        assert kept.keys() == copy.keys()
        assert all(torch.equal(kept[name], copy[name]) for name in kept)


@pytest.mark.parametrize("method", sorted(QUICK))
def test_a_run_without_steps_left_changes_nothing(runs: Any, method: str) -> None:
    model = runs.network()
    state = runs.run(start(runs, method, model), {"name": method} | QUICK[method]).state()
    after = deepcopy(model.state_dict())
    training = start(runs, method, model, start=12, state=state)
    course = runs.run(training, {"name": method} | QUICK[method])
    assert all(torch.equal(after[name], value) for name, value in model.state_dict().items())
    for name, mask in course.masks.items():
        assert torch.equal(mask, state[f"mask/{name}"])


@pytest.mark.parametrize("method", ["gradual", "learning_compression", "soft"])
def test_data_may_decide_in_the_middle_of_training(runs: Any, method: str) -> None:
    from pruning import classification

    model = runs.network()
    evidence = classification([next(runs.batches(k)) for k in range(2)])
    choose = partial(prune, criterion="snip", evidence=evidence)
    training = start(runs, method, model, choose=choose)
    course = runs.run(training, {"name": method} | QUICK[method])
    mask_tools.verify(model, course.masks)
    assert 0.59 < mask_tools.sparsity(course.masks) < 0.61


def test_an_unknown_method_is_told_with_the_choices() -> None:
    with pytest.raises(PruningError, match="unknown during 'hope'; choose from gradual, hard, lea"):
        resolve("during", "hope")


def test_a_run_without_masks_is_resumed_and_does_not_begin_again(runs: Any) -> None:
    model = runs.network()
    slim = {"name": "slimming", "scale": 0.5}
    state = runs.run(start(runs, "none", model, masks={}), slim, until=3).state()
    scales = model[1].weight.detach().clone()
    rest = start(runs, "none", model, masks={}, start=3, state=state)
    with resolve("during", slim)(rest):
        assert torch.equal(model[1].weight, scales)
        assert not (scales == 0.5).all()


@pytest.mark.parametrize(
    "method", ["learning_compression", "rnn", "splicing", "trainable_threshold"]
)
def test_masks_that_name_no_layer_are_refused(runs: Any, method: str) -> None:
    with pytest.raises(PruningError, match="the masks name no layer of Sequential to prune while"):
        runs.run(start(runs, method, runs.network(), masks={}), method)


@pytest.mark.parametrize("method", sorted(QUICK))
def test_a_step_may_compute_its_gradients_in_a_closure(runs: Any, method: str) -> None:
    def trained(inside: bool) -> dict[str, Any]:
        model = runs.network()
        training = start(runs, method, model)
        with resolve("during", {"name": method} | QUICK[method])(training) as course:
            for step, batch in zip(range(training.steps), runs.batches(), strict=False):
                compute = partial(computed, runs, training, batch)
                if inside:
                    value = training.optimizer.step(compute)
                else:
                    value = compute()
                    training.optimizer.step()
                course.hook(step + 1, value)
        return dict(model.state_dict())

    outside, inside = trained(False), trained(True)
    assert all(torch.equal(outside[name], value) for name, value in inside.items())


def computed(runs: Any, training: Any, batch: Any) -> Any:
    training.optimizer.zero_grad()
    value = runs.loss(training.model, batch)
    value.backward()
    return value.detach()


@pytest.mark.parametrize(
    "method", ["learning_compression", "splicing", "trainable_threshold", "variational_dropout"]
)
def test_a_layer_that_another_optimizer_trains_is_named(runs: Any, method: str) -> None:
    model = runs.network()
    first = torch.optim.SGD(model[0].parameters(), lr=0.1)
    with pytest.raises(PruningError, match=r"the optimizer does not train layer '4\.weight'"):
        runs.run(runs.training(model, optimizer=first), method)


@pytest.mark.parametrize("method", ["splicing", "variational_dropout"])
@pytest.mark.parametrize("skipping", ["masks", "choose"])
def test_masks_and_choose_that_name_other_layers_are_refused(
    runs: Any, method: str, skipping: str
) -> None:
    model = runs.network()
    changes = {
        "masks": {"masks": mask_tools.dense({"0.weight": model[0].weight})},
        "choose": {"choose": partial(prune, skip=["4.*"])},
    }
    with pytest.raises(PruningError, match=r"only one of them names 4\.weight; give both the same"):
        runs.run(runs.training(model, **changes[skipping]), method)


@pytest.mark.parametrize("method", sorted(QUICK))
def test_an_optimizer_may_know_its_parameters_by_name(runs: Any, method: str) -> None:
    states = []
    for named in (False, True):
        model = runs.network()
        given_ = model.named_parameters() if named else model.parameters()
        sgd = torch.optim.SGD(given_, lr=0.05, momentum=0.9)
        masks = {"masks": prune(model, 0.6)} if method in HOLDS else {}
        training = runs.training(model, 0.6, optimizer=sgd, **masks)
        states.append(runs.run(training, {"name": method} | QUICK[method]).state())
    assert states[0].keys() == states[1].keys()
    assert all(torch.equal(states[0][key], value) for key, value in states[1].items())
