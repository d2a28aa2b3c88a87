"""The chat in the terminal: messages in, streamed answers with their sources out, and the commands between."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TextIO

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.serve.answer import Citation, Reply
from tinyforge.serve.session import Session
from tinyforge.serve.style import NAMES, checked, is_only_a_wish, picked_up
from tinyforge.serve.talk import Said
from tinyforge.serve.terminal import PlainStream, plain

COMMANDS = {
    "/help": ("", "this list"),
    "/new": ("", "begin a new conversation; the old one is kept"),
    "/reset": ("", "the same"),
    "/history": ("[CHAT]", "the kept conversations, or the branches of one"),
    "/load": ("CHAT [TURN]", "go on with a conversation, from one of its turns if given"),
    "/delete": ("CHAT", "delete a conversation with all its branches"),
    "/rag": ("on|off", "answer out of the documents, or from the model alone"),
    "/sources": ("[NUMBER]", "what the last answer stands on; with a number, the place in its passage"),
    "/preview": ("MESSAGE", "what the model would be given, and how full its context would be"),
    "/system": ("[TEXT|off]", "what the model is told before everything else"),
    "/style": ("[NAME VALUE|forget [NAME]]", f"how you like to be answered: {', '.join(NAMES)}"),
    "/temperature": ("[NUMBER]", "0 always gives the likeliest answer, more gives more variety"),
    "/save": ("FILE", "the conversation as Markdown, or as a row of messages for .jsonl"),
    "/retry": ("", "another answer to the last question, as a branch"),
    "/exit": ("", "leave (also Ctrl-D; Ctrl-C stops an answer, and twice leaves)"),
}
Ask = Callable[[Callable[[str], None]], Said]
NOT_SUPPORTED = "The documents do not bear that out. They say:"


def chat_loop(session: Session, greeting: str = "", stdin: TextIO | None = None, stdout: TextIO | None = None) -> None:
    """Talk until /exit, the end of the input, or Ctrl-C twice without a message between.

    Without a terminal the input is read line by line and nothing is styled. An error over one message is shown, and
    the chat goes on.
    """
    chat = _Chat(session, stdin or sys.stdin, stdout or sys.stdout)
    if greeting:
        chat.say(greeting)
    chat.run()


class _Chat:
    """The conversation, and where it is read from and shown."""

    def __init__(self, session: Session, stdin: TextIO, stdout: TextIO) -> None:
        self.session, self.stdin, self.stdout = session, stdin, stdout

    def run(self) -> None:
        interrupts = 0
        while True:
            try:
                line = self._read()
                if line is None or line == "/exit":
                    return
                interrupts = 0
                self._take(line)
            except KeyboardInterrupt:
                interrupts += 1
                if interrupts == 2:
                    return
                self.say("\nStopped. Ctrl-C again, Ctrl-D or /exit leaves.", "dim")

    def _read(self) -> str | None:
        """The next line without white space around it; None at the end of the input."""
        if self.stdin is sys.stdin and self.stdin.isatty():
            with contextlib.suppress(ImportError):  # line editing and history for input(); Windows has its own
                import readline  # noqa: F401
            try:
                return input("\n> ").strip()
            except EOFError:
                return None
        line = self.stdin.readline()
        return line.strip() if line else None

    def _take(self, line: str) -> None:
        if not line:
            return
        try:
            if line.startswith("/"):
                self._command(line)
            else:
                self._message(line)
        except TinyForgeError as error:
            self.say(str(error), "red")

    def _command(self, line: str) -> None:
        name, _, rest = line.partition(" ")
        if name not in COMMANDS:
            raise InputError(f"{name} is not a command.", f"There are {', '.join(COMMANDS)}.")
        getattr(self, f"_on_{name[1:]}")(rest.strip())

    def _message(self, text: str) -> None:
        for name, value in picked_up(text).items():
            self.session.history.prefer(name, value)
            self.say(f"(kept: {name} {value}; `/style forget {name}` deletes it)", "dim")
            self._warn_if_not_told()
        if not is_only_a_wish(text):
            self._answer(lambda on_token: self.session.ask(text, on_token))

    def _warn_if_not_told(self) -> None:
        if not self.session.talker.remembers:
            self.say("(this model was trained on bare questions and is not told it; a general one is)", "dim")

    # --- answers -----------------------------------------------------------------------------------------------------

    def _answer(self, ask: Ask) -> None:
        stream = PlainStream(self._write)
        try:
            said = ask(stream.feed)
        finally:
            stream.close()
        self._finish(said, stream.shown)

    def _finish(self, said: Said, streamed: bool) -> None:
        reply = said.reply
        if streamed:
            self._write("\n")
        if streamed and reply.quoted:
            self.say(NOT_SUPPORTED, "yellow")
        if not streamed or reply.quoted:
            self.say(reply.answer or "(the model wrote nothing)", "yellow" if reply.declined else "")
        for sentence in reply.unsupported():
            self.say(f"  not in the documents: {sentence}", "yellow")
        for number, citation in enumerate(reply.citations, 1):
            self.say(f"  [{number}] {_place(citation)}{_of_sentences(reply, number)}", "cyan")
        if said.context:
            self.say(f"  (searched together with: {said.context})", "dim")
        if said.budget is not None:
            self.say(f"  {said.budget.line()}", "dim")

    # --- commands ----------------------------------------------------------------------------------------------------

    def _on_help(self, rest: str) -> None:
        rows = [(f"{name} {arguments}".strip(), text) for name, (arguments, text) in COMMANDS.items()]
        width = max(len(command) for command, _ in rows)
        self.say("\n".join(f"{command:<{width}}  {text}" for command, text in rows))

    def _on_new(self, rest: str) -> None:
        self.session.new()
        self.say("A new conversation.", "dim")

    _on_reset = _on_new

    def _on_history(self, rest: str) -> None:
        history = self.session.history
        if rest:
            chat = history.chat(_number(rest))
            for leaf in history.leaves(chat.id):
                turns = " / ".join(f"{turn.id}: {turn.question}" for turn in history.path_to(leaf.id))
                self.say(f"{'*' if leaf.id == chat.head else ' '} {turns}")
            return
        for chat in history.chats():
            branches = f", {chat.branches} branches" if chat.branches > 1 else ""
            mark = "*" if chat.id == self.session.chat else " "
            self.say(f"{mark} {chat.id}  {chat.title}  ({chat.turns} turn{'' if chat.turns == 1 else 's'}{branches})")
        if not history.chats():
            self.say("No conversation is kept yet.", "dim")

    def _on_load(self, rest: str) -> None:
        numbers = [_number(word) for word in rest.split()]
        if not 1 <= len(numbers) <= 2:
            raise InputError("/load takes a conversation, and a turn if you like.", "See /history.")
        self.session.load(*numbers)
        for turn in self.session.path:
            self.say(f"> {turn.question}", "bold")
            self.say(turn.answer)

    def _on_delete(self, rest: str) -> None:
        number = _number(rest)
        self.session.history.delete(number)
        if number == self.session.chat:
            self.session.new()
        self.say(f"Conversation {number} is deleted.", "dim")

    def _on_rag(self, rest: str) -> None:
        if rest not in ("on", "off", ""):
            raise InputError(f"/rag {rest}: it is on or off.")
        talker = self.session.talker
        if rest == "on" and talker.knowledge is None:
            raise InputError("there are no documents here.", "Start with --knowledge INDEX.")
        if rest == "off" and talker.writer is None:
            raise InputError("this run answers by quoting, without a model.", "Start with --variant tuned.")
        if rest:
            self.session.change(rag=rest == "on")
        from_documents = self.session.settings.rag and talker.knowledge is not None
        self.say(
            "Answers come out of the documents." if from_documents else "Answers come from the model alone.", "dim"
        )

    def _on_sources(self, rest: str) -> None:
        citations, knowledge = self.session.citations, self.session.talker.knowledge
        if citations is None:
            sources = knowledge.sources if knowledge else []
            self.say(
                "The documents:\n" + "\n".join(f"  {source}" for source in sources)
                if sources
                else "There are no documents here."
            )
        elif rest:
            self._open(citations, _number(rest))
        elif not citations:
            self.say("The last answer cites nothing.")
        else:
            for number, citation in enumerate(citations, 1):
                self.say(f"[{number}] {_place(citation)}, characters {citation.start}-{citation.end}", "cyan")
                self.say(f"    {' '.join(citation.text.split())}")

    def _open(self, citations: Sequence[Citation], number: int) -> None:
        """The passage of a citation, with the cited characters marked."""
        if not 1 <= number <= len(citations):
            raise InputError(f"the last answer has no citation {number}.", f"It has {len(citations)}.")
        cited = citations[number - 1]
        before, text, after = cited.parts()
        self.say(f"[{number}] {_place(cited)}, characters {cited.start}-{cited.end}", "cyan")
        self.say(f"{before}»{text}«{after}")

    def _on_preview(self, rest: str) -> None:
        if not rest:
            raise InputError("/preview takes a message.", "For example: /preview What does it cost?")
        self.say(self.session.preview(rest))

    def _on_system(self, rest: str) -> None:
        if rest:
            self.session.change(system="" if rest == "off" else rest)
            self._warn_if_not_told()
        self.say(
            f"The system text is: {self.session.settings.system}" if self.session.settings.system else "None.", "dim"
        )

    def _on_style(self, rest: str) -> None:
        history = self.session.history
        name, _, value = rest.partition(" ")
        if name == "forget":
            self.say(f"{history.forget(value.strip() or None)} deleted.", "dim")
        elif name:
            history.prefer(name, checked(name, value))
            self._warn_if_not_told()
        for kept, text in history.preferences().items():
            self.say(f"  {kept}: {text}")
        if not history.preferences():
            self.say("No preferences are kept. For example: /style brevity short, /style language German", "dim")

    def _on_temperature(self, rest: str) -> None:
        if rest:
            self.session.change(temperature=_temperature(rest))
        self.say(f"The temperature is {self.session.settings.temperature:g}.", "dim")

    def _on_save(self, rest: str) -> None:
        if not rest:
            raise InputError("/save takes a file's name.", "For example: /save talk.md")
        count = self.session.save(Path(rest).expanduser())
        self.say(f"{count} turns written to {rest}.", "dim")

    def _on_retry(self, rest: str) -> None:
        self._answer(self.session.retry)

    # --- output ------------------------------------------------------------------------------------------------------

    def _write(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()

    def say(self, text: str, style: str = "") -> None:
        """One line or more, styled when the output is a terminal."""
        text = plain(text)
        if style and self.stdout.isatty():
            from rich.console import Console
            from rich.text import Text

            Console(file=self.stdout, highlight=False).print(Text(text, style=style), soft_wrap=True)
        else:
            self._write(text + "\n")


def _number(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise InputError(f"{text!r} is not a number.", "See /history and /sources for the numbers.")
    return int(text[:18])


def _temperature(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 5:
        raise InputError(f"/temperature {text}: give a number from 0 to 5.")
    return value


def _place(citation: Citation) -> str:
    page = f", page {citation.page}" if citation.page else ""
    return f"{citation.source}, {citation.section}{page}"


def _of_sentences(reply: Reply, number: int) -> str:
    """Which sentences of a longer answer a citation is for."""
    places = [str(i) for i, one in enumerate(reply.sentences, 1) if one.citation == number - 1]
    if len(reply.sentences) < 2 or not places:
        return ""
    return f" (sentence{'s' if len(places) > 1 else ''} {', '.join(places)})"
