"""A person's conversation with a Talker: what was said is kept, and can be gone back to, branched and asked again."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from tinyforge.errors import InputError
from tinyforge.models.sampling import Sampling
from tinyforge.records import Hit
from tinyforge.retrieve.quote import to_read
from tinyforge.run import write_text
from tinyforge.serve.answer import Citation, Reply
from tinyforge.serve.history import History, Turn
from tinyforge.serve.style import instructions
from tinyforge.serve.talk import Said, Talker

RETRY_TEMPERATURE = 0.8  # a second answer at temperature 0 would be the first one again

OnToken = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Settings:
    """What a conversation is held with; kept with it."""

    rag: bool = True
    system: str = ""
    temperature: float = 0.0


class Session:
    """``turn`` is where the conversation stands, None at its beginning."""

    def __init__(self, talker: Talker, history: History, seed: int = 0) -> None:
        self.talker, self.history, self.seed = talker, history, seed
        self.settings = Settings()
        self.chat: int | None = None
        self.turn: int | None = None

    @property
    def path(self) -> list[Turn]:
        """The turns up to where the conversation stands, oldest first."""
        return self.history.path_to(self.turn)

    @property
    def citations(self) -> tuple[Citation, ...] | None:
        """What the last answer stands on; None before the first."""
        path = self.path
        return tuple(Citation(**kept) for kept in path[-1].details.get("citations", ())) if path else None

    @property
    def instructions(self) -> str:
        """The system text with the person's preferences."""
        return "\n".join(part for part in (self.settings.system, instructions(self.history.preferences())) if part)

    def ask(self, question: str, on_token: OnToken | None = None) -> Said:
        """Answer, and keep the turn. Nothing is kept of a question that failed or was interrupted."""
        return self._ask(question, self.turn, self.settings.temperature, self.seed, on_token)

    def retry(self, on_token: OnToken | None = None) -> Said:
        """Another answer to the last question, as a branch beside the first; drawn, where temperature is 0 too."""
        path = self.path
        if not path:
            raise InputError("there is nothing to ask again.", "Ask something first.")
        last = path[-1]
        tries = sum(turn.parent == last.parent for turn in self._all_turns())
        return self._ask(
            last.question, last.parent, self.settings.temperature or RETRY_TEMPERATURE, self.seed + tries, on_token
        )

    def _all_turns(self) -> list[Turn]:
        assert self.chat is not None
        found = {turn.id: turn for leaf in self.history.leaves(self.chat) for turn in self.history.path_to(leaf.id)}
        return list(found.values())

    def _ask(self, question: str, parent: int | None, temperature: float, seed: int, on_token: OnToken | None) -> Said:
        earlier = [(turn.question, turn.answer) for turn in self.history.path_to(parent)]
        said = self.talker.reply(
            question,
            earlier,
            rag=self.settings.rag,
            instructions=self.instructions,
            sampling=Sampling(temperature=temperature, seed=seed),
            on_token=on_token,
        )
        details = {**reply_details(said.reply), "searched_with": said.context, "temperature": temperature}
        self.turn = self.history.add(self.chat, parent, question, said.reply.answer, details).id
        if self.chat is None:
            self.chat = self.history.chat_of(self.turn)
            self._keep_settings()
        return said

    def preview(self, question: str) -> str:
        """What a model would be given with this question, and how full its context would be; nothing is written."""
        talker, earlier = self.talker, [(turn.question, turn.answer) for turn in self.path]
        hits, note = [], ""
        if talker.knowledge is not None and self.settings.rag:
            found = talker.follow_up(question, earlier)
            searched = f"{question} {found.context} {question}" if found.context else question
            hits = talker.knowledge.search(searched, talker.passages)
            note = f"searched for: {searched}\n"
        given: Sequence[Hit] = ()
        if talker.variant.endswith("+retrieval") and talker.knowledge is not None and hits:
            given = to_read([searched], [hits], talker.knowledge.embedder, talker.sentences)[0]
        if talker.writer is None:
            return note + "\n\n".join(f"[{' > '.join(hit.path)}]\n{hit.text}" for hit in hits)
        messages, budget = talker.prompt(question, earlier, given, self.instructions)
        return "\n".join([note + budget.line(), *(f"--- {m.role}\n{m.content}" for m in messages)])

    def new(self) -> None:
        """Begin a new conversation with the same settings; the old one stays where it is."""
        self.chat = self.turn = None

    def load(self, chat: int, turn: int | None = None) -> None:
        """Go on with a kept conversation where it stood, or from one of its turns, which begins a branch there."""
        head = self.history.chat(chat).head if turn is None else turn
        self.history.stand_at(chat, head)
        self.chat, self.turn = chat, head
        self.settings = Settings(**self.history.settings(chat))

    def change(self, **settings: Any) -> None:
        """Change some of the settings from here on."""
        self.settings = replace(self.settings, **settings)
        self._keep_settings()

    def _keep_settings(self) -> None:
        if self.chat is not None:
            self.history.keep_settings(self.chat, asdict(self.settings))

    def save(self, path: Path) -> int:
        """Write the conversation up to here: as Markdown, or, for ``.json`` and ``.jsonl``, as one row of messages
        that `tinyforge train` reads. Returns the number of turns; refuses to replace a file."""
        turns = self.path
        if not turns:
            raise InputError("there is nothing to save yet.", "Ask something first.")
        if path.exists():
            raise InputError(f"{path}: exists already.", "Give another name.")
        write_text(path, as_row(turns) if path.suffix in (".json", ".jsonl") else as_markdown(turns))
        return len(turns)


def reply_details(reply: Reply) -> dict[str, Any]:
    """What is kept of a reply besides its text."""
    return {
        "variant": reply.variant,
        "declined": reply.declined,
        "quoted": reply.quoted,
        "citations": [asdict(citation) for citation in reply.citations],
        "unsupported": reply.unsupported(),
    }


def as_row(turns: list[Turn]) -> str:
    messages = [
        message
        for turn in turns
        for message in (
            {"role": "user", "content": turn.question},
            {"role": "assistant", "content": turn.answer},
        )
    ]
    return json.dumps({"messages": messages}, ensure_ascii=False) + "\n"


def as_markdown(turns: list[Turn]) -> str:
    parts = []
    for turn in turns:
        places = [f"- {c['source']}, {c['section']}: {c['text']}" for c in turn.details.get("citations", ())]
        parts.append(
            "\n\n".join(part for part in (f"**You:** {turn.question}", turn.answer, "\n".join(places)) if part)
        )
    return "\n\n---\n\n".join(parts) + "\n"
