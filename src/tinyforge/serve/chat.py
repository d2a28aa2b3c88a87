"""The chat in the terminal: questions in, streamed answers with their sources out."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Sequence
from typing import TextIO

from tinyforge.errors import TinyForgeError
from tinyforge.retrieve.words import content_words
from tinyforge.serve.answer import Citation, Reply
from tinyforge.serve.terminal import PlainStream, plain

Ask = Callable[[str, str, Callable[[str], None]], Reply]
"""Question, context ("" or the earlier question it leans on), and who gets the tokens as they come."""

HELP = """\
/help     this list
/sources  the passages behind the last answer; before the first one, the documents
/reset    forget the conversation so far
/exit     leave (also Ctrl-D; Ctrl-C stops an answer, and twice leaves)"""
NOT_SUPPORTED = "The documents do not bear that out. They say:"
_COMMANDS = ("/help", "/sources", "/reset", "/exit")
_LEANS = re.compile(r"(?:and|or|but|it|its|they|them|their|he|she|this|that|these|those|what about|how about)\b", re.I)


def leans_on_previous(question: str) -> bool:
    """Whether a question needs the one before it: no content word, or a beginning that points back."""
    return not content_words(question) or _LEANS.match(question.strip()) is not None


def chat_loop(
    ask: Ask,
    sources: Sequence[str],
    greeting: str = "",
    stdin: TextIO | None = None,
    stdout: TextIO | None = None,
) -> None:
    """Talk until /exit, the end of the input, or Ctrl-C twice without a question between.

    ``sources`` names the documents, for /sources. Without a terminal the input is read line by line and nothing is
    styled. An error over one question is shown, and the chat goes on.
    """
    chat = _Chat(ask, sources, stdin or sys.stdin, stdout or sys.stdout)
    if greeting:
        chat.say(greeting)
    chat.run()


class _Chat:
    """The state of a conversation: the last question that stands alone, the last citations, and the interrupts."""

    def __init__(self, ask: Ask, sources: Sequence[str], stdin: TextIO, stdout: TextIO) -> None:
        self.ask, self.sources, self.stdin, self.stdout = ask, sources, stdin, stdout
        self.previous = ""
        self.citations: tuple[Citation, ...] | None = None

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
        if line.startswith("/"):
            self._command(line)
            return
        try:
            self._answer(line)
        except TinyForgeError as error:
            self.say(str(error), "red")

    def _command(self, line: str) -> None:
        if line == "/help":
            self.say(HELP)
        elif line == "/sources":
            self._show_sources()
        elif line == "/reset":
            self.previous, self.citations = "", None
            self.say("The conversation starts anew.", "dim")
        else:
            self.say(f"{line.split(maxsplit=1)[0]} is not a command. There are {', '.join(_COMMANDS)}.")

    def _show_sources(self) -> None:
        if self.citations is None:
            self.say("The documents:\n" + "\n".join(f"  {source}" for source in self.sources))
        elif not self.citations:
            self.say("The last answer cites nothing.")
        for number, citation in enumerate(self.citations or (), 1):
            self.say(f"[{number}] {_place(citation)}", "cyan")
            self.say(f"    {' '.join(citation.text.split())}")

    def _answer(self, question: str) -> None:
        context = self.previous if leans_on_previous(question) else ""
        if context:
            self.say(f"(searching with your earlier question: {context})", "dim")
        else:
            self.previous = question
        self.citations = ()
        stream = PlainStream(self._write)
        reply = self.ask(question, context, stream.feed)
        stream.close()
        self._finish(reply, stream.shown)

    def _finish(self, reply: Reply, streamed: bool) -> None:
        if streamed:
            self._write("\n")
        if streamed and reply.quoted:
            self.say(NOT_SUPPORTED, "yellow")
        if not streamed or reply.quoted:
            self.say(reply.answer, "yellow" if reply.declined else "")
        self.citations = reply.citations
        for place in dict.fromkeys(_place(citation) for citation in reply.citations):
            self.say(f"  [{place}]", "cyan")

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


def _place(citation: Citation) -> str:
    page = f", page {citation.page}" if citation.page else ""
    return f"{citation.source}, {citation.section}{page}"
