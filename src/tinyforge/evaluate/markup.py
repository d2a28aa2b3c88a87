"""Build HTML in which text is escaped unless it was built here: what documents and models say never becomes markup."""

from __future__ import annotations

from html import escape

_VOID = ("meta", "br", "hr")


class Markup(str):
    """Text that is HTML already. Only this module's functions and the chart renderer make it."""

    __slots__ = ()


def tag(name: str, /, *content: object, **attributes: str) -> Markup:
    """One element. Content that is not Markup is escaped; ``class_`` stands for class, ``a_b`` for a-b."""
    given = "".join(
        f' {key.strip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items() if value
    )
    if name in _VOID:
        return Markup(f"<{name}{given}>")
    return Markup(f"<{name}{given}>{join(*content)}</{name}>")


def join(*content: object) -> Markup:
    """The pieces one after the other; what is not Markup is escaped."""
    return Markup("".join(part if isinstance(part, Markup) else escape(str(part)) for part in content))


def table(head: list[object], rows: list[list[object]], class_: str = "") -> Markup:
    """A table that scrolls within its own box when it is wider than the page; the first cell of a row names it."""
    top = tag("tr", *(tag("th", cell, scope="col") for cell in head))
    body = [tag("tr", tag("th", row[0], scope="row"), *(tag("td", cell) for cell in row[1:])) for row in rows]
    return tag(
        "div", tag("table", tag("thead", top), tag("tbody", *body), class_=class_), class_="scroll", tabindex="0"
    )


def details(summary: object, *content: object) -> Markup:
    """A list folded away behind its summary."""
    return tag("details", tag("summary", summary), *content)


def facts(pairs: list[tuple[str, object]], class_: str = "") -> Markup:
    """Names and values, one pair a line."""
    return tag("dl", *(tag("div", tag("dt", name), tag("dd", value)) for name, value in pairs), class_=class_)
