"""docs/export.md: its settings are valid, its commands exist, and its Python runs."""

import re
from pathlib import Path

import yaml

from stages.params import read

ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "export.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_settings_are_valid(tmp_path):
    (text,) = blocks("yaml")
    params = yaml.safe_load((ROOT / "params.yaml").read_text()) | yaml.safe_load(text)
    path = tmp_path / "params.yaml"
    path.write_text(yaml.safe_dump(params))
    found = read(path)
    assert found.export == ["groups"]
    assert found.method("groups").prune.round_to == 8


def test_its_python_reads_what_export_writes(inside, exported):
    reading, _ = blocks("python")
    assert exported == inside.folder / "exports/groups/handed-on"
    exec(compile(reading, "export.md", "exec"), {})


def test_its_python_shrinks_and_exports_a_network_of_yours(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    _, by_hand = blocks("python")
    exec(compile(by_hand, "export.md", "exec"), {})
    assert {path.name for path in tmp_path.iterdir()} == {"smaller.pt2", "smaller.onnx"}


def test_the_table_lists_what_is_written(exported):
    written = {path.name for path in exported.iterdir()} - {"manifest.json"}
    listed = set(re.findall(r"`([\w.]+)/?`", PAGE))
    assert written <= listed
