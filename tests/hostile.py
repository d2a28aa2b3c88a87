"""Functions that misbehave, for workers to call, and the archives and XML that mean harm, made by code."""

from __future__ import annotations

import ctypes
import io
import os
import signal
import tarfile
import time
import zipfile
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path


def echo(value: object) -> object:
    return value


def slow(seconds: float) -> str:
    time.sleep(seconds)
    return "awake"


def spin() -> None:
    while True:
        pass


def hoard(megabytes: int) -> int:
    return len(bytearray(megabytes * 1_000_000))


def hoard_slowly(megabytes: int) -> int:
    held = []
    for _ in range(megabytes):
        held.append(b"\1" * 1_000_000)
        time.sleep(0.002)
    return len(held)


def crash() -> None:
    ctypes.string_at(0)


def leave() -> None:
    os._exit(3)


def kill_itself() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def recurse(depth: int = 0) -> int:
    return recurse(depth + 1)


def much(megabytes: int) -> str:
    return "x" * (megabytes * 1_000_000)


def who() -> int:
    return os.getpid()


def zip_bytes(members: Mapping[str, str | bytes], links: tuple[str, ...] = ()) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (2024, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = (0o120777 if name in links else 0o100644) << 16
            archive.writestr(info, content)
    return buffer.getvalue()


def tar_bytes(members: Mapping[str, str | bytes], extra: tuple[tarfile.TarInfo, ...] = (), mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:  # type: ignore[call-overload]
        for name, content in members.items():
            data = content.encode() if isinstance(content, str) else content
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
        for info in extra:
            archive.addfile(info)
    return buffer.getvalue()


def tar_link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type = kind
    info.linkname = target
    return info


def overlapping_zip() -> bytes:
    """Two directory entries over the same stored bytes, after Fifield's construction (USENIX WOOT 2019)."""
    data = zip_bytes({"a.md": "x" * 4000, "b.md": "y" * 4000})
    directory = data.index(b"PK\1\2")
    second = data.index(b"PK\1\2", directory + 4)
    first_offset = data[directory + 42 : directory + 46]
    return data[: second + 42] + first_offset + data[second + 46 :]


def laughs(root: str) -> str:
    """A document whose text is nine levels of ten references: a billion laughs."""
    names = "abcdefghi"
    defined = '<!ENTITY a "ha">' + "".join(f'<!ENTITY {name} "{f"&{inner};" * 10}">' for inner, name in pairwise(names))
    return f'<?xml version="1.0"?><!DOCTYPE x [{defined}]>{root.replace("@", "&i;")}'


def outside_file(root: str) -> str:
    """A document whose text is to be a file of this machine."""
    return f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY i SYSTEM "file:///etc/passwd">]>{root.replace("@", "&i;")}'


def replaced_part(package: bytes, part: str, content: str) -> bytes:
    """A zip-based document with one of its parts replaced."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(package)) as old, zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as new:
        for info in old.infolist():
            new.writestr(info.filename, content if info.filename == part else old.read(info))
    return buffer.getvalue()


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and what it holds."""
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


def parse_forever(path: Path, source: str) -> None:
    spin()


def parse_into_memory(path: Path, source: str) -> None:
    hoard(900)
