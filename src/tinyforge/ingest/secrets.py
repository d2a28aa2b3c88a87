"""Values from the environment: ``{NAME}`` stands for one where a person types it, and in all that is shown or kept."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from tinyforge.errors import InputError

_NAMED = re.compile(r"\{([A-Z_][A-Z0-9_]*)\}")
_SHORTEST = 4  # characters; a shorter value stands in ordinary words too


class Secrets:
    """The values that were filled in so far, to be taken out again of what is shown."""

    def __init__(self, environment: Mapping[str, str] | None = None) -> None:
        self._environment = os.environ if environment is None else environment
        self._names: dict[str, str] = {}

    def fill(self, text: str) -> str:
        """``text`` with the values of the variables that it names. Raises InputError for one that is not set."""

        def value(found: re.Match[str]) -> str:
            given = self._environment.get(found[1], "")
            if not given:
                raise InputError(f"{text}: the environment has no {found[1]}.", f"Set it: export {found[1]}=...")
            if len(given) >= _SHORTEST:
                self._names[given] = f"{{{found[1]}}}"
            return given

        return _NAMED.sub(value, text)

    def hide(self, text: str) -> str:
        """``text`` with the name of the variable for every value that was filled in, the longest first."""
        for value in sorted(self._names, key=len, reverse=True):
            text = text.replace(value, self._names[value])
        return text

    def reveal(self, text: str) -> str:
        """The opposite of ``hide``; names of other variables, which a server may have written, stay as they are."""
        for value, name in self._names.items():
            text = text.replace(name, value)
        return text

    @property
    def used(self) -> bool:
        return bool(self._names)
