"""A Discord bot that answers out of a model that `tinyforge serve` serves, with its citations.

    pip install discord.py
    tinyforge serve my-model
    DISCORD_TOKEN=... python examples/discord_bot.py --model my-model

It answers when it is mentioned, or written to directly, and remembers the last few turns of each channel while it runs.
In Discord's developer portal switch on the message content intent. The text that people write to it goes to the server
named by --url and nowhere else.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import sys
from collections import defaultdict, deque
from typing import Any

import urllib3

LONGEST = 2000  # characters of a Discord message
TURNS = 4  # earlier questions with their answers that go along
PLACES = 3  # citations that are shown
TOKENS = 256  # of an answer; without a limit one that rambles fills the model's context, and no question fits after it


class TooLongError(RuntimeError):
    """The conversation does not fit into the model's context."""


class Model:
    """A served model, asked over the OpenAI-compatible API."""

    def __init__(self, url: str, name: str, key: str = "", timeout: float = 120) -> None:
        self.url, self.name, self.key = url.rstrip("/"), name, key
        self._http = urllib3.PoolManager(timeout=timeout, retries=False)

    def answer(self, messages: list[dict[str, str]]) -> tuple[str, list[dict[str, Any]]]:
        """The answer's text and its citations. Raises RuntimeError with the server's own words when it refuses.

        TooLongError is raised for a conversation that does not fit.
        """
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        body = {"model": self.name, "messages": messages, "max_tokens": TOKENS}
        try:
            reply = self._http.request("POST", f"{self.url}/v1/chat/completions", json=body, headers=headers)
            data = json.loads(reply.data)
        except (urllib3.exceptions.HTTPError, ValueError) as error:
            raise RuntimeError(f"the model cannot be reached ({type(error).__name__})") from error
        if reply.status != 200:
            error = data.get("error", {})
            kind = TooLongError if error.get("code") == "context_length_exceeded" else RuntimeError
            raise kind(error.get("message", f"the server answered {reply.status}"))
        return data["choices"][0]["message"]["content"], data.get("tinyforge", {}).get("citations", [])


class Memory:
    """The last turns of each channel."""

    def __init__(self, turns: int = TURNS) -> None:
        self._kept: defaultdict[int, deque[tuple[str, str]]] = defaultdict(lambda: deque(maxlen=turns))

    def messages(self, channel: int, question: str) -> list[dict[str, str]]:
        found = []
        for asked, answer in self._kept[channel]:
            found += [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
        return [*found, {"role": "user", "content": question}]

    def add(self, channel: int, question: str, answer: str) -> None:
        self._kept[channel].append((question, answer))

    def forget(self, channel: int) -> None:
        self._kept.pop(channel, None)


def question_in(content: str, bot: int) -> str:
    """What is asked in a message, without the mention of the bot."""
    return re.sub(rf"<@!?{bot}>", "", content).strip()


def with_places(answer: str, citations: list[dict[str, Any]]) -> str:
    """The answer with the places that it stands on."""
    places = list(dict.fromkeys(_place(citation) for citation in citations))[:PLACES]
    return "\n".join([answer, *(f"-# {place}" for place in places)])


def _place(citation: dict[str, Any]) -> str:
    page = f", page {citation['page']}" if citation.get("page") else ""
    return f"{citation['source']}, {citation['section']}{page}".replace("\n", " ")


def parts(text: str, longest: int = LONGEST) -> list[str]:
    """The text as messages that Discord takes, cut at line breaks and spaces where there are any."""
    found = []
    while len(text) > longest:
        cut = max(text.rfind("\n", 1, longest), text.rfind(" ", 1, longest))
        cut = cut if cut > 0 else longest
        found.append(text[:cut])
        text = text[cut:].lstrip()
    return [*found, text] if text else found


async def reply_to(model: Model, memory: Memory, channel: int, question: str) -> list[str]:
    """The messages that answer a question in a channel; what goes wrong is said in one of them."""
    try:
        try:
            answer, citations = await asyncio.to_thread(model.answer, memory.messages(channel, question))
        except TooLongError:
            memory.forget(channel)
            answer, citations = await asyncio.to_thread(model.answer, memory.messages(channel, question))
    except RuntimeError as error:
        return parts(f"I cannot answer: {error}.")
    memory.add(channel, question, answer)
    return parts(with_places(answer, citations) or "(no answer)")


def main() -> int:
    parser = argparse.ArgumentParser(description="Answer on Discord out of a model that tinyforge serves.")
    parser.add_argument("--url", default="http://127.0.0.1:8000", help="where `tinyforge serve` listens")
    parser.add_argument("--model", required=True, help="the name of a served model, as /v1/models lists it")
    args = parser.parse_args()
    token = os.environ.get("DISCORD_TOKEN")
    if not token:
        print("Set DISCORD_TOKEN to the bot's token.", file=sys.stderr)
        return 2
    try:
        import discord
    except ImportError:
        print("Install discord.py first: pip install discord.py", file=sys.stderr)
        return 2

    intents = discord.Intents.default()
    intents.message_content = True
    client = discord.Client(intents=intents, allowed_mentions=discord.AllowedMentions.none())
    model, memory = Model(args.url, args.model, os.environ.get("TINYFORGE_API_KEY", "")), Memory()

    @client.event
    async def on_message(message: discord.Message) -> None:
        addressed = message.guild is None or client.user in message.mentions
        question = question_in(message.content, client.user.id)
        if message.author.bot or not addressed or not question:
            return
        async with message.channel.typing():
            for text in await reply_to(model, memory, message.channel.id, question):
                await message.channel.send(text, reference=message, suppress_embeds=True)

    client.run(token)
    return 0


if __name__ == "__main__":
    sys.exit(main())
