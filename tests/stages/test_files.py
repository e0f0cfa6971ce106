"""One fold computed alone: the others stay only where they were made alike."""

import pytest

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
