"""Python source: a heading per class and function, docstrings and comments as text, the code as code."""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

from tinyforge.errors import InputError
from tinyforge.ingest import text
from tinyforge.ingest.builder import TextBuilder, clean
from tinyforge.ingest.reading import read_text
from tinyforge.records import Document

_Definition = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
_COMMENT = re.compile(r"\s*#+:?\s?")
_NOT_PROSE = re.compile(r"#!|#\s*-\*-|#\s*(?:noqa|type:|pylint:|pragma|fmt:|ruff:|mypy:|isort:)")


class _Reader:
    def __init__(self, source: str) -> None:
        self.out = TextBuilder()
        self.lines = source.split("\n")
        self.comments = _comment_lines(source)
        self.dropped = 0

    def body(self, body: Sequence[ast.stmt], first: int, last: int, level: int) -> None:
        """What lines ``first`` to ``last`` (from 1) hold: the docstring, then definitions and what stands between."""
        place = first
        for number, statement in enumerate(body):
            if number == 0 and (said := _docstring(statement)) is not None:
                self._between(place, statement.lineno - 1)
                text.add_prose(said, self.out)
            elif isinstance(statement, _Definition):
                self._between(place, _start(statement) - 1)
                self._definition(statement, level)
            else:
                continue
            place = (statement.end_lineno or statement.lineno) + 1
        self._between(place, last)

    def _definition(self, node: _Definition, level: int) -> None:
        inside = node.body[0]
        head = "\n".join(self.lines[node.lineno - 1 : max(_start(inside) - 1, node.lineno)])
        self.out.add("heading", _signature(head), level=min(level, 6))
        end = node.end_lineno or node.lineno
        if isinstance(node, ast.ClassDef):
            self._between(_start(node), node.lineno - 1)
            self.body(node.body, max(inside.lineno, node.lineno + 1), end, level + 1)
            return
        said = _docstring(inside)
        if said is not None:
            text.add_prose(said, self.out)
        self._code(self._without(_start(node), end, inside if said is not None else None))

    def _without(self, first: int, last: int, left_out: ast.stmt | None) -> list[str]:
        if left_out is None:
            return self.lines[first - 1 : last]
        after = left_out.end_lineno or left_out.lineno
        return self.lines[first - 1 : left_out.lineno - 1] + self.lines[after:last]

    def _between(self, first: int, last: int) -> None:
        """Lines between definitions: blocks of comments are paragraphs, the rest is code."""
        run: list[str] = []
        is_comment = False
        for number in range(first, last + 1):
            line = self.lines[number - 1]
            if line.strip() and (number in self.comments) != is_comment:
                self._close(run, is_comment)
                run, is_comment = [], number in self.comments
            run.append(line)
        self._close(run, is_comment)

    def _close(self, run: list[str], is_comment: bool) -> None:
        if not is_comment:
            self._code(run)
            return
        marked = [line for line in run if _NOT_PROSE.match(line.strip())]
        self.dropped += len(marked)
        text.add_prose("\n".join(_COMMENT.sub("", line) for line in run if line not in marked), self.out)

    def _code(self, lines: Sequence[str]) -> None:
        self.out.add("code", "\n".join(lines))


def _docstring(statement: ast.stmt) -> str | None:
    if not isinstance(statement, ast.Expr) or not isinstance(statement.value, ast.Constant):
        return None
    value = statement.value.value
    return value if isinstance(value, str) else None


def _start(node: ast.stmt) -> int:
    """The first line of a statement, its decorators included."""
    decorators: list[ast.expr] = getattr(node, "decorator_list", [])
    return min([node.lineno, *(decorator.lineno for decorator in decorators)])


def _signature(head: str) -> str:
    """``def area(radius)`` out of the lines up to the body; a body on the same line is cut off."""
    depth = 0
    for place, sign in enumerate(head):
        depth += (sign in "([{") - (sign in ")]}")
        if sign == ":" and depth == 0:
            return re.sub(r"([(\[])\s+|,?\s+([)\]])", r"\1\2", clean(head[:place]))
    return clean(head)


def _comment_lines(source: str) -> set[int]:
    """The lines that hold nothing but a comment."""
    found: set[int] = set()
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT and not token.line[: token.start[1]].strip():
            found.add(token.start[0])
    return found


def parse(path: Path, source: str) -> Iterator[Document]:
    """One Document under the file's name; metadata: ``dropped``, comments that speak to tools rather than to people.

    Raises InputError, with the line, for a file that is not Python 3.
    """
    content = read_text(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SyntaxWarning)  # about the code's own escapes
            tree = ast.parse(content)
        reader = _Reader(content)
    except (SyntaxError, tokenize.TokenError, ValueError) as error:
        line = f"line {error.lineno}: " if isinstance(error, SyntaxError) and error.lineno else ""
        told = error.msg if isinstance(error, SyntaxError) else error
        raise InputError(f"{path}: {line}not Python 3 ({told}).", "Correct it, or rename it to .txt.") from error
    reader.out.add("heading", path.name, level=1)
    reader.body(tree.body, 1, len(reader.lines), 2)
    metadata = {"path": str(path), "format": "python"}
    dropped = {"comment for tools": reader.dropped} if reader.dropped else {}
    yield reader.out.document(source, {**metadata, "dropped": dropped})
