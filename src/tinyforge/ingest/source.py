"""Source code of many languages: comments as text, definitions as headings, code as code; Pygments tells them apart."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pygments.lexers import get_lexer_for_filename
from pygments.token import Comment, Name, Operator, Punctuation, String, Whitespace

from tinyforge.errors import InputError
from tinyforge.ingest import text
from tinyforge.ingest.builder import TextBuilder, clean
from tinyforge.ingest.reading import read_text
from tinyforge.records import Document

_DEFINES = frozenset(
    "class struct interface enum trait impl protocol object module namespace package function func fn fun sub def "
    "type record extension mixin macro_rules! table view procedure trigger union".split()
)
_MODIFIERS = frozenset(
    "public private protected internal static final abstract sealed export default async pub const unsafe extern open "
    "override virtual inline data case partial local create or replace temporary declare func def".split()
)
_NAMED_BY_LEXER = frozenset({"C", "C++", "Java", "C#", "Dart"})  # whose functions no keyword announces
_MARKS = re.compile(r"^\s*(?:/\*+!?|\*+/|///?!?|\*|#+'?|--+|;+|%+|<!--|=begin|=end|=pod|=cut)?[ \t]?|\s*\*+/\s*$")
_NOT_PROSE = re.compile(r"#!|eslint|prettier-|clang-format|@ts-|NOLINT|nolint|istanbul|rubocop|-\*-|vim?:|=begin|=end")
_ANNOTATION = re.compile(r"\s*(?:#!?\[|@\w)")
_LONGEST_HEADING = 120
_DEEPEST = 2  # braces around a definition that still has a heading: a namespace and a class


@dataclass
class _Line:
    text: str
    depth: int = 0  # of braces at its start
    comment: bool = False
    heading: str = ""

    @property
    def inside(self) -> bool:
        """Whether it stands inside of a definition, by braces or, where a language has none, by indentation."""
        return self.depth > 0 or self.text[:1].isspace()


def _lines(content: str, tokens: Iterator[tuple[Any, str]], named_by_lexer: bool) -> list[_Line]:
    """The lines of a file with what their tokens make of them."""
    lines = [_Line(line) for line in content.split("\n")]
    number = depth = 0
    parts: list[tuple[Any, str]] = []  # the tokens of the line so far
    for kind, value in tokens:
        for piece in value.splitlines(keepends=True):
            parts.append((kind, piece))
            if kind in Punctuation or kind in Operator:
                depth += piece.count("{") - piece.count("}")
            if piece.endswith("\n"):
                _judge(lines[number], parts, named_by_lexer)
                number, parts = number + 1, []
                lines[min(number, len(lines) - 1)].depth = depth
    _judge(lines[min(number, len(lines) - 1)], parts, named_by_lexer)
    return lines


def _judge(line: _Line, parts: list[tuple[Any, str]], named_by_lexer: bool) -> None:
    said = [(kind, value.strip()) for kind, value in parts if kind not in Whitespace and value.strip()]
    line.comment = bool(parts) and all(_is_comment(kind) for kind, _ in said or parts)
    if line.depth <= _DEEPEST and not line.comment and _defines(said, named_by_lexer):
        line.heading = _heading(line.text)


def _is_comment(kind: Any) -> bool:
    return (kind in Comment and kind not in Comment.Preproc) or kind in String.Doc


def _defines(said: list[tuple[Any, str]], named_by_lexer: bool) -> bool:
    """Whether a line's first words are modifiers, then one that defines, then a name."""
    for place, (kind, value) in enumerate(said):
        word = value.lower()
        if word in _DEFINES:
            after = said[place + 1][1] if place + 1 < len(said) else ""
            return after[:1].isidentifier() or (word, after[:1]) in {("func", "("), ("impl", "<")}
        if named_by_lexer and kind in (Name.Function, Name.Class):
            return place > 0
        if word not in _MODIFIERS and not named_by_lexer:
            return False
    return False


def _heading(line: str) -> str:
    shown = clean(re.split(r"\s*(?:\{|=>|;|//|/\*)", line, maxsplit=1)[0]).rstrip(":=(").rstrip()
    return shown if len(shown) <= _LONGEST_HEADING else shown[:_LONGEST_HEADING].rpartition(" ")[0]


class _Writer:
    """Comments before a definition belong under its heading, as docstrings do."""

    def __init__(self) -> None:
        self.out = TextBuilder()
        self.dropped: Counter[str] = Counter()
        self.code: list[str] = []
        self.comment: list[_Line] = []
        self.annotations: list[str] = []

    def write(self, lines: list[_Line]) -> None:
        for line in lines:
            if line.comment:
                self.comment.append(line)
                continue
            if line.heading:
                self._flush_code()
                self.out.add("heading", line.heading, level=2 + line.inside)
                self._flush_comment()
            elif self.comment and _ANNOTATION.match(line.text):  # between a comment and what it is about
                self.annotations.append(line.text)
                continue
            elif self.comment and self.comment[0].inside:  # a remark amid code: the code stays whole
                self.code += [remark.text for remark in self.comment]
                self.comment = []
            elif self.comment:
                self._flush_code()
                self._flush_comment()
            self.code += [*self.annotations, line.text]
            self.annotations = []
        self._flush_code()
        self._flush_comment()

    def _flush_code(self) -> None:
        self.out.add("code", "\n".join(self.code))
        self.code = []

    def _flush_comment(self) -> None:
        kept = [line.text for line in self.comment if not _NOT_PROSE.search(line.text)]
        if len(kept) < len(self.comment):
            self.dropped["comment for tools"] += len(self.comment) - len(kept)
        text.add_prose("\n".join(_MARKS.sub("", line) for line in kept), self.out)
        self.comment = []


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document under the file's name; metadata: ``language``, ``dropped``."""
    content = read_text(path)
    try:
        lexer = get_lexer_for_filename(path.name, stripnl=False, ensurenl=False)
    except ValueError as error:  # pygments.util.ClassNotFound
        raise InputError(f"{path}: source code of a language that is not known.", "Rename it to .txt.") from error
    writer = _Writer()
    writer.out.add("heading", path.name, level=1)
    writer.write(_lines(content, lexer.get_tokens(content), lexer.name in _NAMED_BY_LEXER))
    metadata = {"path": str(path), "format": "source", "language": lexer.name, "dropped": dict(writer.dropped)}
    yield writer.out.document(source, metadata)
