"""One row of training data into an Example, by the names of its fields. Every shape that is known stands in SHAPES.

A row is a dictionary with string keys, as JSON, CSV or Parquet gives it. Text is kept letter for letter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, cast

from tinyforge.dataset.origin import FIELD as ORIGIN
from tinyforge.dataset.origin import origin_of
from tinyforge.records import Example, Message, Role, content_id

Row = Mapping[str, Any]

ROLES: dict[str, Role] = {
    "system": "system",
    "user": "user",
    "assistant": "assistant",
    "human": "user",
    "gpt": "assistant",
}


class RowError(Exception):
    """This row cannot be used, for this reason; the other rows can. ``detail`` is what differs from row to row."""

    def __init__(self, reason: str, detail: str = "") -> None:
        super().__init__(reason + detail)
        self.reason, self.detail = reason, detail


@dataclass(frozen=True)
class Shape:
    """Rows that have all the ``needed`` fields are of this shape; ``optional`` ones are used where they are filled."""

    name: str
    needed: tuple[str, ...]
    optional: tuple[str, ...]
    read: Callable[[Row], Example]


def read_row(row: Any) -> tuple[Shape, Example, list[str]]:
    """The shape of a row, its Example (id from its content, no metadata but its own) and the fields left unused.

    Raises RowError.
    """
    if isinstance(row, RowError):  # the file's reader could not make a row of it
        raise row
    if not isinstance(row, Mapping):
        raise RowError(f"{_named(row)}, not an object with fields")
    fields = {str(name).strip().lower(): value for name, value in row.items()}
    if len(fields) < len(row):
        raise RowError("two fields whose names differ only in case or spaces")
    shape = _recognise(fields)
    example = shape.read(fields)
    used = {*shape.needed, *shape.optional}
    unused = [name for name, value in fields.items() if name not in used and value not in (None, "", [])]
    return shape, example if example.id else replace(example, id=identify(example)), unused


def identify(example: Example) -> str:
    """The id of what is learned: rows that say the same have the same, wherever they were read."""
    said = [part for message in example.messages for part in (message.role, message.content)]
    return content_id(example.kind, *said, example.text, example.rejected, example.label)


def describe_shapes() -> str:
    """The shapes in words, for messages."""
    return ", ".join("{" + ", ".join(shape.needed) + "}" for shape in SHAPES)


def _recognise(fields: Row) -> Shape:
    # Tables give every row every column, so an empty cell is first taken for a field that is not there. Not so a label:
    # a text whose label is missing is no text to learn by heart.
    filled = {name for name, value in fields.items() if value is not None or name == "label"}
    if {"prompt", "completion", "label"} <= filled and fields["label"] is not None:
        raise RowError("a single answer marked good or bad; give pairs with chosen and rejected")
    for present in (filled, set(fields)):
        for shape in SHAPES:
            if present.issuperset(shape.needed):
                return shape
    raise RowError("no known shape")


def _named(value: Any) -> str:
    kinds = ((type(None), "nothing"), (str, "text"), (bool, "a truth value"), ((int, float), "a number"))
    known = next((name for kind, name in kinds if isinstance(value, kind)), "")
    return known or ("a list" if isinstance(value, list) else "an object")


def _text(value: Any, field: str) -> str:
    """Text or a number as text, never blank."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    if value is None or (isinstance(value, str) and not value.strip()):
        raise RowError(f"empty {field}")
    if not isinstance(value, str):
        raise RowError(f"{field} is {_named(value)}, not text")
    return _valid(value, field)


def _valid(text: str, field: str) -> str:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise RowError(f"{field} holds half a character (a lone surrogate)") from None
    return text


def _optional(row: Row, field: str) -> str:
    value = row.get(field)
    return "" if value is None or value == "" else _text(value, field)


def _parts(content: Any) -> Any:
    """OpenAI's list of parts as one text; anything else as it is."""
    if not isinstance(content, list):
        return content
    if not all(isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content):
        raise RowError("a message with parts that are not text")
    return "".join(part["text"] for part in content)


def _message(value: Any) -> Message:
    if not isinstance(value, Mapping):
        raise RowError(f"a message is {_named(value)}, not an object with role and content")
    name = value.get("role") if value.get("role") is not None else value.get("from")
    content = _parts(value.get("content") if value.get("content") is not None else value.get("value"))
    if name not in ROLES:
        raise RowError("a message without a role" if name is None else f"unknown role {name!r}")
    if value.get("tool_calls"):
        raise RowError("a message with tool calls")
    role = ROLES[cast(str, name)]
    if role == "system" and content == "":
        return Message(role, "")
    return Message(role, _text(content, f"{role} message"))


def _messages(value: Any, field: str) -> tuple[Message, ...]:
    if not isinstance(value, list):
        raise RowError(f"{field} is {_named(value)}, not a list of messages")
    return tuple(_message(message) for message in value)


def _conversation(messages: tuple[Message, ...]) -> tuple[Message, ...]:
    """The messages, if a model can learn from them: asked first, answered last."""
    spoken = [message.role for message in messages if message.role != "system"]
    if not spoken:
        raise RowError("a conversation without messages")
    if spoken[0] != "user":
        raise RowError("starts with an answer, before any question")
    if messages[-1].role != "assistant":
        raise RowError("does not end with the assistant's answer")
    return messages


def _with_system(row: Row, messages: tuple[Message, ...]) -> tuple[Message, ...]:
    system = _optional(row, "system")
    if system and messages and messages[0].role == "system":
        raise RowError("a system text besides a system message")
    return (Message("system", system), *messages) if system else messages


def _prompt(value: Any) -> tuple[Message, ...]:
    """A prompt as text or as messages."""
    return _messages(value, "prompt") if isinstance(value, list) else (Message("user", _text(value, "prompt")),)


def _reply(value: Any, field: str) -> tuple[Message, ...]:
    return _messages(value, field) if isinstance(value, list) else (Message("assistant", _text(value, field)),)


def _listed(field: str) -> Callable[[Row], Example]:
    return lambda row: Example(
        "", _conversation(_with_system(row, _messages(row[field], field))), metadata=_origin(row)
    )


def _origin(row: Row) -> dict[str, Any]:
    """Where a row made of a chat comes from, as ``tinyforge data convert`` notes it."""
    try:
        origin = origin_of(row)
    except ValueError as error:
        raise RowError(str(error)) from error
    return {ORIGIN: origin.to_json()} if origin else {}


def _pair(question: str, answer: str) -> Callable[[Row], Example]:
    def read(row: Row) -> Example:
        asked = Message("user", _text(row[question], question))
        return Example("", _with_system(row, (asked, Message("assistant", _text(row[answer], answer)))))

    return read


def _alpaca(row: Row) -> Example:
    given = _optional(row, "input")
    asked = _text(row["instruction"], "instruction") + (f"\n\n{given}" if given.strip() else "")
    answer = Message("assistant", _text(row["output"], "output"))
    return Example("", _with_system(row, (Message("user", asked), answer)))


def _completion(row: Row) -> Example:
    messages = (*_prompt(row["prompt"]), *_reply(row["completion"], "completion"))
    return Example("", _conversation(_with_system(row, messages)))


def _preference(row: Row) -> Example:
    """A question with a better and a worse answer; the conversations before the two last answers must be the same."""
    before = () if row.get("prompt") is None else _prompt(row["prompt"])
    if not before and not isinstance(row["chosen"], list):
        raise RowError("a preference without a prompt")
    chosen, rejected = ((*before, *_reply(row[side], side)) for side in ("chosen", "rejected"))
    chosen, rejected = _conversation(_with_system(row, chosen)), _conversation(_with_system(row, rejected))
    if chosen[:-1] != rejected[:-1]:
        raise RowError("chosen and rejected differ before their last answer")
    if chosen == rejected:
        raise RowError("chosen and rejected are the same")
    return Example("", chosen, rejected=rejected[-1].content)


def _labelled(field: str) -> Callable[[Row], Example]:
    def read(row: Row) -> Example:
        label = row["label"]
        label = str(label).lower() if isinstance(label, bool) else _text(label, "label")
        return Example("", (Message("user", _text(row[field], field)),), label=label)

    return read


def _running(row: Row) -> Example:
    return Example("", (), text=_text(row["text"], "text"), metadata=_origin(row))


def _own(row: Row) -> Example:
    """A line that Example.to_json wrote."""
    try:
        example = Example.from_json(dict(row))
    except (TypeError, KeyError) as error:
        raise RowError(f"not a whole example of TinyForge ({error})") from error
    if example.kind == "text":
        return replace(example, text=_text(example.text, "text"))
    for message in example.messages:
        _message({"role": message.role, "content": message.content})
    return example if example.kind == "labelled" else replace(example, messages=_conversation(example.messages))


_OWN_FIELDS = tuple(Example.__dataclass_fields__)

SHAPES = (
    Shape("TinyForge example", ("id", "messages", "evidence"), _OWN_FIELDS, _own),
    Shape("chosen/rejected", ("chosen", "rejected"), ("prompt", "system"), _preference),
    Shape("messages", ("messages",), ("system", ORIGIN), _listed("messages")),
    Shape("conversations", ("conversations",), ("system",), _listed("conversations")),
    Shape("instruction/input/output", ("instruction", "output"), ("input", "system"), _alpaca),
    Shape("prompt/completion", ("prompt", "completion"), ("system",), _completion),
    Shape("question/answer", ("question", "answer"), ("system",), _pair("question", "answer")),
    Shape("text/label", ("text", "label"), (), _labelled("text")),
    Shape("input/output", ("input", "output"), ("system",), _pair("input", "output")),
    Shape("input/label", ("input", "label"), (), _labelled("input")),
    Shape("text", ("text",), (ORIGIN,), _running),
)
"""In this order: the first whose fields are all there is taken, so that an Alpaca row with a ``text`` is no text."""
