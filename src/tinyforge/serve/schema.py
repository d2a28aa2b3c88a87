"""A JSON schema as a grammar over bytes: every text that the grammar takes is JSON that the schema takes.

Not the other way round: properties come in the order of their declaration, none comes that is not declared, and white
space is at most one space behind a colon or comma. So a model has less to get wrong, and no text can go on for ever
between two values. A keyword that the grammar cannot keep is refused by name: it is never ignored.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tinyforge.errors import InputError
from tinyforge.serve.grammar import EMPTY, Rule, alt, chars, literal, ref, repeat, seq

MOST = 10_000  # of minItems, maxLength and the like; larger numbers are refused
_SAID = {"title", "description", "default", "examples", "$schema", "$id", "$comment", "deprecated", "$defs"}
_SAID |= {"definitions", "readOnly", "writeOnly", "strict"}
_KEYS = {
    "object": {"properties", "required", "additionalProperties"},
    "array": {"items", "minItems", "maxItems"},
    "string": {"minLength", "maxLength"},
    "number": set[str](),
    "integer": set[str](),
    "boolean": set[str](),
    "null": set[str](),
}

_TAIL = chars(0x80, 0xBF)
UNICODE = alt(  # RFC 3629, section 4
    seq(chars(0xC2, 0xDF), _TAIL),
    seq(chars(0xE0, 0xE0), chars(0xA0, 0xBF), _TAIL),
    seq(chars(0xE1, 0xEC), _TAIL, _TAIL),
    seq(chars(0xED, 0xED), chars(0x80, 0x9F), _TAIL),
    seq(chars(0xEE, 0xEF), _TAIL, _TAIL),
    seq(chars(0xF0, 0xF0), chars(0x90, 0xBF), _TAIL, _TAIL),
    seq(chars(0xF1, 0xF3), _TAIL, _TAIL, _TAIL),
    seq(chars(0xF4, 0xF4), chars(0x80, 0x8F), _TAIL, _TAIL),
)
_DIGIT = chars(0x30, 0x39)
_HEX = alt(_DIGIT, chars(0x41, 0x46), chars(0x61, 0x66))
_NOT_SURROGATE = alt(
    seq(alt(chars(0x30, 0x39), chars(0x41, 0x43), chars(0x61, 0x63), literal("e"), literal("f")), _HEX, _HEX, _HEX),
    seq(alt(literal("d"), literal("D")), chars(0x30, 0x37), _HEX, _HEX),
)
_ESCAPED = alt(*[literal(c) for c in '"\\/bfnrt'], seq(literal("u"), _NOT_SURROGATE))
_CHARACTER = alt(chars(0x20, 0x21), chars(0x23, 0x5B), chars(0x5D, 0x7E), UNICODE, seq(literal("\\"), _ESCAPED))
_SPACE = repeat(literal(" "), 0, 1)
_COMMA, _COLON = seq(literal(","), _SPACE), seq(literal(":"), _SPACE)
_WHOLE = alt(literal("0"), seq(chars(0x31, 0x39), repeat(_DIGIT, 0, 14)))
_INTEGER = seq(repeat(literal("-"), 0, 1), _WHOLE)
_EXPONENT = seq(alt(literal("e"), literal("E")), repeat(alt(literal("+"), literal("-")), 0, 1), repeat(_DIGIT, 1, 2))
_NUMBER = seq(_INTEGER, repeat(seq(literal("."), repeat(_DIGIT, 1, 15)), 0, 1), repeat(_EXPONENT, 0, 1))


class Grammar:
    """The rules that a schema became. ``start`` is the rule of the whole text."""

    def __init__(self, schema: Any) -> None:
        self.rules: dict[str, Rule] = {}
        self._schema = schema
        self._any()
        try:
            json.dumps(schema, ensure_ascii=False).encode()
            self.start = self._value(schema, "schema")
        except UnicodeEncodeError:
            raise _refused("schema", "holds half of a surrogate pair, which is no text") from None
        except RecursionError:
            raise _refused("schema", "is nested too deeply") from None

    @classmethod
    def of_object(cls) -> Grammar:
        """Any JSON object."""
        grammar = cls(True)
        grammar.start = ref("any object")
        return grammar

    def _any(self) -> None:
        text = _text(0, None)
        value = ref("any")
        pair = seq(text, _COLON, value)
        self.rules["any object"] = _between("{", "}", _listed(pair, 0, None))
        self.rules["any"] = alt(
            ref("any object"), _between("[", "]", _listed(value, 0, None)), text, _NUMBER, *map(literal, _CONSTANTS)
        )

    def _value(self, schema: Any, place: str) -> Rule:
        if schema is True or schema == {}:
            return ref("any")
        if not isinstance(schema, dict):
            raise _refused(place, "is not a schema")
        for keyword, make in _COMBINING.items():
            if keyword in schema:
                _only(schema, {keyword, "type"} if keyword in ("enum", "const") else {keyword}, place)
                return make(self, schema, place)
        kinds = schema.get("type", "object" if "properties" in schema else None)
        if kinds is None:
            _only(schema, set(), place)
            return ref("any")
        kinds = kinds if isinstance(kinds, list) else [kinds]
        if not kinds or any(not isinstance(kind, str) or kind not in _KEYS for kind in kinds):
            raise _refused(f"{place}.type", f"{schema.get('type')!r} is not a type of JSON")
        _only(schema, set().union(*(_KEYS[kind] for kind in kinds)) | {"type"}, place)
        return alt(*[getattr(self, f"_{kind}")(schema, place) for kind in kinds])

    def _reference(self, schema: dict[str, Any], place: str) -> Rule:
        path = schema["$ref"]
        name = f"ref {path}"
        if name in self.rules:
            return ref(name)
        found: Any = self._schema
        steps = path.split("/") if isinstance(path, str) else [""]
        for step in steps[1:]:
            key = step.replace("~1", "/").replace("~0", "~")
            found = found.get(key) if isinstance(found, dict) else None
        if steps[0] != "#" or found is None:
            raise _refused(f"{place}.$ref", f"{path!r} leads nowhere in this schema")
        self.rules[name] = EMPTY  # so that a schema can hold itself
        self.rules[name] = self._value(found, path)
        return ref(name)

    def _enum(self, schema: dict[str, Any], place: str) -> Rule:
        values = schema["enum"] if "enum" in schema else [schema["const"]]
        if not isinstance(values, list) or not values:
            raise _refused(f"{place}.enum", "is not a list of values")
        return alt(*[literal(json.dumps(value, ensure_ascii=False)) for value in values])

    def _either(self, schema: dict[str, Any], place: str) -> Rule:
        options = schema["anyOf"]
        if not isinstance(options, list) or not options:
            raise _refused(f"{place}.anyOf", "is not a list of schemas")
        return alt(*[self._value(option, f"{place}.anyOf[{i}]") for i, option in enumerate(options)])

    def _object(self, schema: dict[str, Any], place: str) -> Rule:
        properties, required = schema.get("properties", {}), schema.get("required", [])
        more = schema.get("additionalProperties", True)
        named = isinstance(required, list) and all(isinstance(name, str) for name in required)
        if not isinstance(properties, dict) or not named:
            raise _refused(place, "has properties or required that are not what JSON Schema says")
        missing = [name for name in required if name not in properties]
        if missing:
            raise _refused(f"{place}.required", f"names {missing[0]!r}, which is not among its properties")
        if not properties and more is not False:
            pair = seq(_text(0, None), _COLON, self._value(more, f"{place}.additionalProperties"))
            return _between("{", "}", _listed(pair, 0, None))
        pairs = [
            (seq(literal(json.dumps(name, ensure_ascii=False)), _COLON, self._value(inner, f"{place}.{name}")), name)
            for name, inner in properties.items()
        ]
        return _between("{", "}", self._members([(pair, name in required) for pair, name in pairs], f"{place}:"))

    def _members(self, pairs: list[tuple[Rule, bool]], place: str) -> Rule:
        """The pairs in order, those not required left out or not; rules from the last one backwards."""
        name = f"members {len(self.rules)} {place}"
        after_one = after_none = EMPTY
        for i, (pair, required) in reversed(list(enumerate(pairs))):
            one, none = seq(_COMMA, pair, after_one), seq(pair, after_one)
            self.rules[f"{name} {i} later"] = one if required else alt(one, after_one)
            self.rules[f"{name} {i} first"] = none if required else alt(none, after_none)
            after_one, after_none = ref(f"{name} {i} later"), ref(f"{name} {i} first")
        return after_none

    def _array(self, schema: dict[str, Any], place: str) -> Rule:
        low, high = _bounds(schema, "minItems", "maxItems", place)
        return _between("[", "]", _listed(self._value(schema.get("items", True), f"{place}.items"), low, high))

    def _string(self, schema: dict[str, Any], place: str) -> Rule:
        return _text(*_bounds(schema, "minLength", "maxLength", place))

    def _number(self, schema: dict[str, Any], place: str) -> Rule:
        return _NUMBER

    def _integer(self, schema: dict[str, Any], place: str) -> Rule:
        return _INTEGER

    def _boolean(self, schema: dict[str, Any], place: str) -> Rule:
        return alt(literal("true"), literal("false"))

    def _null(self, schema: dict[str, Any], place: str) -> Rule:
        return literal("null")


_CONSTANTS = ("true", "false", "null")
_COMBINING: dict[str, Callable[[Grammar, dict[str, Any], str], Rule]] = {
    "$ref": Grammar._reference,
    "enum": Grammar._enum,
    "const": Grammar._enum,
    "anyOf": Grammar._either,
}


def _text(low: int, high: int | None) -> Rule:
    return seq(literal('"'), repeat(_CHARACTER, low, high), literal('"'))


def _between(left: str, right: str, inner: Rule) -> Rule:
    return seq(literal(left), inner, literal(right))


def _listed(item: Rule, low: int, high: int | None) -> Rule:
    """Items with commas between them."""
    if high == 0:
        return EMPTY
    some = seq(item, repeat(seq(_COMMA, item), max(0, low - 1), None if high is None else high - 1))
    return some if low else alt(EMPTY, some)


def _bounds(schema: dict[str, Any], least: str, most: str, place: str) -> tuple[int, int | None]:
    low, high = schema.get(least, 0), schema.get(most)
    for name, value in ((least, low), (most, high)):
        if value is not None and (type(value) is not int or not 0 <= value <= MOST):
            raise _refused(f"{place}.{name}", f"is {value!r}; it must be a whole number from 0 to {MOST}")
    if high is not None and low > high:
        raise _refused(f"{place}.{least}", f"is {low}, more than {most}, {high}")
    return low, high


def _only(schema: dict[str, Any], known: set[str], place: str) -> None:
    for keyword in schema:
        if keyword not in known | _SAID:
            raise _refused(f"{place}.{keyword}", "is not supported")


def _refused(place: str, why: str) -> InputError:
    return InputError(f"response_format: {place} {why}.", "Simplify the schema, or ask for it in words.")
