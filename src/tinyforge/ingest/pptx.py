"""PPTX: a heading per slide, its text in reading order, lists, tables, the numbers of charts, the speaker's notes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tinyforge.ingest.builder import TextBuilder, clean, guess_header_rows
from tinyforge.ingest.package import check_package, damaged, opening_errors
from tinyforge.ingest.pptx_shapes import (
    chart_grid,
    furniture,
    in_order,
    key_of,
    kind_of,
    marker,
    repeated,
    table_grid,
    text_of,
)
from tinyforge.records import Document

_TITLES = frozenset({"TITLE", "CENTER_TITLE", "VERTICAL_TITLE"})
_LONGEST_TITLE = 120


class _Reader:
    def __init__(self, repeats: set[tuple[str, int]]) -> None:
        self.out = TextBuilder()
        self.dropped: Counter[str] = Counter()
        self.repeats = repeats
        self.depth = 1

    def slide(self, slide: Any, number: int) -> None:
        """Append a slide; one without a title goes on under the heading before it."""
        shapes = [shape for shape in in_order(slide.shapes) if not self._is_furniture(shape)]
        titled = next((s for s in shapes if kind_of(s) in _TITLES and s.text_frame.text.strip()), None)
        titled = titled or self._first_line(shapes)
        if titled is not None:
            self.out.add("heading", titled.text_frame.text, level=self.depth)
            if number == 1 and kind_of(titled) == "CENTER_TITLE":
                self.depth = 2  # a title slide: the others lie under it
        for shape in shapes:
            if shape is not titled:
                self._shape(shape)
        self._notes(slide)

    def _is_furniture(self, shape: Any) -> bool:
        reason = furniture(shape)
        if not reason and shape.has_text_frame and not shape.is_placeholder and key_of(shape) in self.repeats:
            reason = "text repeated on slides"
        if reason and shape.has_text_frame and shape.text_frame.text.strip():
            self.dropped[reason] += 1
        return bool(reason)

    def _first_line(self, shapes: list[Any]) -> Any:
        """The topmost text where it is one short line: the heading of a slide that was laid out by hand."""
        first = next((shape for shape in shapes if shape.has_text_frame and shape.text_frame.text.strip()), None)
        said = "" if first is None else clean(first.text_frame.text)
        if first is None or len(said) > _LONGEST_TITLE or said[-1] in ".,;:!":
            return None
        return first if len([p for p in first.text_frame.paragraphs if p.text.strip()]) == 1 else None

    def _shape(self, shape: Any) -> None:
        if shape.has_text_frame:
            self._paragraphs(shape)
        elif getattr(shape, "has_table", False):
            grid, written, header_rows = table_grid(shape.table)
            self.out.table(grid, guess_header_rows(grid) if header_rows is None else header_rows, written)
        elif getattr(shape, "has_chart", False):
            self._chart(shape.chart)
        else:
            self.dropped[_name(shape)] += 1

    def _paragraphs(self, shape: Any) -> None:
        number = 0
        for paragraph in shape.text_frame.paragraphs:
            mark = marker(paragraph, shape)
            if not mark:
                self.out.add("paragraph", text_of(paragraph))
                continue
            number += mark == "1. " and paragraph.level == 0
            shown = f"{number}. " if mark == "1. " and paragraph.level == 0 else mark
            self.out.add("list_item", text_of(paragraph), level=paragraph.level, marker=shown)

    def _chart(self, chart: Any) -> None:
        if chart.has_title and chart.chart_title.has_text_frame:
            self.out.add("paragraph", chart.chart_title.text_frame.text)
        try:
            grid = chart_grid(chart)
        except (ValueError, KeyError, AttributeError):  # a kind of chart that the library does not know
            self.dropped["chart"] += 1
            return
        if len({len(row) for row in grid}) == 1:
            self.out.table(grid, header_rows=1)

    def _notes(self, slide: Any) -> None:
        if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
            for paragraph in slide.notes_slide.notes_text_frame.paragraphs:
                self.out.add("paragraph", text_of(paragraph))


def _name(shape: Any) -> str:
    """What a shape without text is counted as: "picture", "media", "line", "diagram"."""
    kind = shape.shape_type
    return "diagram" if kind is None else str(kind.name).lower().replace("_", " ")


def _is_shown(slide: Any) -> bool:
    return slide._element.get("show") not in {"0", "false"}


def _open(path: Path) -> Any:
    import pptx
    from pptx.exc import PackageNotFoundError

    check_package(path, ".pptx", "ppt/presentation")
    try:
        return pptx.Presentation(str(path))
    except opening_errors(PackageNotFoundError, ValueError) as error:
        raise damaged(path, ".pptx", error) from error


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document; metadata: ``title``, ``pages`` (slides), ``page_starts`` (offsets), ``dropped`` by reason.

    Raises InputError for a damaged or protected file.
    """
    presentation = _open(path)
    reader = _Reader(repeated(slide.shapes for slide in presentation.slides if _is_shown(slide)))
    starts: list[int] = []
    for number, slide in enumerate(presentation.slides, 1):
        starts.append(reader.out.length)
        if _is_shown(slide):
            reader.slide(slide, number)
        else:
            reader.dropped["hidden slide"] += 1
    metadata: dict[str, Any] = {"path": str(path), "format": "pptx", "pages": len(starts), "page_starts": starts}
    metadata["dropped"] = {reason: count for reason, count in sorted(reader.dropped.items()) if count}
    title = str(presentation.core_properties.title or "").strip()
    if title and title != "PowerPoint Presentation":
        metadata["title"] = title
    yield reader.out.document(source, metadata)
