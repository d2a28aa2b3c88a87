"""Messages into token ids and labels: the one place where it is decided which tokens are learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyforge.dataset.template import answer_place, conversation_text, encode_text
from tinyforge.errors import InputError
from tinyforge.records import Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100
MOST_LOST = 0.01  # of what would be learned, in examples that are too long


def prompt_ids(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a model continues with its answer."""
    ids: list[int] = tokenizer(conversation_text(messages, tokenizer, True), add_special_tokens=False)["input_ids"]
    return ids


def render(
    messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, everything: bool = False, last: bool = False
) -> Tokens:
    """The whole conversation as ids; labels on every assistant turn, its closing stop token included.

    ``everything`` labels every token instead, ``last`` the last assistant turn alone; the ids are the same. What
    :func:`prompt_ids` gives for the messages before the first answer is exactly how the ids begin.
    Each assistant turn is what the template adds after the generation prompt, so any template works whose text for
    a longer conversation continues its text for a shorter one; others raise InputError, as does a conversation that
    the template refuses.
    """
    text = conversation_text(messages, tokenizer, False)
    turns = [answer_place(messages, i, tokenizer, text) for i, m in enumerate(messages) if m.role == "assistant"]
    ids, offsets = encode_text(text, tokenizer, [start for start, _ in turns])
    if everything:
        return Tokens(ids, list(ids))
    learned = turns[-1:] if last else turns
    labels = [
        token if any(start <= a and b <= end and a < b for start, end in learned) else IGNORED
        for token, (a, b) in zip(ids, offsets, strict=True)
    ]
    return Tokens(ids, labels)


def render_text(text: str, tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """Running text between two end tokens, all of it learned. Raises InputError when the tokenizer has no end token."""
    end = tokenizer.eos_token_id
    if end is None:
        raise InputError("the tokenizer has no end token, so texts cannot be told apart.", "Use another base.")
    ids = [end, *tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"], end]
    return Tokens(ids, list(ids))


def render_example(example: Example, tokenizer: PreTrainedTokenizerBase, everything: bool = False) -> Tokens:
    """An example of any kind as one row: see :func:`render` and :func:`render_text`.

    A preference pair is its better and its worse conversation end to end, ``border`` between them, labels on the last
    answers alone. A labelled example has no labels among its tokens: what is learned is its class.
    """
    if example.kind == "text":
        return render_text(example.text, tokenizer)
    if example.kind == "labelled":
        ids = tokenizer(example.question, verbose=False)["input_ids"]
        return Tokens(ids, [IGNORED] * len(ids))
    if example.kind == "chat":
        return render(example.messages, tokenizer, everything)
    better = render(example.messages, tokenizer, last=True)
    worse = render([*example.messages[:-1], Message("assistant", example.rejected)], tokenizer, last=True)
    return Tokens(better.ids + worse.ids, better.labels + worse.labels, len(better.ids))


def sequences(tokens: Tokens) -> tuple[Tokens, ...]:
    """The one or two sequences that a row holds."""
    if not tokens.border:
        return (tokens,)
    at = tokens.border
    return Tokens(tokens.ids[:at], tokens.labels[:at]), Tokens(tokens.ids[at:], tokens.labels[at:])


def stop_ids(model_or_config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end an answer: the generation config's, and the tokenizer's end token."""
    generation = getattr(model_or_config, "generation_config", None)
    found = getattr(generation, "eos_token_id", None)
    ids = set(found if isinstance(found, (list, tuple)) else [] if found is None else [found])
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return ids


@dataclass
class RenderReport:
    """What rendering did to a set: how many tokens are learned, and which examples were left out and why.

    ``lengths`` holds the tokens of the longest sequence of each example, the left-out ones included; ``pieces`` counts
    the texts that were cut into several sequences, of which nothing is lost. ``refusals`` says why the set cannot be
    trained on: empty when it can.
    """

    rows: int = 0
    tokens: int = 0
    targets: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)
    pieces: int = 0
    lengths: list[int] = field(default_factory=list)
    refusals: list[InputError] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "targets": self.targets,
            "left_out": dict(self.left_out),
            "names": self.names,
            "cut_in_pieces": self.pieces,
        }


def render_all(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stops: set[int],
    everything: bool = False,
    beside: int = 0,
) -> tuple[list[Tokens], RenderReport]:
    """Render every example, and refuse before step 1 what would train badly.

    Examples longer than ``max_length`` are left out whole, counted and named; running text is cut into sequences
    instead. Raises InputError when that leaves out everything, or more than 1% of what would be learned here and in
    the ``beside`` tokens of the set's other part, when an example has nothing to learn or does not fit the template,
    or when one does not train a token of ``stops``.
    """
    rows, report = survey(examples, tokenizer, max_length, stops, everything, beside)
    if report.refusals:
        raise report.refusals[0]
    return rows, report


def survey(
    examples: Iterable[Example],
    tokenizer: PreTrainedTokenizerBase,
    max_length: int,
    stops: set[int],
    everything: bool = False,
    beside: int = 0,
) -> tuple[list[Tokens], RenderReport]:
    """The same as :func:`render_all`, with the refusals in the report instead of raised."""
    report, rows = RenderReport(), list[Tokens]()
    endless, refused, lost, total = list[str](), list[InputError](), 0, 0
    for example in examples:
        total += 1
        try:
            tokens = render_example(example, tokenizer, everything)
        except InputError as error:
            refused.append(InputError(f"{place_of(example)}: {error.message}", error.fix))
            continue
        sides = sequences(tokens)
        labelled = example.kind == "labelled"
        if not labelled and any(side.targets == 0 for side in sides):
            refused.append(InputError(f"{place_of(example)}: has no token to learn.", "Give it an assistant answer."))
            continue
        if not labelled and any(stops.isdisjoint(side.labels) for side in sides):
            endless.append(place_of(example))
        lost += _add(report, rows, example, tokens, max_length)
    report.refusals = [*_several(refused), *_too_much_lost(report, lost, total, max_length, beside)]
    if endless:
        report.refusals.append(
            InputError(
                f"{len(endless)} of {total} examples do not train a stop token, so the model would not stop "
                f"(first {endless[0]}).",
                "The chat template must end an assistant's turn with one of the model's end tokens.",
            )
        )
    return rows, report


def _add(report: RenderReport, rows: list[Tokens], example: Example, tokens: Tokens, max_length: int) -> int:
    """Take the example over, whole or in pieces; returns how much to learn is lost when it is left out."""
    longest = max(len(side.ids) for side in sequences(tokens))
    report.lengths.append(longest)
    targets = max(1, tokens.targets)
    if longest > max_length and example.kind != "text":
        report.left_out[f"longer than {max_length} tokens"] += 1
        report.names.append(_name(example))
        return targets
    made = _cut(tokens, max_length) if longest > max_length else [tokens]
    report.pieces += len(made) > 1
    rows += made
    report.rows += len(made)
    report.tokens += sum(len(row.ids) for row in made)
    report.targets += targets
    return 0


def _cut(tokens: Tokens, length: int) -> list[Tokens]:
    """Sequences that overlap by one token, so that every token but the first is predicted exactly once."""
    starts = range(0, len(tokens.ids) - 1, length - 1)
    return [Tokens(tokens.ids[i : i + length], tokens.labels[i : i + length]) for i in starts]


def _too_much_lost(report: RenderReport, lost: int, total: int, max_length: int, beside: int) -> list[InputError]:
    share = lost / max(1, lost + report.targets + (beside if report.rows else 0))
    if share <= MOST_LOST:
        return []
    return [
        InputError(
            f"{len(report.names)} of {total} examples are longer than {max_length} tokens, first {report.names[0]}; "
            f"{share:.1%} of what would be learned is in them.",
            "Raise dataset.max_length or make them shorter (retrieve.passage_characters, where they hold passages).",
        )
    ]


def _several(refused: list[InputError]) -> list[InputError]:
    """The first of them, with how many more there are."""
    if len(refused) < 2:
        return refused
    first = refused[0]
    return [InputError(f"{first.message} So it is with {len(refused) - 1} more.", first.fix)]


def _name(example: Example) -> str:
    """``file:line`` where it was read from one, else its id."""
    source, line = example.metadata.get("source"), example.metadata.get("line")
    return f"{source}:{line}" if line else example.id


def place_of(example: Example) -> str:
    """How messages name an example."""
    return _name(example) if example.metadata.get("line") else f"example {example.id}"
