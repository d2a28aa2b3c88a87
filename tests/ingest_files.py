"""Small files of every format made by code, and the checks that every document has to pass."""

from __future__ import annotations

import re
import zlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from tinyforge.records import Block, Document

Text = tuple[float, float, float, str, str]  # x, y, size, "F1" (regular) or "F2" (bold), text


def pdf_bytes(pages: Sequence[Sequence[Text]], extra_trailer: str = "", title: str = "") -> bytes:
    """A PDF with one line of Helvetica at each place; a page without lines holds a picture's worth of nothing."""
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", ""]
    objects += [
        f"<< /Type /Font /Subtype /Type1 /BaseFont /{name} /Encoding /WinAnsiEncoding >>"
        for name in ("Helvetica", "Helvetica-Bold")
    ]
    objects.append(f"<< /Title ({title}) >>")
    kids = []
    for lines in pages:
        shown = "\n".join(
            f"BT /{font} {size} Tf {x} {y} Td ({_escape(text)}) Tj ET" for x, y, size, font, text in lines
        )
        objects.append(f"<< /Length {len(shown.encode('cp1252'))} >>\nstream\n{shown}\nendstream")
        content = len(objects)
        objects.append(
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            f"/Resources << /Font << /F1 3 0 R /F2 4 0 R >> >> /Contents {content} 0 R >>"
        )
        kids.append(f"{len(objects)} 0 R")
    objects[1] = f"<< /Type /Pages /Count {len(kids)} /Kids [{' '.join(kids)}] >>"
    return _assemble(objects, extra_trailer)


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)")


def _assemble(objects: list[str], extra_trailer: str) -> bytes:
    data = b"%PDF-1.4\n"
    offsets = []
    for number, body in enumerate(objects, 1):
        offsets.append(len(data))
        data += f"{number} 0 obj\n{body}\nendobj\n".encode("cp1252")
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    end = f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
    end += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R /Info 5 0 R {extra_trailer} >>\n"
    return data + f"{end}startxref\n{len(data)}\n%%EOF\n".encode()


def encrypted_pdf() -> bytes:
    """A PDF that asks for a password: its /U cannot match the empty one."""
    key = zlib.crc32(b"tinyforge").to_bytes(4, "big").hex() * 8
    trailer = f"/Encrypt << /Filter /Standard /V 1 /R 2 /P -4 /O <{key}> /U <{key}> >> /ID [<00> <00>]"
    return pdf_bytes([[(72, 700, 11, "F1", "secret")]], trailer)


def paragraph_lines(x: float, y: float, lines: Sequence[str], size: float = 11, font: str = "F1") -> list[Text]:
    """Lines of one paragraph, set solid with 1.2 leading."""
    return [(x, y - 1.2 * size * place, size, font, line) for place, line in enumerate(lines)]


def texts(document: Document, kind: str) -> list[str]:
    return [document.slice(block.span) for block in document.blocks if block.kind == kind]


def cells(document: Document) -> list[tuple[str, str, str]]:
    """``(row, label, text)`` of every table cell."""
    return [(b.row, b.label, document.slice(b.span)) for b in document.blocks if b.kind == "table_cell"]


def faults(document: Document) -> list[str]:
    """What is wrong with a document's text and spans; empty for a sound one."""
    found = [] if document.id == Document.identify(document.source, document.text) else ["id"]
    found += [fault for block in document.blocks for fault in _block_faults(document, block)]
    starts = [block.span.start for block in document.blocks]
    if starts != sorted(starts):
        found.append("order")
    end = 0
    row_end = 0
    for block in document.blocks:
        if block.kind == "table_cell":
            if block.span.end > row_end:
                found.append("cell outside of its row")
            continue
        if block.span.start < end:
            found.append("overlap")
        end = block.span.end
        row_end = end if block.kind == "table_row" else 0
    return found


def _block_faults(document: Document, block: Block) -> list[str]:
    if not 0 <= block.span.start < block.span.end <= len(document.text):
        return ["outside the text"]
    text = document.slice(block.span)
    return ["not stripped"] if text != text.strip() else []


_WORD = re.compile(r"[^\W_]+")


def lost_words(shown: str, document: Document) -> Counter[str]:
    """The words of a source that its blocks (not merely its text) do not hold as often."""
    covered = " ".join(document.slice(block.span) for block in document.blocks if block.kind != "table_cell")
    return Counter(_WORD.findall(shown)) - Counter(_WORD.findall(covered))


def write(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path
