"""A grammar over bytes in the notation of llama.cpp, which reads characters: the same texts, so the same JSON.

Only what ``schema`` makes is written: ASCII bytes, texts, and the one rule of every other character.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tinyforge.errors import InputError
from tinyforge.serve.grammar import Rule
from tinyforge.serve.schema import UNICODE

MOST = 1000  # repetitions in one place: llama.cpp writes each of them out, and refuses more than 2,000
_OTHERS = r"[\u0080-\ud7ff\ue000-\U0010ffff]"


def gbnf(rules: Mapping[str, Rule], start: Rule) -> str:
    """The rules as llama.cpp's ``grammar``. Raises InputError, naming the field, for what it cannot hold."""
    names = {name: f"r{number}" for number, name in enumerate(rules)}
    lines = [f"root ::= {_written(start, names)}"]
    lines += [f"{names[name]} ::= {_written(rule, names)}" for name, rule in rules.items()]
    return "\n".join(lines) + "\n"


def _written(rule: Rule, names: Mapping[str, str]) -> str:
    kind = rule[0]
    if rule == UNICODE:
        return _OTHERS
    if kind == "chars":
        return f"[{_escaped(rule[1])}-{_escaped(rule[2])}]"
    if kind == "ref":
        return names[rule[1]]
    if kind == "alt":
        return "(" + " | ".join(_written(option, names) for option in rule[1]) + ")"
    if kind == "repeat":
        return _repeated(rule, names)
    return " ".join(_sequence(list(_flat(rule)), names)) or '""'


def _escaped(byte: int) -> str:
    assert byte < 0x80, "only the rule of other characters holds such bytes"
    return f"\\x{byte:02x}"


def _repeated(rule: Rule, names: Mapping[str, str]) -> str:
    _, inner, low, high = rule
    if max(low, high or 0) > MOST:
        raise InputError(
            f"response_format: llama.cpp repeats something at most {MOST} times, and this schema asks for "
            f"{max(low, high or 0)}.",
            "Lower minLength, maxLength, minItems or maxItems, or serve with --engine transformers.",
        )
    if high == 0:
        return '""'
    times = {(0, None): "*", (1, None): "+", (0, 1): "?"}.get((low, high), f"{{{low},{'' if high is None else high}}}")
    return f"({_written(inner, names)}){times}"


def _flat(rule: Rule) -> Sequence[Rule]:
    """The parts of a sequence, those of sequences in it among them."""
    return [part for inner in rule[1] for part in (_flat(inner) if inner[0] == "seq" else [inner])]


def _sequence(parts: Sequence[Rule], names: Mapping[str, str]) -> list[str]:
    """Each part; single bytes in a row are a text, whose characters may be of several."""
    found, text = list[str](), b""
    for part in [*parts, None]:
        if part is not None and part[0] == "chars" and part[1] == part[2]:
            text += bytes([part[1]])
            continue
        if text:
            found.append('"' + "".join(_character(c) for c in text.decode("utf-8")) + '"')
            text = b""
        if part is not None:
            found.append(_written(part, names))
    return found


def _character(character: str) -> str:
    plain = character.isascii() and character.isalnum()
    return character if plain or character in " ,:{}_-." else f"\\U{ord(character):08x}"
