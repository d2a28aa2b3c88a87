"""One side of a conversation: a model, or none; documents, or none; and the reply to the next message."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tinyforge.config import RetrieveConfig
from tinyforge.errors import InputError
from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.recipe import config_of
from tinyforge.records import Hit, Message
from tinyforge.retrieve.knowledge import Knowledge
from tinyforge.run import Run, read_json
from tinyforge.serve.answer import THRESHOLD, Reply, model_of, respond
from tinyforge.serve.budget import Asked, Budget, fit_conversation
from tinyforge.serve.followup import FollowUp, follow_up, may_lean, topic

if TYPE_CHECKING:
    from tinyforge.models.generate import Writer

ANSWER_TOKENS = 256  # for models that converse; what is trained on questions and answers keeps its run's own limit
_CONVERSING = ("sft", "dpo", "distill", "pretrain")

Turns = Sequence[tuple[str, str]]
"""(question, answer), oldest first."""


@dataclass(frozen=True, slots=True)
class Said:
    """A reply, the earlier question that was searched with (or ""), and what went into the prompt (None: no model)."""

    reply: Reply
    context: str
    budget: Budget | None


@dataclass
class Talker:
    """``which`` is the model, ``base`` or ``tuned``, and ``variant`` how documents are answered from.

    ``remembers`` tells whether earlier turns and instructions go into the prompt. What `tinyforge build` made was
    trained on single questions, so there they do not; a follow-up is then understood by what is searched for.
    ``sentences`` is how many of its passages' sentences the model is given (0: the passages whole). ``shots`` are
    examples that go before each question, as turns, where ``variant`` is few-shot.
    """

    name: str
    which: str
    variant: str
    writer: Writer | None
    knowledge: Knowledge | None
    threshold: float = THRESHOLD
    passages: int = 3
    remembers: bool = False
    run: Run | None = None
    sentences: int = 0
    shots: Turns = ()

    @classmethod
    def open(
        cls,
        name: str,
        variant: str | None = None,
        knowledge: Sequence[str] = (),
        section_characters: int = 0,
        reranker: str = "",
    ) -> Talker:
        """A run's folder, or a base by name or folder; with other knowledge bases beside what the run holds.

        Raises InputError for what cannot hold a conversation.
        """

        def opened(*places: str | Path) -> Knowledge | None:
            return Knowledge.open(places, section_characters, reranker) if places else None

        if not (Path(name) / "run.json").is_file():
            chosen = _chosen(name, variant, "base", knowledge)
            writer = _base_writer(name)
            shown = _shown_sentences(writer)
            return cls(name, "base", chosen, writer, opened(*knowledge), remembers=True, sentences=shown)
        run = Run.open(name)
        if read_json(run.path("run.json"))["command"] in ("build", "demo") or run.path("answering.json").is_file():
            return cls._of_build(run, variant, lambda: opened(run.path("index"), *knowledge))
        chosen = _chosen(name, variant, "tuned", knowledge)
        writer = _run_writer(run)
        shown = _shown_sentences(writer)
        return cls(name, "tuned", chosen, writer, opened(*knowledge), remembers=True, run=run, sentences=shown)

    @classmethod
    def _of_build(cls, run: Run, variant: str | None, knowledge: Callable[[], Knowledge | None]) -> Talker:
        from tinyforge.serve.load import Answerer

        answerer = Answerer.open(run.folder, variant)
        return cls(
            str(run.folder),
            model_of(answerer.variant),
            answerer.variant,
            answerer.writer,
            knowledge(),  # only now: an unfinished build has been named by its own message
            answerer.threshold,
            answerer.passages,
            run=run,
            sentences=answerer.sentences,
            shots=answerer.shots if answerer.variant == "few-shot" else (),
        )

    @property
    def answer_tokens(self) -> int:
        if self.writer is None:
            return 0
        return min(ANSWER_TOKENS, self.writer.context // 4) if self.remembers else self.writer.max_new_tokens

    @cached_property
    def _takes_system(self) -> bool:
        """Whether the model's template knows system messages."""
        assert self.writer is not None
        try:
            self.writer.prompt_length([Message("system", "x"), Message("user", "x")])
        except InputError:
            return False
        return True

    def reply(
        self,
        question: str,
        earlier: Turns = (),
        *,
        rag: bool = True,
        instructions: str = "",
        sampling: Sampling = GREEDY,
        on_token: Callable[[str], None] | None = None,
    ) -> Said:
        """The reply to ``question`` after the ``earlier`` turns; out of the documents where there are any and ``rag``.

        Raises InputError for a question that is empty or too long, and when there is nothing to answer with.
        """
        if self.knowledge is None or not rag:
            return self._by_model_alone(question, earlier, instructions, sampling, on_token)
        budgets: list[Budget] = []

        def prompt(asked: str, hits: Sequence[Hit]) -> list[Message]:
            messages, budget = self.prompt(asked, earlier, hits, instructions)
            budgets.append(budget)
            return messages

        found = self.follow_up(question, earlier)
        reply = respond(
            question,
            variant=self.variant,
            index=self.knowledge,
            complete=self._stream(sampling) if self.writer else None,
            prompt=prompt,
            threshold=self.threshold,
            k=self.passages,
            on_token=on_token,
            context=found.context,
            sentences=self.sentences,
        )
        return Said(reply, found.context, budgets[0] if budgets else None)

    def follow_up(self, question: str, earlier: Turns) -> FollowUp:
        """What to search with; a short question that finds nothing by itself leans on the one before it."""
        asked = [before for before, _ in earlier]
        found = follow_up(question, asked)
        if found.context or self.knowledge is None or not (asked and may_lean(question)):
            return found
        best = max(hit.similarity for hit in self.knowledge.search(question, self.passages))
        return FollowUp(question, topic(asked) if best < self.threshold else "")

    def prompt(
        self, question: str, earlier: Turns, hits: Sequence[Hit], instructions: str
    ) -> tuple[list[Message], Budget]:
        """What a model is given, as far as it fits. Raises InputError without a model."""
        if self.writer is None:
            raise InputError(f"{self.name}: answers by quoting, without a model.", "Say --variant tuned to load one.")
        shown = self.shots and self.shots[: self.writer.few_shot(question, self.shots)[1]]
        asked = Asked(question, tuple(shown), tuple(hits))
        if self.remembers:
            asked = replace(asked, turns=tuple(earlier), instructions=instructions)
        limit = self.writer.context - self.answer_tokens
        takes_system = bool(asked.instructions or asked.turns) and self._takes_system
        return fit_conversation(asked, self.writer.prompt_length, limit, self.answer_tokens, takes_system)

    def _by_model_alone(
        self,
        question: str,
        earlier: Turns,
        instructions: str,
        sampling: Sampling,
        on_token: Callable[[str], None] | None,
    ) -> Said:
        if not question.strip():
            raise InputError("the message is empty.", "Say something.")
        messages, budget = self.prompt(question, earlier, (), instructions)
        parts = []
        for piece in self._stream(sampling)(messages):
            parts.append(piece)
            if on_token is not None:
                on_token(piece)
        return Said(Reply("".join(parts).strip(), (), False, self.which), "", budget)

    def _stream(self, sampling: Sampling) -> Callable[[list[Message]], Iterator[str]]:
        writer = self.writer
        assert writer is not None
        limited = replace(sampling, max_new_tokens=sampling.max_new_tokens or self.answer_tokens)
        return lambda messages: writer.stream(messages, limited)


def _chosen(name: str, variant: str | None, which: str, knowledge: Sequence[str]) -> str:
    """The variant of a model that has no documents of its own. Raises InputError for one that it has not."""
    known = (which, f"{which}+retrieval", "quote") if knowledge else (which,)
    if variant not in (None, *known):
        raise InputError(f"{name}: has no variant {variant!r}.", f"It has: {', '.join(known)}.")
    return variant or f"{which}+retrieval"


def _shown_sentences(writer: Writer) -> int:
    """What a model that was not trained on this knowledge is given of it, by its size."""
    return RetrieveConfig().shown_sentences(writer.model.num_parameters())


def _base_writer(name: str) -> Writer:
    from tinyforge.models.generate import Writer
    from tinyforge.models.machine import choose_precision, set_threads
    from tinyforge.models.resolve import load_model, load_tokenizer, resolve

    base = resolve(name)
    set_threads(0)
    model: Any = load_model(base.folder, choose_precision("auto"))
    return Writer(model, load_tokenizer(base.folder), ANSWER_TOKENS)


def _run_writer(run: Run) -> Writer:
    """The trained model of a run that has no documents."""
    from tinyforge.models.predict import kind_of
    from tinyforge.serve.load import load_writer

    if not (run.path("model").is_dir() or run.path("adapter").is_dir()):
        raise InputError(
            f"{run.folder}: the training has not finished.",
            "Run the same command again; it continues where it stopped.",
        )
    summary = read_json(run.path("train.json")) if run.path("train.json").is_file() else {}
    labels = run.path("model").is_dir() and kind_of(run.path("model")) != "sft"
    if labels or summary.get("objective", "sft") not in _CONVERSING:
        raise InputError(f"{run.folder}: its model does not converse.", f"Ask it: tinyforge predict {run.folder} TEXT")
    return load_writer(run, "tuned", config_of(run))
