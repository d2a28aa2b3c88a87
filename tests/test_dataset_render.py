"""Which tokens are learned; and what must be refused before a first step."""

from __future__ import annotations

from typing import Any

import pytest
from transformers import AutoTokenizer

from little import make_base
from tinyforge.dataset.prompts import fit, with_passages
from tinyforge.dataset.render import prompt_ids, render, render_all
from tinyforge.errors import InputError
from tinyforge.records import Example, Hit, Message, Span


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return AutoTokenizer.from_pretrained(make_base(tmp_path_factory.mktemp("base")))


def chat(*texts: str) -> tuple[Message, ...]:
    return tuple(Message("assistant" if i % 2 else "user", text) for i, text in enumerate(texts))


def stops(tokenizer: Any) -> set[int]:
    return {tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.eos_token_id}


def test_learned_tokens_by_hand(tokenizer: Any) -> None:
    tokens = render(chat("Hi", "Yes", "And?", "No 7"), tokenizer)
    learned = [
        tokenizer.convert_ids_to_tokens(i) for i, label in zip(tokens.ids, tokens.labels, strict=True) if label >= 0
    ]
    assert "".join(learned).replace("Ġ", " ") == "Yes<|end|>No 7<|end|>"
    assert all(label in (-100, i) for i, label in zip(tokens.ids, tokens.labels, strict=True))
    assert (
        tokenizer.decode(tokens.ids)
        == "<|user|>Hi<|end|><|assistant|>Yes<|end|><|user|>And?<|end|><|assistant|>No 7<|end|>"
    )


def test_the_prompt_is_a_prefix_of_what_is_trained(tokenizer: Any) -> None:
    messages = chat("What is a loan?", "An agreement.")
    prompt = prompt_ids(messages[:1], tokenizer)
    whole = render(messages, tokenizer)
    assert whole.ids[: len(prompt)] == prompt and set(whole.labels[: len(prompt)]) == {-100}
    assert whole.labels[len(prompt) :] == whole.ids[len(prompt) :]


def test_a_template_that_rewrites_turns_is_refused(tokenizer: Any) -> None:
    import copy

    other = copy.deepcopy(tokenizer)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    with pytest.raises(InputError, match="rewrites earlier turns"):
        render(chat("Hi", "Yes"), other)


def test_an_untrained_stop_token_is_refused(tokenizer: Any) -> None:
    import copy

    example = Example("e1", chat("Hi", "Yes"))
    render_all([example], tokenizer, 64, stops(tokenizer))
    endless = copy.deepcopy(tokenizer)
    endless.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    with pytest.raises(InputError, match="do not train a stop token"):
        render_all([example], endless, 64, stops(tokenizer))


def test_long_examples_are_left_out_whole_and_named(tokenizer: Any) -> None:
    long = Example("long", chat("Hi", "tool " * 80))
    short = [Example(f"s{i}", chat("Hi", "Yes")) for i in range(150)]
    rows, report = render_all([*short, long], tokenizer, 64, stops(tokenizer))
    assert len(rows) == 150 and report.names == ["long"] and report.left_out == {"longer than 64 tokens": 1}
    with pytest.raises(InputError, match=r"1 of 6 examples are longer than 64 tokens, first long"):
        render_all([*short[:5], long], tokenizer, 64, stops(tokenizer))


def test_an_example_without_a_target_is_refused(tokenizer: Any) -> None:
    with pytest.raises(InputError, match="example e1: has no token to learn"):
        render_all([Example("e1", (Message("user", "Hi"),))], tokenizer, 64, stops(tokenizer))


def test_fit_drops_the_lowest_passages_and_says_how_many() -> None:
    hits = [Hit(Span("d", 0, 1), "word " * 10, "s", ("A",), 1.0, 1.0) for _ in range(3)]

    def words(messages: list[Message]) -> int:
        return sum(len(m.content.split()) for m in messages)

    everything, dropped = fit("why?", hits, words, 1000)
    assert dropped == 0 and everything == with_passages("why?", [("A", "word " * 10)] * 3)
    _, dropped = fit("why?", hits, words, words(everything) - 1)
    assert dropped == 1
    messages, dropped = fit("why?", hits, words, 5)
    assert dropped == 3 and messages == [Message("user", "why?")]
