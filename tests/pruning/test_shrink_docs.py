"""The page on shrinking: its code runs."""

import re
from pathlib import Path
from typing import Any

PAGE = (Path(__file__).parents[2] / "docs" / "shrinking.md").read_text(encoding="utf-8")


def test_the_python_of_the_page_runs():
    scope: dict[str, Any] = {}
    for block in re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL):
        exec(compile(block, "shrinking.md", "exec"), scope)
