"""What is known of settings without torch is what the functions themselves say."""

import inspect

import pytest

from pruning import PruningError, catalogue
from pruning.allocation import UNBUDGETED
from pruning.granularity import GRANULARITIES
from stages.params import Prune, settings


def test_what_is_told_twice_is_the_same():
    assert settings.UNBUDGETED == UNBUDGETED
    assert (*GRANULARITIES,) == settings.PIECES


def test_the_settings_that_differ_by_layer_or_by_target_are_those_of_the_functions():
    found = {
        parameter.name
        for axis in catalogue.AXES
        for entry in catalogue.entries(axis).values()
        for parameter in inspect.signature(entry.load()).parameters.values()
        if "Mapping[str, float]" in str(parameter.annotation) and parameter.name != "thresholds"
    }
    assert found == {*settings.BY_LAYER, *settings.BY_TARGET}


@pytest.mark.parametrize("value", [2, [2, 1], {"conv*": 2, "linear*": 0}])
def test_a_guard_is_a_number_a_list_or_numbers_by_pattern(value):
    Prune.model_validate({"allocation": {"name": "global", "min_keep": value}})


@pytest.mark.parametrize("value", ["2", ["2"], {"conv*": True}])
def test_and_nothing_else(value):
    with pytest.raises(ValueError, match=r"allocation 'global': min_keep: .* is no number"):
        Prune.model_validate({"allocation": {"name": "global", "min_keep": value}})


@pytest.mark.parametrize("alpha", [1, {"0.95": 0.00025, "0.97": 0.0005}])
def test_a_strength_is_a_number_or_numbers_by_target(alpha):
    Prune.model_validate({"during": {"name": "trainable_threshold", "alpha": alpha}})


@pytest.mark.parametrize("alpha", ["1", [0.1], {"0.95": "0.1"}])
def test_and_no_list_and_no_text(alpha):
    with pytest.raises(ValueError, match=r"'trainable_threshold': alpha: .* is no number"):
        Prune.model_validate({"during": {"name": "trainable_threshold", "alpha": alpha}})


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"criterion": {"name": "inverted", "of": "magnitud"}}, "unknown criterion 'magnitud'"),
        ({"criterion": {"name": "normalised", "of": {"name": "lp_norm", "q": 1}}}, "lp_norm' 'q'"),
        ({"during": {"name": "gradual", "schedule": "cubic"}}, "unknown schedule 'cubic'"),
        ({"preset": "li-2017"}, "unknown preset 'li-2017'; choose from li-2017-resnet56-a, "),
        (
            {"shuffle": True, "during": "soft"},
            "during: soft chooses them while",
        ),
    ],
)
def test_a_choice_within_a_choice_is_checked_too(row, told):
    with pytest.raises((ValueError, PruningError), match=told):
        Prune.model_validate(row)


def test_a_preset_is_a_row_in_which_settings_may_be_changed():
    row = Prune.model_validate({"preset": "li-2017-resnet56-b", "criterion": "fpgm"})
    assert (row.criterion["name"], row.granularity) == ("fpgm", "filter")
    assert row.allocation["ratios"]["layer1.*.conv1.weight"] == 0.6
    assert not row.has_budget


def test_a_method_from_outside_starts_from_given_masks_if_it_says_so(tmp_path, monkeypatch):
    (tmp_path / "their_training.py").write_text(
        "from pruning.traits import traits\n"
        "@traits('given', 'fixed')\ndef pinned(training): ...\ndef plain(training): ...\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    pinned = Prune.model_validate({"during": "their_training:pinned", "shuffle": True})
    assert not pinned.in_training
    assert Prune.model_validate({"during": "their_training:plain"}).in_training
    with pytest.raises(ValueError, match="chooses them while it trains; use hard, none, rigl, set"):
        Prune.model_validate({"during": "their_training:plain", "shuffle": True})
