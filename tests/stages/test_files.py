"""Folders that a stage finds: other folds, or another network, than its settings ask for."""

from dataclasses import replace

import pytest

from pruning.errors import PruningError
from stages import files
from stages.files import Manifest, output


def of(setting: int) -> Manifest:
    return Manifest("tiny", "finetune", "row", 1, range(2), {"setting": setting}, {})


@pytest.mark.parametrize(("setting", "there"), [(1, ["fold-0", "fold-1"]), (2, ["fold-1"])])
def test_the_other_folds_stay_only_where_settings_and_inputs_are_theirs(tmp_path, setting, there):
    folder = tmp_path / "tuned"
    with output(folder, of(1)) as whole:
        (whole / "fold-0").mkdir()
        (whole / "fold-1").mkdir()
    with output(folder, of(setting), only=1) as whole:
        (whole / "fold-1").mkdir()
    assert sorted(path.name for path in folder.glob("fold-*")) == there


def test_what_was_exported_of_a_round_that_is_no_more_is_refused_with_those_there_are(tiny):
    from stages import gains

    folder = files.exported("row")
    with output(folder, replace(of(1), stage="export", round=3, params={"fold": 0})):
        pass
    with pytest.raises(PruningError, match="unknown round 3; choose from 1 to 2"):
        gains.exported_place(tiny.params(), "row")
