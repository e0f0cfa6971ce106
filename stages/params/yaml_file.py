"""Read a YAML file as DVC reads it, so that both see the same settings."""

import re
from pathlib import Path
from typing import Any

import yaml

from pruning.errors import PruningError


class _Loader(yaml.SafeLoader):
    """YAML 1.2 numbers, 1e-4 one of them and 2:4 none, and no key twice; nothing is executed."""

    def construct_mapping(self, node: Any, deep: bool = False) -> dict[Any, Any]:
        keys = [key for key, _ in node.value if isinstance(key, yaml.ScalarNode)]
        seen = set()
        for key in keys:
            if key.value in seen:
                problem = f"the key {key.value!r} is there twice"
                raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_INT = r"[-+]?(?:0|[1-9]\d*)"
_FLOAT = (
    r"[-+]?(?:\d+\.\d*|\.\d+|\d+(?=[eE]))(?:[eE][-+]?\d+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, test) for tag, test in tests if not tag.endswith((":int", ":float"))]
    for first, tests in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
for _tag, _numbers in (("int", _INT), ("float", _FLOAT)):
    _Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"(?:{_numbers})$"), list("-+.0123456789")
    )


def read_mapping(path: Path) -> dict[str, Any]:
    """Return the mapping in a YAML file; raises `PruningError` with one line on what is wrong."""
    try:
        found = yaml.load(path.read_text(encoding="utf-8"), _Loader)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise PruningError(f"{path}: cannot be read: {' '.join(str(error).split())}") from None
    if not isinstance(found, dict):
        raise PruningError(f"{path}: not a mapping of settings")
    return found
