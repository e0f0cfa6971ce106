"""What is tried until a forward that holds sizes as numbers runs on fewer channels."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from pruning.coupling.groups import Groups
from pruning.coupling.notes import Reason, Resize
from pruning.coupling.tracks import Flags, varying


class Trial:
    """The groups as they are after each failure, and the modules whose numbers are changed.

    First the whole numbers that the module holds as attributes follow the sizes that they equal;
    where that does not do, what the module reshapes stays.
    """

    def __init__(self, groups: Groups) -> None:
        """Start with nothing changed."""
        self.groups = groups
        self.numbering: set[str] = set()
        self.rigid: set[str] = set()

    def numbered(
        self, modules: Mapping[str, Mapping[str, Any]], going: Flags
    ) -> dict[str, dict[str, Any]]:
        """Return the settings of a plan's modules with the numbers that follow the sizes."""
        found = {path: dict(settings) for path, settings in modules.items()}
        for path in sorted(self.numbering):
            settings = found.setdefault(path, {})
            settings["numbers"] = self._numbers(path, going) | settings.get("numbers", {})
        return found

    def _numbers(self, path: str, going: Flags) -> dict[str, int]:
        sizes: dict[int, set[int]] = {}
        for resize in self._resizes(path):
            kept = ~going[self.groups.classes.label[resize.ids]]
            for dim in varying(resize.ids):
                others = tuple(d for d in range(kept.ndim) if d != dim)
                sizes.setdefault(kept.shape[dim], set()).add(int(kept.any(axis=others).sum()))
        held = self.groups.trace.numbers.get(path, {})
        return {
            name: min(sizes[value])
            for name, value in held.items()
            if sizes.get(value, {value}) != {value} and len(sizes[value]) == 1
        }

    def _resizes(self, path: str | None) -> list[Resize]:
        return [each for each in self.groups.trace.resizes if path in (None, each.module)]

    def yields(self, going: Flags, path: list[str] | None) -> bool:
        """Change what is tried after a failure in these modules; False where nothing is left.

        From the innermost module outwards; everywhere where the failure shows in no module.
        """
        for module in reversed(path) if path is not None else [None]:
            moved = [
                each
                for each in self._resizes(module)
                if going[self.groups.classes.label[each.ids]].any()
            ]
            if not moved:
                continue
            if module is not None and module not in self.numbering | self.rigid:
                self.numbering.add(module)
                if self._numbers(module, going):
                    return True
            self.numbering = self.numbering - {module} if module is not None else set()
            self.rigid |= {each.module for each in moved}
            ids = np.concatenate([each.ids.reshape(-1) for each in moved])
            what = f"{moved[0].operation} to sizes written as numbers"
            self.groups = self.groups.pin(ids, Reason(what, moved[0].module))
            return True
        return False
