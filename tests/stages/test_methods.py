"""The list of every choice: whole, true, and quick."""

import subprocess
import sys
from typing import get_args

import pytest

from pruning import PruningError, catalogue
from pruning.granularity import GRANULARITIES, REDUCTIONS
from pruning.presets import PRESETS
from stages import methods
from stages.params import Finetune


def test_every_choice_is_there_with_meaning_source_and_settings():
    for axis in catalogue.AXES:
        text = "\n".join(methods.lines(axis))
        for name, entry in catalogue.entries(axis).items():
            assert f"  {name}  {entry.meaning}" in text
            assert entry.source in text
            for setting in entry.settings:
                assert f" {setting}: " in text
    assert methods.CATALOGUED.keys() == catalogue.AXES.keys()


def test_the_axes_of_names_are_whole():
    assert {*methods.GRANULARITIES} == {*GRANULARITIES, "2:4"}
    assert methods.REDUCTIONS.keys() == REDUCTIONS.keys()
    for field, told in (("weights", methods.WEIGHTS), ("resume", methods.RESUME)):
        assert {*told} == {*get_args(Finetune.model_fields[field].annotation)}
    assert all(f"  {name}  " in "\n".join(methods.lines("preset")) for name in PRESETS)


def test_settings_are_told_as_they_are_written():
    lines = methods.lines("allocation")
    assert "      settings: min_keep: 0, max_sparsity: 1.0" in lines
    assert lines[0] == "allocation: who pays for the budget?"
    assert any("ratios: must be given, rest: 0.0" in line for line in lines)
    assert "      settings: temperature: 200.0, training: true, batches: unset" in (
        methods.lines("criterion")
    )


def test_what_a_choice_says_of_itself_is_told_with_its_meaning():
    assert "      traits: exact, given" in methods.lines("during")
    assert "  exact  ends, where it has a budget, with" in "\n".join(methods.lines("trait"))


def test_one_axis_or_a_refusal():
    assert sum(line.endswith("?") for line in methods.lines()) == len(catalogue.AXES) + 7
    assert sum(line.endswith("?") for line in methods.lines("during")) == 1
    with pytest.raises(PruningError, match="unknown axis 'criteria'; choose from criterion"):
        methods.lines("criteria")


def test_a_reader_that_has_seen_enough_is_no_error():
    command = f"{sys.executable} -m stages.methods | head -1"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True)
    assert done.stdout == "criterion: how much is each piece worth?\n" and not done.stderr


def test_the_list_is_printed_without_torch():
    code = (
        "import runpy, sys; sys.argv = ['methods', '--axis', 'during']\n"
        "try: runpy.run_module('stages.methods', run_name='__main__')\n"
        "except SystemExit as done: assert not done.code\n"
        "assert 'torch' not in sys.modules and 'mlflow' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "gradual  Sparsity rises by a schedule" in done.stdout
