"""What is asked of llama.cpp for a request, and the answer that grows out of the events it tells."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError, TinyForgeError
from tinyforge.models.pieces import Pieces
from tinyforge.models.sample import Choice
from tinyforge.serve.engines import Event, Finish, Request, Ticket
from tinyforge.serve.gbnf import gbnf
from tinyforge.serve.grammar import Follow, token_bytes

if TYPE_CHECKING:
    from tinyforge.models.llama_process import LlamaProcess
    from tinyforge.serve.engines.llamacpp import LlamaEngine

SEEDS = (1 << 32) - 1  # llama.cpp's are smaller; this one itself asks it for chance
PROBABLE = 1024  # tokens among which one that was written is looked for
_ORDER = ["penalties", "temperature", "top_k", "top_p", "min_p"]  # of transformers' `generate`, see models/sample.py
_GREEDY = {"samplers": ["penalties", "top_k"], "top_k": 1}  # no softmax over the vocabulary


def refuse(request: Request) -> None:
    """Raises InputError for what llama.cpp would do otherwise than the transformers engine, or not at all."""
    for name in ("frequency_penalty", "presence_penalty"):
        if getattr(request.sampling, name):
            raise InputError(
                f"{name}: llama.cpp counts the prompt's tokens as well, which is not what {name} means.",
                "Leave it out, use repetition_penalty, or serve with --engine transformers.",
            )
    if request.constraint is not None:
        _grammar(request)


def _grammar(request: Request) -> str:
    if not isinstance(request.constraint, Follow):
        raise InputError("llama.cpp takes constraints that are grammars only.", "Use --engine transformers.")
    return gbnf(request.constraint.automaton.rules, request.constraint.automaton.whole)


class TokenBytes:
    """The bytes that each token writes, where the tokenizer's way is known."""

    def __init__(self, tokenizer: Any) -> None:
        self._bytes = token_bytes(tokenizer) or {}
        self._tokens = {text: token for token, text in self._bytes.items()}

    def before(self, text: str, token: int, count: int) -> list[int]:
        """The ``count`` tokens that wrote the beginning of ``text``, of which ``token`` wrote the end.

        Raises TinyForgeError where there are none.
        """
        ending = self._bytes.get(token, b"")
        found = self._split(text.encode("utf-8").removesuffix(ending), count)
        if found is None:
            raise TinyForgeError("llama.cpp does not tell which tokens made a character, so nor their probabilities.")
        return found

    def _split(self, text: bytes, count: int) -> list[int] | None:
        if not count:
            return None if text else []
        for end in range(1, len(text) + 1):
            if (first := self._tokens.get(text[:end])) is None:
                continue
            if (rest := self._split(text[end:], count - 1)) is not None:
                return [first, *rest]
        return None


class GrowingAnswer:
    """An answer under way. llama.cpp tells of a token when it ends a character; of those before it in the same
    character it tells the text and the number only."""

    def __init__(self, engine: LlamaEngine, ticket: Ticket) -> None:
        self.ticket, self.request, self.began = ticket, ticket.request, time.monotonic()
        self._engine, self._asked = engine, dict[str, Any]()
        self._pieces = Pieces(lambda ids: "", self.request.sampling.stop)
        room = engine.context - len(self.request.ids)
        self._budget = min(self.request.sampling.max_new_tokens or room, room)
        self.tokens, self.ended = 0, False
        self._ids: list[int] = []
        self._choices: list[Choice] = []
        self._told = 0

    def ask(self, loaded: Sequence[str]) -> dict[str, Any]:
        """The body of llama.cpp's ``/completion``; ``loaded`` are its adapters in their order."""
        request, s = self.request, self.request.sampling
        self._asked = {
            "prompt": list(request.ids),
            "n_predict": self._budget,
            "samplers": _ORDER,
            "temperature": s.temperature,
            "top_k": s.top_k,
            "top_p": s.top_p,
            "min_p": s.min_p,
            "repeat_penalty": s.repetition_penalty,
            "repeat_last_n": self._engine.context,
            "seed": SEEDS if s.seed is None else s.seed % SEEDS,
            "lora": [{"id": i, "scale": float(name == request.adapter)} for i, name in enumerate(loaded)],
            "n_probs": 0 if s.logprobs is None else max(1, s.logprobs),
            "return_tokens": True,
            "cache_prompt": True,
        }
        if not s.temperature:
            self._asked |= _GREEDY
        if request.constraint is not None:
            # The name of a special token could stand in a text of the JSON; as a token it is no text.
            added = self._engine.tokenizer.added_tokens_decoder.items()
            special = {token for token, one in added if one.special} - set(self._engine.stops)
            self._asked |= {"grammar": _grammar(request), "logit_bias": [[token, False] for token in sorted(special)]}
        return self._asked

    def take(self, event: dict[str, Any], process: LlamaProcess) -> bool:
        """Whether the answer goes on after what llama.cpp told."""
        if event.get("stop"):
            self._end(event)
            return False
        if not event.get("tokens"):
            return True
        token = int(event["tokens"][-1])
        if token in self._engine.stops:
            self.finish("stop")
            return False
        fresh = int(event["tokens_predicted"]) - self.tokens
        self.tokens += fresh
        text = str(event["content"])
        if not self._ids and fresh == 1:  # some tokenizers write no space before the first word
            text = self._engine.tokenizer.decode([token], skip_special_tokens=True)
        self._note(event, token, text, fresh, process)
        text = self._pieces.push_text(text, fresh)
        if self._pieces.stopped:
            self.finish("stop", text)
            return False
        if text:
            self._tell(Event(text, self._new_choices()))
        return True

    def _end(self, event: dict[str, Any]) -> None:
        eos = event.get("stop_type") == "eos"
        written = int(event["tokens_predicted"]) - eos
        unfinished = "\ufffd" if written > self.tokens else ""  # a character whose bytes did not all come
        self.tokens = written
        self.finish("stop" if eos else "length", self._pieces.push_text(unfinished, 0))

    def _note(self, event: dict[str, Any], token: int, text: str, fresh: int, process: LlamaProcess) -> None:
        """Remember the tokens and, where asked for, their log probabilities."""
        alternatives = self.request.sampling.logprobs
        if alternatives is None:
            self._ids.append(token)
            return
        for missing in self._engine.token_bytes.before(text, token, fresh - 1) if fresh > 1 else ():
            self._choices.append(self._ask(missing, alternatives, process))
            self._ids.append(missing)
        self._choices.append(_choice(token, event["completion_probabilities"][0], alternatives))
        self._ids.append(token)

    def _ask(self, token: int, alternatives: int, process: LlamaProcess) -> Choice:
        """The log probability of a token that llama.cpp did not tell of: it is asked what may come at that place.

        What it writes there is made a letter, because it would not tell of half a character either.
        """
        letter = self._engine.tokenizer("a", add_special_tokens=False)["input_ids"][-1]
        body = self._asked | {
            "prompt": [*self.request.ids, *self._ids],
            "n_predict": 1,
            "temperature": 0,
            "logit_bias": [[letter, 1e6]],
            "grammar": "",
        }
        for tokens in (PROBABLE, len(self._engine.tokenizer)):  # all of them are megabytes, and seldom needed
            told = process.post("/completion", body | {"n_probs": tokens})["completion_probabilities"][0]
            ranked = [(int(entry["id"]), float(entry["logprob"])) for entry in told["top_logprobs"]]
            if (found := dict(ranked).get(token)) is not None:
                return Choice(token, found, tuple(ranked[:alternatives]))
        raise TinyForgeError("llama.cpp does not tell the log probability of a part of a character.")

    def finish(self, finish: Finish, text: str = "", reason: str = "") -> None:
        self.ended = True
        text += self._pieces.close()
        self._tell(Event(text, self._new_choices(), finish, self.tokens, len(self.request.ids), reason))

    def _new_choices(self) -> tuple[Choice, ...]:
        told, self._told = self._told, self._pieces.tokens
        return tuple(self._choices[told : self._told])

    def _tell(self, event: Event) -> None:
        try:
            self.request.on_event(event)
        except RuntimeError:  # who asked is gone, and its event loop with it
            self.ticket.cancelled.set()


def _choice(token: int, told: dict[str, Any], alternatives: int) -> Choice:
    ranked = tuple((int(entry["id"]), float(entry["logprob"])) for entry in told["top_logprobs"])
    return Choice(token, float(told["logprob"]), ranked[:alternatives])
