"""Commands and code under a heading: what is typed, or shown, there."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tinyforge.synthesize.facts import Fact, Place
from tinyforge.synthesize.language import lower_first

_SAYS_SOMETHING = re.compile(r"[A-Za-z]\w*.*[A-Za-z]", re.S)
# A paragraph that is code all the same, where its document does not mark it.
_UNMARKED = re.compile(
    r"(?:@\w+|def \w+\(|(?:async def|class) \w+|import \w+|from [\w.]+ import |>>> |\$ \w|return \w|"
    r"[A-Za-z_][\w.]*(?:\[[^\]]*\])? = \S|[A-Za-z_][\w.]*\([^)]*\)(?:$| [a-z_@]+[ (=]))"
)
_MOST_LINES = 20


def find(place: Place, limit: int) -> Iterator[Fact]:
    """The first code block of a section that fits; a coverage form."""
    for block in place.section.blocks:
        text = place.document.slice(block.span)
        if not (block.kind == "code" or (block.kind == "paragraph" and _UNMARKED.match(text))):
            continue
        code = text.strip("\n")
        if len(code) <= limit and code.count("\n") < _MOST_LINES and _SAYS_SOMETHING.search(code):
            name = place.name if place.name.startswith('the "') else lower_first(place.name, place.known)
            yield Fact("code", "code", name, (block.span,), code, (("n", name),), "lookup", True)
            return
