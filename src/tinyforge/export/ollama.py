"""``--to ollama``: the GGUF file with a Modelfile that carries template, stops, parameters and system prompt.

Ollama's templates are Go's, not Jinja's. Most chat templates say the same thing of every turn: an opening, the text, a
closing. Those are found by rendering marked conversations, checked on a longer one, and written in Go's language.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.dataset.template import conversation_text
from tinyforge.errors import InputError
from tinyforge.export import gguf_target
from tinyforge.export.source import Source
from tinyforge.export.target import Target
from tinyforge.records import Message, Role
from tinyforge.run import write_text

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_MARKS: dict[Role, str] = {"system": "SYSTEMTEXT", "user": "USERTEXT", "assistant": "ANSWERTEXT"}


@dataclass(frozen=True)
class Turns:
    """What stands around each role's text, and before an answer. ``start`` opens a conversation (the BOS token)."""

    start: str
    around: dict[Role, tuple[str, str]]
    answer: str

    def text(self, messages: list[Message]) -> str:
        """What a template of this form writes, ready for an answer."""
        parts = [f"{self.around[m.role][0]}{m.content}{self.around[m.role][1]}" for m in messages]
        return self.start + "".join(parts) + self.answer


def read_turns(tokenizer: PreTrainedTokenizerBase) -> Turns:
    """The form of a chat template. Raises InputError when it is not of the kind that says the same of every turn."""

    def render(*roles: Role, prompt: bool = False) -> str:
        return conversation_text([Message(role, _MARKS[role]) for role in roles], tokenizer, prompt)

    user = render("user")
    two = render("user", "assistant")
    four = render("user", "assistant", "user", "assistant")
    if not (two.startswith(user) and four.startswith(two)):
        raise _otherwise()
    again = four[len(two) :]
    opening, _, rest = again.partition(_MARKS["user"])
    middle, _, closing = rest.partition(_MARKS["assistant"])
    head = user.partition(_MARKS["user"])[0]
    if not head.endswith(opening):
        raise _otherwise()
    answer = render("user", prompt=True)[len(user) :]
    user_end = user.partition(_MARKS["user"])[2]
    turns: dict[Role, tuple[str, str]] = {
        "user": (opening, user_end),
        "assistant": (middle.removeprefix(user_end), closing),
    }
    found = Turns(head.removesuffix(opening), turns | _system(tokenizer, head, opening), answer)
    _verify(found, tokenizer)
    return found


def _otherwise() -> InputError:
    return InputError(
        "this model's chat template treats turns differently by their place, which no Modelfile is written for.",
        "Use --to gguf, which carries the template as it is.",
    )


def _system(tokenizer: PreTrainedTokenizerBase, head: str, opening: str) -> dict[Role, tuple[str, str]]:
    """How a system message is written; nothing for a template that refuses one."""
    try:
        text = conversation_text(
            [Message("system", _MARKS["system"]), Message("user", _MARKS["user"])], tokenizer, False
        )
    except InputError:
        return {}
    before, found, after = text.partition(_MARKS["system"])
    start, between = head.removesuffix(opening), after.partition(_MARKS["user"])[0]
    if not found or not before.startswith(start) or not between.endswith(opening):
        return {}
    return {"system": (before[len(start) :], between.removesuffix(opening))}


def _verify(turns: Turns, tokenizer: PreTrainedTokenizerBase) -> None:
    talk = [Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?")]
    talks = [talk, talk[:1], *([[Message("system", "Be brief."), *talk]] if "system" in turns.around else [])]
    if any(turns.text(t) != conversation_text(t, tokenizer, True) for t in talks):
        raise _otherwise()


def go_template(turns: Turns) -> str:
    """The same in Go's template language, as Ollama runs it. The BOS token is left to Ollama's tokenizer."""
    branches = []
    for number, (role, (before, after)) in enumerate(turns.around.items()):
        word = "if" if number == 0 else "else if"
        branches.append(f'{{{{ {word} eq .Role "{role}" }}}}{before}{{{{ .Content }}}}{after}')
    return "{{- range .Messages }}" + "".join(branches) + "{{ end }}{{ end }}" + turns.answer


def modelfile(file: str, turns: Turns, stops: list[str], context: int, system: str) -> str:
    """The Modelfile's text. Greedy, as the run's own answers are; the person may change that in Ollama."""
    lines = [f"FROM ./{file}", f'TEMPLATE """{go_template(turns)}"""']
    lines += [f'PARAMETER stop "{stop}"' for stop in stops]
    lines += ["PARAMETER temperature 0", f"PARAMETER num_ctx {context}"]
    lines += [f'SYSTEM """{system}"""'] if system else []
    return "\n".join(lines) + "\n"


def check(source: Source, kind: str) -> None:
    gguf_target.check(source, kind)
    read_turns(source.tokenizer())


def write(source: Source, folder: Path, kind: str) -> dict[str, Any]:
    from transformers import AutoConfig

    from tinyforge.models.resolve import saved_stop_ids

    notes = gguf_target.write(source, folder, kind)
    tokenizer = source.tokenizer()
    stops = [str(token) for token in tokenizer.convert_ids_to_tokens(sorted(saved_stop_ids(source.folder, tokenizer)))]
    context = int(getattr(AutoConfig.from_pretrained(source.folder), "max_position_embeddings", 2048))
    text = modelfile(notes["file"], read_turns(tokenizer), stops, context, trained_system(source))
    write_text(folder / "Modelfile", text)
    return notes


def trained_system(source: Source) -> str:
    """The system message that every training row began with; empty where they differ or have none."""
    from tinyforge.run import read_jsonl

    path = source.run.path("dataset", "train.jsonl") if source.run else None
    if path is None or not path.is_file():
        return ""
    found = set()
    for row in read_jsonl(path):
        first = (row.get("messages") or [{}])[0]
        found.add(first.get("content", "") if first.get("role") == "system" else "")
    return str(found.pop()) if len(found) == 1 else ""


OLLAMA = Target(gguf_target.GGUF.types, check, write, gguf_target.open_file)
