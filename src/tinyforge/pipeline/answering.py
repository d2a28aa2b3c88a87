"""Let a model answer many questions, in batches, so that a stopped evaluation goes on where it was.

Answers are appended to a file after every block of questions and found there again under what they were made from: the
model, the prompt and the reference. Only a block of prompts is held at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from tinyforge.errors import InputError
from tinyforge.evaluate.metrics.base import Answer, references
from tinyforge.evaluate.metrics.grounding import declines
from tinyforge.records import Example, Hit, Message, content_id
from tinyforge.run import explain_os_error

if TYPE_CHECKING:
    from tinyforge.models.generate import Writer
    from tinyforge.models.predict import Predictor

BLOCK = 128  # questions

Hits = Sequence[Sequence[Hit]]
Prompts = Callable[[Example, Sequence[Hit]], list[Message]]


class Respond(Protocol):
    """Answers examples, each with the passages that were found for it."""

    def __call__(self, examples: Sequence[Example], hits: Hits) -> list[Answer]: ...


@dataclass(frozen=True)
class Contender:
    """Something that answers. ``key`` stands for all that its answers depend on besides the question; ``load`` is
    called when the first answer is wanted that is not kept yet. ``reads`` names the run whose passages it is given.
    Answers are kept after every ``block`` questions."""

    name: str
    key: str
    load: Callable[[], Respond]
    reads: str = ""
    block: int = BLOCK


class Store:
    """Kept answers, one JSON object a line; a line that a kill cut off is passed over."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._rows: dict[str, dict[str, Any]] = {}
        for line in path.read_bytes().split(b"\n") if path.is_file() else []:
            with suppress(ValueError):
                row = json.loads(line)
                self._rows[row.pop("key")] = row

    def find(self, key: str, hits: Sequence[Hit]) -> Answer | None:
        row = self._rows.get(key)
        return None if row is None else Answer(**row, hits=tuple(hits))

    def append(self, answers: dict[str, Answer]) -> None:
        """Write the answers behind the others, all at once."""
        lines = []
        for key, answer in answers.items():
            fields = ("text", "nll", "tokens", "declined", "seconds", "written", "swapped", "error", "as_written")
            row = {**{name: getattr(answer, name) for name in fields}, "probabilities": dict(answer.probabilities)}
            self._rows[key] = row
            lines.append(json.dumps({"key": key, **row}, ensure_ascii=False) + "\n")
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("ab") as handle:
                start = b"\n" if handle.tell() else b""  # ends a line that a kill cut off; an empty one is passed over
                handle.write(start + "".join(lines).encode("utf-8"))
        except OSError as error:
            raise explain_os_error(error, self.path) from error


@dataclass
class Asking:
    """Where answers are kept, and how the person hears of them. ``swap``: also ask with other questions' passages."""

    folder: Path
    count: Callable[[str, int, int, float], None] = lambda name, done, total, eta: None
    swap: bool = False
    reused: dict[str, int] = field(default_factory=dict)


def ask(contender: Contender, examples: Sequence[Example], hits: Hits, asking: Asking) -> list[Answer]:
    """The contender's answer to each example, kept ones first looked up; without ``reads``, ``hits`` are not given."""
    store = Store(asking.folder / f"{contender.key}.jsonl")
    given = hits if contender.reads else [()] * len(examples)
    answers: list[Answer] = []
    respond: Respond | None = None
    began, fresh, reused = time.monotonic(), 0, 0
    for start in range(0, len(examples), contender.block):
        block, found = examples[start : start + contender.block], given[start : start + contender.block]
        keys = [_key(example, asking.swap and bool(contender.reads)) for example in block]
        missing = [i for i, key in enumerate(keys) if store.find(key, ()) is None]
        if missing:
            respond = respond or contender.load()
            rows, passages = [block[i] for i in missing], [found[i] for i in missing]
            new = respond(rows, passages)
            if asking.swap and contender.reads:
                new = _swapped(respond, rows, passages, new)
            store.append({keys[i]: answer for i, answer in zip(missing, new, strict=True)})
        fresh, reused = fresh + len(missing), reused + len(block) - len(missing)
        answers += [a for key, passage in zip(keys, found, strict=True) if (a := store.find(key, passage)) is not None]
        left = (time.monotonic() - began) / fresh * (len(examples) - len(answers)) if fresh else 0.0
        asking.count(contender.name, len(answers), len(examples), left)
    asking.reused[contender.name] = asking.reused.get(contender.name, 0) + reused
    return answers


def _key(example: Example, swap: bool) -> str:
    said = [part for message in example.messages for part in (message.role, message.content)]
    return content_id(*said, example.label, "swapped" if swap else "")


def _swapped(respond: Respond, rows: Sequence[Example], passages: Hits, answers: list[Answer]) -> list[Answer]:
    """The answers with what is answered from the next question's passages beside them; a lone question has no next."""
    if len(rows) < 2:
        return answers
    others = respond(rows, [*passages[1:], passages[0]])
    said = [other.text if other.as_written is None else other.as_written for other in others]
    return [replace(answer, swapped=text) for answer, text in zip(answers, said, strict=True)]


# --- what answers ----------------------------------------------------------------------------------------------------


def by_writer(writer: Writer, prompts: Prompts) -> Respond:
    """A causal language model. What it cannot take whole is not answered, and says why."""

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        made = [_prompt(prompts, example, found) for example, found in zip(examples, hits, strict=True)]
        asked = [i for i, prompt in enumerate(made) if not isinstance(prompt, InputError)]
        texts = [made[i] for i in asked]
        began = time.perf_counter()
        written = writer.write_all(texts)
        seconds = (time.perf_counter() - began) / max(1, len(asked))
        nats = likelihoods(writer, texts, [references(examples[i])[0] for i in asked])
        answers = [Answer("", error=str(prompt)) if isinstance(prompt, InputError) else Answer("") for prompt in made]
        for i, answer, (nll, tokens) in zip(asked, written, nats, strict=True):
            text = answer.text.strip()
            answers[i] = Answer(text, nll, tokens, declines(text), seconds=seconds, written=answer.tokens)
        return answers

    return respond


def _prompt(prompts: Prompts, example: Example, hits: Sequence[Hit]) -> Any:
    try:
        return prompts(example, hits)
    except InputError as error:
        return error


def plain_prompts(writer: Writer) -> Prompts:
    """The conversation before the answer; behind its passages, the last question alone."""

    def prompts(example: Example, hits: Sequence[Hit]) -> list[Message]:
        asked = list(example.messages if example.label else example.messages[:-1])
        if hits or len(asked) == 1:
            return writer.prompt(
                str(example.metadata.get("question", example.question)) if hits else asked[0].content, hits
            )
        length, limit = writer.prompt_length(asked), writer.context - writer.max_new_tokens
        if length > limit:
            raise InputError(f"the conversation has {length} tokens; this model takes {limit} before its answer.")
        return asked

    return prompts


def likelihoods(
    writer: Writer, prompts: Sequence[list[Message]], answers: Sequence[str], batch_tokens: int = 16384
) -> list[tuple[float | None, int | None]]:
    """For each prompt the negative log likelihood (nats, summed) of its answer, and the answer's number of tokens.

    None where prompt and answer together are longer than the model takes.
    """
    import torch

    from tinyforge.dataset.batches import plan_epoch
    from tinyforge.dataset.render import render
    from tinyforge.train.loss import row_log_probs
    from tinyforge.train.objectives.base import pad_rows

    pairs = zip(prompts, answers, strict=True)
    rows = [render([*prompt, Message("assistant", answer)], writer.tokenizer, last=True) for prompt, answer in pairs]
    found: list[tuple[float | None, int | None]] = [(None, None)] * len(rows)
    fitting = [i for i, row in enumerate(rows) if len(row.ids) <= writer.context and row.targets]
    for places in plan_epoch([len(rows[i].ids) for i in fitting], batch_tokens, 0, 0):
        chosen = [fitting[int(place)] for place in places]
        batch = pad_rows([rows[i] for i in chosen], writer.tokenizer.pad_token_id or 0)
        device = writer.model.device
        with torch.inference_mode():
            sums_B, counts_B = row_log_probs(writer.model, batch.ids_BT.to(device), batch.labels_BT.to(device))
        for i, total, count in zip(chosen, sums_B.tolist(), counts_B.tolist(), strict=True):
            found[i] = (-total, int(count))
    return found


def by_predictor(predictor: Predictor) -> Respond:
    """A classifier, an encoder-decoder, an extractor or a store of responses."""

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        texts = [example.question for example in examples]
        began = time.perf_counter()
        try:
            found = [Answer(p.text, probabilities=p.probabilities) for p in predictor.predict(texts)]
        except InputError:  # a text that it cannot take whole: the others are answered all the same
            found = [_alone(predictor, text) for text in texts]
        seconds = (time.perf_counter() - began) / max(1, len(texts))
        return [_timed(answer, seconds) for answer in found]

    return respond


def _alone(predictor: Predictor, text: str) -> Answer:
    try:
        prediction = predictor.predict([text])[0]
    except InputError as error:
        return Answer("", error=str(error))
    return Answer(prediction.text, probabilities=prediction.probabilities)


def _timed(answer: Answer, seconds: float) -> Answer:
    return replace(answer, seconds=seconds)


def by_completion(complete: Callable[[list[Message]], str], at_once: int = 4) -> Respond:
    """Any callable from messages to an answer, such as an endpoint, asked a few at a time.

    A question that it refuses is marked; where it refuses all of them, the first refusal is raised.
    """

    def one(example: Example) -> Answer | InputError:
        began = time.perf_counter()
        asked = list(example.messages if example.label else example.messages[:-1])
        try:
            text = complete(asked).strip()
        except InputError as error:
            return error
        return Answer(text, declined=declines(text), seconds=time.perf_counter() - began)

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(at_once) as pool:
            found = list(pool.map(one, examples))
        refused = [answer for answer in found if isinstance(answer, InputError)]
        if refused and len(refused) == len(found):
            raise refused[0]
        return [Answer("", error=str(a)) if isinstance(a, InputError) else a for a in found]

    return respond


def by_quoting(embedder: Any) -> Respond:
    """The best sentence of the passages; no model writes."""

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        from tinyforge.retrieve.quote import quote_many

        began = time.perf_counter()
        quotes = quote_many([example.question for example in examples], hits, embedder)
        seconds = (time.perf_counter() - began) / max(1, len(examples))
        return [Answer(quote.text, seconds=seconds) for quote in quotes]

    return respond


def by_saying(text: str) -> Respond:
    """Always the same: the baseline that a classifier has to beat."""

    def respond(examples: Sequence[Example], hits: Hits) -> list[Answer]:
        return [Answer(text) for _ in examples]

    return respond
