"""One self-contained HTML page: the house style, light and dark, phone and print. No script, no request to anywhere."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.resources import files

from tinyforge.evaluate.markup import Markup, tag

# Nothing may be loaded and nothing may run, whatever text found its way in.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def page(title: str, masthead: Markup, sections: Mapping[str, Markup]) -> str:
    """The whole page; each section stands under its title, and has that in lower case as its id."""
    style = Markup(files("tinyforge.evaluate").joinpath("report.css").read_text(encoding="utf-8"))
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", title),
        tag("style", style),
    )
    parts = [tag("section", tag("h2", name), content, id=name.lower()) for name, content in sections.items()]
    body = tag("body", masthead, tag("main", *parts))
    return "<!doctype html>\n" + tag("html", head, body, lang="en") + "\n"
