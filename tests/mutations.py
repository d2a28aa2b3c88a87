"""Damaged and hostile files made from good ones, the same for the same seed; and what reading them must not touch."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import zipfile
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

from hostile import laughs, listing, outside_file, overlapping_zip, replaced_part, tar_bytes, tar_link, zip_bytes
from ingest_files import faults, pdf_bytes
from tinyforge.config import IngestConfig
from tinyforge.ingest import FORMATS, read_sources

GOOD = "A good file beside the others."
_W = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_SUFFIXES = sorted({*FORMATS, ".zip", ".tar.gz", ".tgz", ".tar", ".xyz", ""})


def _flipped(data: bytes, rng: random.Random) -> bytes:
    out = bytearray(data)
    for _ in range(rng.choice((1, 4, 64))):
        out[rng.randrange(len(out))] ^= 1 << rng.randrange(8)
    return bytes(out)


def _cut(data: bytes, rng: random.Random) -> bytes:
    return data[: rng.randrange(1, len(data) + 1)]


def _spliced(data: bytes, rng: random.Random) -> bytes:
    """A piece removed, repeated, or overwritten with zeros, noise, or a large number."""
    start = rng.randrange(len(data))
    piece = data[start : start + rng.randrange(1, 400)]
    noise = rng.randbytes(len(piece))
    new = rng.choice((b"", piece * rng.choice((2, 50)), bytes(len(piece)), noise, b"\xff\xff\xff\x7f"))
    return data[:start] + new + data[start + len(piece) :]


def _same(data: bytes, rng: random.Random) -> bytes:
    return data


MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (_flipped, _flipped, _cut, _spliced, _same)


def mutated(
    samples: Sequence[tuple[str, bytes]], count: int, seed: int, with_bombs: bool = True
) -> Iterator[tuple[str, bytes]]:
    """``count`` files: samples in turn with one mutation each, some with another's extension; every 25th a bomb."""
    rng = random.Random(seed)
    made = bombs() if with_bombs else []
    for number in range(count):
        if made and number % 25 == 24:
            name, data = made[number // 25 % len(made)]
            yield f"{number:05}-{name}", data
            continue
        name, data = samples[number % len(samples)]
        mutation = rng.choice(MUTATIONS)
        suffix = Path(name).suffix
        if mutation is _same or rng.random() < 0.15:
            suffix = rng.choice(_SUFFIXES)
        yield f"{number:05}-{Path(name).stem}{suffix}", mutation(data, rng)


def _docx(body: str) -> bytes:
    import docx

    buffer = io.BytesIO()
    document = docx.Document()
    document.add_paragraph("A paragraph.")
    document.save(buffer)
    return replaced_part(buffer.getvalue(), "word/document.xml", body)


def _document(inner: str) -> str:
    return f'<w:document xmlns:w="{_W}"><w:body>{inner}</w:body></w:document>'


def bombs() -> list[tuple[str, bytes]]:
    """Small files that ask for a lot: of text, of depth, of memory, of time, or of what is not theirs."""
    paragraph = _document("<w:p><w:r><w:t>@</w:t></w:r></w:p>")
    deep = _document("<w:p>" + "<w:smartTag>" * 5000 + "</w:smartTag>" * 5000 + "</w:p>")
    evil = {"../../evil.md": "x", "/tmp/evil.md": "x", "fine.md": "fine"}
    links = (tar_link("l.md", "../../../etc/passwd"), tar_link("h.md", "/etc/passwd", tarfile.LNKTYPE))
    sparse = tarfile.TarInfo("huge.md")
    sparse.size = 0
    nested = zip_bytes({"a.md": "inner"})
    for _ in range(8):
        nested = zip_bytes({"a.zip": nested})
    pdf = pdf_bytes([[(72, 700, 11, "F1", "Some text")]])
    return [
        ("laughs.docx", _docx(laughs(paragraph))),
        ("outside.docx", _docx(outside_file(paragraph))),
        ("deep.docx", _docx(deep)),
        ("wide.docx", _docx(_document("<w:p/>" * 400_000))),
        ("laughs.html", laughs("<html><body><p>@</p></body></html>").encode()),
        ("laughs.xhtml.html", outside_file("<html><body><p>@</p></body></html>").encode()),
        ("deep.html", b"<div>" * 100_000),
        ("deep-inline.html", b"<p>" + b"<b><i>" * 20_000 + b"x"),
        ("deep-list.html", b"<ul><li>" * 20_000),
        ("deep-table.html", b"<table><tr><td>" * 3000),
        ("spans.html", b'<table><tr><td colspan="9999999" rowspan="9999999">x</td></tr></table>'),
        ("deep.md", b">" * 200_000 + b" x"),
        ("deep-list.md", b"\n".join(b" " * 2 * n + b"- x" for n in range(1500))),
        ("brackets.md", b"[" * 100_000),
        ("images.md", b"![" * 2000 + b"x" + b"](y)" * 2000),
        ("stars.md", b"*a _b " * 30_000),
        ("comments.md", b"a <!-- " * 30_000),
        ("ticks.md", b"`".join(b"`" * n for n in range(1, 1200))),
        ("deep.json", b"[" * 200_000 + b"]" * 200_000),
        ("deep-objects.json", b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
        ("number.json", b'{"a": ' + b"9" * 200_000 + b"}"),
        ("deep.ipynb", json.dumps({"cells": []}).encode().replace(b"[]", b"[" * 50_000 + b"]" * 50_000)),
        ("field.csv", b'a,b\n"' + b"x" * 3_000_000),
        ("columns.csv", b"," * 1_000_000 + b"\n1"),
        ("deep.py", b"(" * 50_000),
        ("deep.rst", b"\n".join(b" " * n + b"* x" for n in range(800))),
        ("entities.yaml.md", b"---\na: &a [x, x]\nb: &b [*a, *a]\nc: &c [*b, *b]\n---\n\ntext\n"),
        ("aliases.md", _yaml_laughs()),
        ("steep.zip", zip_bytes({"steep.md": b" " * 30_000_000, "fine.md": "fine"})),
        ("overlap.zip", overlapping_zip()),
        ("evil.zip", zip_bytes(evil)),
        ("link.zip", zip_bytes({"link.md": "/etc/passwd"}, links=("link.md",))),
        ("nested.zip", nested),
        ("many.zip", zip_bytes({f"{n}.png": "" for n in range(5000)})),
        ("steep.docx", zip_bytes({"[Content_Types].xml": " " * 30_000_000, "word/document.xml": " " * 30_000_000})),
        ("evil.tgz", tar_bytes(evil, links)),
        ("steep.tgz", gzip.compress(bytes(50_000_000))),
        ("pax.tar", _huge_header()),
        ("deep.pdf", pdf.replace(b"/Catalog", b"/Catalog /X " + b"[" * 50_000 + b"]" * 50_000)),
        ("pages.pdf", pdf.replace(b"/Count 1", b"/Count 99999999")),
        ("loop.pdf", pdf.replace(b"/Kids [7 0 R]", b"/Kids [2 0 R]")),
    ]


def _yaml_laughs() -> bytes:
    names = "abcdefghijklmnop"
    lines = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"{n}: &{n} [{', '.join([f'*{m}'] * 9)}]" for m, n in pairwise(names)]
    return ("---\n" + "\n".join(lines) + f"\ntitle: *{names[-1]}\n---\n\ntext\n").encode()


def _huge_header() -> bytes:
    """A tar whose extended header claims to be eight gigabytes long."""
    info = tarfile.TarInfo("a.md")
    info.type = tarfile.XHDTYPE
    info.size = 8 * 2**30
    return info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)


def problems(work: Path, files: Sequence[tuple[str, bytes]], config: IngestConfig) -> list[str]:
    """Read the files and a good one beside them; what was not as it has to be, in words.

    ``work`` is a folder that also holds the process's temporary files, so that whatever is written shows.
    """
    folder = work / "in"
    folder.mkdir(exist_ok=True)
    for old in folder.iterdir():
        old.unlink()
    (folder / "good.md").write_text(GOOD)
    for name, data in files:
        (folder / name).write_bytes(data)
    before = listing(work)
    result = read_sources([folder], config)
    found = [] if listing(work) == before else ["a file was written or changed"]
    if GOOD not in [document.text for document in result.documents]:
        found.append("the good file was not read")
    told = {Path(str(d.metadata["path"])).relative_to(folder).parts[0] for d in result.documents}
    told |= {Path(skip.path).relative_to(folder).parts[0] for skip in result.skipped}
    found += [f"{name}: neither read nor said why not" for name, _ in files if name not in told]
    found += [f"{d.source}: {fault}" for d in result.documents for fault in faults(d)]
    found += [f"{s.path}: {s.reason!r} {s.fix!r}" for s in result.skipped if not s.fix or "\n" in s.reason]
    return found


def zipped(samples: Sequence[tuple[str, bytes]]) -> bytes:
    """The samples as one archive, to be damaged as well."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in samples:
            archive.writestr(f"inner/{name}", data)
    return buffer.getvalue()
