"""Messages into token ids and labels: the one place where it is decided which tokens are learned."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tinyforge.errors import InputError
from tinyforge.records import Example, Message, Tokens

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IGNORED = -100


def _template(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase, prompt: bool) -> str:
    rows = [{"role": m.role, "content": m.content} for m in messages]
    text: str = tokenizer.apply_chat_template(rows, tokenize=False, add_generation_prompt=prompt)
    return text


def prompt_ids(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The ids that a model continues with its answer."""
    ids: list[int] = tokenizer(_template(messages, tokenizer, True), add_special_tokens=False)["input_ids"]
    return ids


def render(messages: Sequence[Message], tokenizer: PreTrainedTokenizerBase) -> Tokens:
    """The whole conversation as ids; labels on every assistant turn, its closing stop token included.

    Each assistant turn is what the template adds after the generation prompt, so any template works whose text for
    a longer conversation continues its text for a shorter one; others raise InputError.
    """
    text = _template(messages, tokenizer, False)
    learned: list[tuple[int, int]] = []
    for index, message in enumerate(messages):
        if message.role != "assistant":
            continue
        before = _template(messages[:index], tokenizer, True)
        after = _template(messages[: index + 1], tokenizer, False)
        if not (after.startswith(before) and text.startswith(after)):
            raise InputError(
                "The model's chat template rewrites earlier turns, so the answer's place in it is not certain.",
                "Use a base with another template.",
            )
        learned.append((len(before), len(after.rstrip("\n"))))
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)
    ids: list[int] = encoded["input_ids"]
    labels = [
        token if any(start <= a and b <= end and a < b for start, end in learned) else IGNORED
        for token, (a, b) in zip(ids, encoded["offset_mapping"], strict=True)
    ]
    return Tokens(ids, labels)


@dataclass
class RenderReport:
    """What rendering did to a set: how many tokens are learned, and which examples were left out and why."""

    rows: int = 0
    tokens: int = 0
    targets: int = 0
    left_out: Counter[str] = field(default_factory=Counter)
    names: list[str] = field(default_factory=list)

    def to_json(self) -> dict[str, Any]:
        return {
            "rows": self.rows,
            "tokens": self.tokens,
            "targets": self.targets,
            "left_out": dict(self.left_out),
            "names": self.names,
        }


def stop_ids(model_or_config: Any, tokenizer: PreTrainedTokenizerBase) -> set[int]:
    """The tokens that end an answer: the generation config's, and the tokenizer's end token."""
    generation = getattr(model_or_config, "generation_config", None)
    found = getattr(generation, "eos_token_id", None)
    ids = set(found if isinstance(found, (list, tuple)) else [] if found is None else [found])
    if tokenizer.eos_token_id is not None:
        ids.add(tokenizer.eos_token_id)
    return ids


def render_all(
    examples: Iterable[Example], tokenizer: PreTrainedTokenizerBase, max_length: int, stops: set[int]
) -> tuple[list[Tokens], RenderReport]:
    """Render every example, and refuse before step 1 what would train badly.

    Examples longer than ``max_length`` are left out whole (never cut), counted and named. Raises InputError when more
    than 1% are too long, when an example has nothing to learn, or when no learned token is one that stops generation.
    """
    report, rows = RenderReport(), []
    for example in examples:
        tokens = render(example.messages, tokenizer)
        if tokens.targets == 0:
            raise InputError(f"example {example.id}: has no token to learn.", "Give it an assistant answer.")
        if len(tokens.ids) > max_length:
            report.left_out[f"longer than {max_length} tokens"] += 1
            report.names.append(example.id)
            continue
        rows.append(tokens)
        report.rows += 1
        report.tokens += len(tokens.ids)
        report.targets += tokens.targets
    total = len(rows) + len(report.names)
    if len(report.names) > 0.01 * total:
        raise InputError(
            f"{len(report.names)} of {total} examples are longer than {max_length} tokens, first {report.names[0]}.",
            "Raise dataset.max_length or shorten retrieve.passage_characters.",
        )
    untrained = [row for row in rows if not any(label in stops for label in row.labels)]
    if untrained:
        raise InputError(
            f"{len(untrained)} of {len(rows)} examples do not train a stop token, so the model would not stop.",
            "The chat template must end an assistant's turn with one of the model's end tokens.",
        )
    return rows, report
