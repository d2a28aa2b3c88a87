"""The same stand-in for the same person or secret, over reruns and files, without keeping what it stands for.

``.pseudonyms.json`` beside the data holds a random key and, for each thing, an HMAC-SHA256 with that key and a number.
Without the file nobody can tell who is who; with it, a guess can be checked. It belongs in no export.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import IO, Any

from tinyforge.run import read_json, write_atomic

FILE = ".pseudonyms.json"
PERSON = "PERSON"


def canonical(kind: str, value: str) -> str:
    """One spelling for one thing: digits of a number, names and addresses in small letters without spaces around."""
    value = value.strip()
    if kind == "PHONE":
        digits = "".join(char for char in value if char.isdigit())
        return digits.removeprefix("00") if value.startswith("00") else digits
    if kind in ("IBAN", "CARD"):
        return "".join(char for char in value if char.isalnum()).upper()
    return value if kind in ("SECRET", "CREDENTIALS") else " ".join(value.casefold().split())


class Pseudonyms:
    """The stand-ins that were given in one folder. :meth:`save` keeps them; nothing is written before."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / FILE
        found: dict[str, Any] = read_json(self.path) if self.path.exists() else {}
        self._key = bytes.fromhex(found["key"]) if found else secrets.token_bytes(32)
        self._numbers: dict[str, dict[str, int]] = found.get("numbers", {})
        self._removed: set[str] = set(found.get("removed", ()))

    def _mark(self, kind: str, value: str) -> str:
        return hmac.new(self._key, f"{kind}\0{canonical(kind, value)}".encode(), hashlib.sha256).hexdigest()

    def of(self, kind: str, value: str) -> str:
        """``<EMAIL-2>`` for the second address that was met, and so on for each kind."""
        numbers = self._numbers.setdefault(kind, {})
        number = numbers.setdefault(self._mark(kind, value), len(set(numbers.values())) + 1)
        return f"<{kind}-{number}>"

    def person(self, names: Sequence[str], taken: Collection[str] = ()) -> str:
        """``Person-3`` for somebody under any of these names, the surest first; what is free of them is theirs now.

        A stand-in in ``taken`` is somebody else's, who goes by the same name.
        """
        numbers = self._numbers.setdefault(PERSON, {})
        marks = [self._mark(PERSON, name) for name in names]
        known = (numbers[mark] for mark in marks if mark in numbers)
        number = next((n for n in known if f"Person-{n}" not in taken), max(numbers.values(), default=0) + 1)
        for mark in marks:
            numbers.setdefault(mark, number)
        return f"Person-{number}"

    def known(self, name: str) -> str:
        """The stand-in of somebody who was met under this name, or an empty string."""
        number = self._numbers.get(PERSON, {}).get(self._mark(PERSON, name))
        return f"Person-{number}" if number else ""

    def remove(self, stand_in: str) -> None:
        """Somebody who is to stay out of whatever is converted into this folder from now on."""
        self._removed.add(stand_in)

    def removed(self, names: Sequence[str]) -> bool:
        return any(self.known(name) in self._removed for name in names)

    def save(self) -> None:
        """Write the file, readable for its owner alone."""
        data = {"key": self._key.hex(), "numbers": self._numbers, "removed": sorted(self._removed)}

        def write(handle: IO[bytes]) -> None:
            os.fchmod(handle.fileno(), 0o600)
            handle.write(json.dumps(data, indent=1).encode() + b"\n")

        write_atomic(self.path, write)
