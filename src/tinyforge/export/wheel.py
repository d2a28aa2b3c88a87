"""TinyForge itself as a wheel, made of what is installed here, so that a service does not hang on an index having it.

The format is that of the packaging standards (PEP 427); the same installation gives the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import zipfile
from collections.abc import Iterator
from importlib.metadata import distribution
from pathlib import Path

import tinyforge
from tinyforge.errors import InputError

NAME = "tinyforgeai"
KIND = "Wheel-Version: 1.0\nGenerator: tinyforge\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


def write_wheel(folder: Path) -> Path:
    """The wheel in ``folder``. Raises InputError when the installation does not say what it is."""
    found = distribution(NAME)
    stem = f"{NAME}-{found.version}"
    path, listed = folder / f"{stem}-py3-none-any.whl", []
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in (*_code(), *_about(f"{stem}.dist-info")):
            archive.writestr(_entry(name), data)
            digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
            listed.append(f"{name},sha256={digest},{len(data)}")
        record = f"{stem}.dist-info/RECORD"
        archive.writestr(_entry(record), "\n".join([*listed, f"{record},,", ""]))
    return path


def _code() -> Iterator[tuple[str, bytes]]:
    package = Path(tinyforge.__file__).parent
    for path in sorted(package.rglob("*")):
        if path.is_file() and "__pycache__" not in path.parts:
            yield f"tinyforge/{path.relative_to(package).as_posix()}", path.read_bytes()


def _about(folder: str) -> Iterator[tuple[str, bytes]]:
    found = distribution(NAME)
    for name in ("METADATA", "entry_points.txt"):
        text = found.read_text(name)
        if text is None:
            raise InputError(f"the installation of {NAME} has no {name}.", "Install it again with pip.")
        yield f"{folder}/{name}", text.encode()
    yield f"{folder}/WHEEL", KIND.encode()
    licence = found.read_text("licenses/LICENSE")
    if licence is not None:
        yield f"{folder}/licenses/LICENSE", licence.encode()


def _entry(name: str) -> zipfile.ZipInfo:
    entry = zipfile.ZipInfo(name)
    entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return entry
