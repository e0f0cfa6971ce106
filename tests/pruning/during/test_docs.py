import re
from pathlib import Path
from typing import Any

import yaml

from pruning import catalogue

PAGE = (Path(__file__).parents[3] / "docs" / "training_methods.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", PAGE, flags=re.DOTALL)


def test_the_python_of_the_page_runs() -> None:
    scope: dict[str, Any] = {}
    for block in blocks("python"):
        exec(compile(block, "training_methods.md", "exec"), scope)


def test_the_rows_of_the_page_are_choices() -> None:
    (text,) = blocks("yaml")
    for row in yaml.safe_load(text)["methods"].values():
        for axis in ("criterion", "allocation", "during"):
            choice = row["prune"].get(axis, [])
            settings = {"name": choice} if isinstance(choice, str) else dict(choice)
            if settings:
                catalogue.check(axis, settings.pop("name"), settings)


def test_the_table_lists_every_method() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    assert sorted(listed) == sorted(catalogue.entries("during"))
