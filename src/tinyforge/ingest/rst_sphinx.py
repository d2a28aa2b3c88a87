"""What docutils lacks of the reStructuredText written for Sphinx: any unknown directive or role keeps its text."""

from __future__ import annotations

import re
from typing import Any

from docutils import nodes, utils
from docutils.parsers.rst import Directive, directives, roles
from docutils.parsers.rst.languages import en

_DIRECTIVE = re.compile(r"^\s*\.\.[ ]+(?:\|[^|\n]+\|[ ]+)?([\w:.+-]+?)::(?:\s|$)", re.MULTILINE)
_ROLE = re.compile(r":([\w:.+-]+):`|`:([\w:.+-]+):")
_TITLED = re.compile(r"(.+?)\s*<[^<>]*>$", re.DOTALL)
_CODE = frozenset(
    "code code-block sourcecode literalinclude highlight-block console ipython prompt productionlist testcode "
    "testsetup testoutput testcleanup doctest math".split()
)
_OBJECTS = frozenset(
    "function class method classmethod staticmethod attribute data exception property decorator module option "
    "envvar confval describe object program macro type struct enum enumerator member var setting opcode "
    "cmdoption".split()
)
_NAVIGATION = frozenset(
    "toctree index contents highlight currentmodule tabularcolumns py:currentmodule sectionauthor codeauthor meta "
    "automodule autoclass autofunction autosummary default-domain bibliography include raw".split()
)
_SAID = {
    "versionadded": "Added in version",
    "versionchanged": "Changed in version",
    "deprecated": "Deprecated since version",
    "versionremoved": "Removed in version",
}


class _AnyOption(dict[str, Any]):
    def __missing__(self, key: str) -> Any:
        return directives.unchanged


class _AnyDirective(Directive):  # type: ignore[misc]
    """Code stays code, a described object is a term with its definition, the rest is what it contains."""

    has_content = True
    optional_arguments = 1
    final_argument_whitespace = True
    option_spec = _AnyOption(name=directives.unchanged)

    def run(self) -> list[nodes.Node]:
        name = self.name.lower()
        argument = " ".join(" ".join(self.arguments).split())
        if name in _NAVIGATION or (name == "literalinclude"):
            return [nodes.comment("", "", dropped=f"{name} directive")]
        if name in _CODE:
            text = "\n".join(self.content)
            return [nodes.literal_block(text, text)] if text.strip() else []
        if name.rpartition(":")[2] in _OBJECTS:
            return [self._described(argument)]
        box = nodes.container()
        self._parse(self._said(name, argument), box)
        self.state.nested_parse(self.content, self.content_offset, box)
        return [box]

    def _said(self, name: str, argument: str) -> str:
        if name not in _SAID:
            return argument
        version, _, rest = argument.partition(" ")
        return f"{_SAID[name]} {version}: {rest}".rstrip(": ") if version else rest

    def _parse(self, text: str, parent: nodes.Element) -> None:
        if text:
            inline, messages = self.state.inline_text(text, self.lineno)
            parent += [nodes.paragraph(text, "", *inline), *messages]

    def _described(self, signature: str) -> nodes.Node:
        definition = nodes.definition()
        self.state.nested_parse(self.content, self.content_offset, definition)
        item = nodes.definition_list_item("", nodes.term(signature, signature), definition)
        return nodes.definition_list("", item)


def _any_role(name: str, rawtext: str, text: str, *_: Any, **__: Any) -> tuple[list[nodes.Node], list[nodes.Node]]:
    shown = utils.unescape(text)
    titled = _TITLED.match(shown)
    if titled:
        shown = titled[1]
    elif shown.startswith("~"):
        shown = shown[1:].rpartition(".")[2]
    return [nodes.inline(rawtext, shown.removeprefix("!"))], []


def register_names(text: str) -> None:
    """Make docutils take every directive and role that a text uses and docutils does not know."""
    used = {match[1].lower() for match in _DIRECTIVE.finditer(text)}
    for name in used:
        if name not in en.directives or name in _CODE | _NAVIGATION:
            directives.register_directive(name, _AnyDirective)
    for name in {(match[1] or match[2]).lower() for match in _ROLE.finditer(text)}:
        if name not in en.roles:
            roles.register_local_role(name, _any_role)
