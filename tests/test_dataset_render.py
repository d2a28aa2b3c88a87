"""Which tokens are learned; and what must be refused before a first step."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

from little import make_base
from tinyforge.dataset.prompts import fit, with_passages
from tinyforge.dataset.render import prompt_ids, render, render_all, render_example, sequences, survey
from tinyforge.errors import InputError
from tinyforge.models.resolve import load_tokenizer, saved_stop_ids
from tinyforge.records import Example, Hit, Message, Span, Tokens
from tinyforge.train.objectives.base import pad_rows


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
    other = copy.deepcopy(tokenizer)
    other.chat_template = "{{ messages | length }}{% for m in messages %}{{ m['content'] }}<|end|>{% endfor %}"
    with pytest.raises(InputError, match="rewrites earlier turns"):
        render(chat("Hi", "Yes"), other)


def test_an_untrained_stop_token_is_refused(tokenizer: Any) -> None:
    example = Example("e1", chat("Hi", "Yes"))
    render_all([example], tokenizer, 64, stops(tokenizer))
    endless = copy.deepcopy(tokenizer)
    endless.chat_template = "{% for m in messages %}{{ m['content'] }} {% endfor %}"
    with pytest.raises(InputError, match="do not train a stop token"):
        render_all([example], endless, 64, stops(tokenizer))


def test_long_examples_are_left_out_whole_and_named(tokenizer: Any) -> None:
    """What counts is the share of what would be learned, here n / (n + 99 n), and then a little more."""
    long = Example("long", chat("Hi", "tool " * 12))
    weight = render(long.messages, tokenizer).targets
    short = Example("s", chat("Hi", "Yes"))
    enough = 99 * weight // render(short.messages, tokenizer).targets + 1
    rows, report = render_all([*[short] * enough, long], tokenizer, 12, stops(tokenizer))
    assert len(rows) == enough and report.names == ["long"] and report.left_out == {"longer than 12 tokens": 1}
    assert report.lengths[-1] == len(render(long.messages, tokenizer).ids)
    with pytest.raises(InputError, match=r"longer than 12 tokens, first long; 1.0% of what would be learned"):
        render_all([*[short] * (enough - 2), long], tokenizer, 12, stops(tokenizer))
    with pytest.raises(InputError, match=r"1 of 6 examples are longer than 12 tokens, first long"):
        render_all([*[short] * 5, long], tokenizer, 12, stops(tokenizer))
    dev, _ = render_all([*[short] * 5, long], tokenizer, 12, stops(tokenizer), beside=99 * weight)
    assert len(dev) == 5  # of a small part of a large set, one too long is no reason to stop
    with pytest.raises(InputError, match="1 of 1 examples are longer"):
        render_all([long], tokenizer, 12, stops(tokenizer), beside=99 * weight)


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


# --- every token, pairs, texts ----------------------------------------------------------------------------------------


def words(tokens: Tokens, tokenizer: Any) -> str:
    """What is learned, stretches of it between bars."""
    shown, before = "", False
    for place, (token, label) in enumerate(zip(tokens.ids, tokens.labels, strict=True)):
        learned = label == token and place > 0
        shown += "|" * (learned != before) + (tokenizer.decode([token]) if learned else "")
        before = learned
    return shown + "|" * before


def test_everything_learns_all_tokens_of_the_same_ids(tokenizer: Any) -> None:
    messages = chat("Hi", "Yes", "And?", "No 7")
    some, every, last = (render(messages, tokenizer, **way) for way in ({}, {"everything": True}, {"last": True}))
    assert every.labels == every.ids == some.ids == last.ids
    assert words(some, tokenizer) == "|Yes<|end|>||No 7<|end|>|"
    assert words(last, tokenizer) == "|No 7<|end|>|"
    rows, report = render_all([Example("e", messages)], tokenizer, 64, stops(tokenizer), everything=True)
    assert rows == [every] and report.targets == len(every.ids) - 1


def test_a_preference_is_two_sequences_that_learn_their_last_answers(tokenizer: Any) -> None:
    example = Example("p", chat("Hi", "Yes", "And?", "No 7"), rejected="Bad")
    tokens = render_example(example, tokenizer)
    better, worse = sequences(tokens)
    assert tokens.border == len(better.ids)
    assert [words(side, tokenizer) for side in (better, worse)] == ["|No 7<|end|>|", "|Bad<|end|>|"]
    assert better.ids == render(example.messages, tokenizer).ids
    long = Example("long", chat("Hi", "Yes"), rejected="tool " * 80)
    assert survey([long], tokenizer, 64, stops(tokenizer))[1].names == ["long"]


def test_running_text_is_cut_and_nothing_is_lost(tokenizer: Any) -> None:
    text = Example("t", (), text="A loan is an agreement to bring a tool back. " * 12)
    (whole,), _ = render_all([text], tokenizer, 1000, stops(tokenizer))
    rows, report = render_all([text], tokenizer, 40, stops(tokenizer))
    assert report.pieces == 1 and report.left_out == {} and report.rows == len(rows) > 1
    assert max(len(row.ids) for row in rows) == 40
    predicted = [label for row in rows for label in row.labels[1:]]
    assert predicted == whole.ids[1:] and whole.ids[0] == whole.ids[-1] == tokenizer.eos_token_id
    assert report.targets == sum(row.targets for row in rows) == whole.targets


def test_a_labelled_example_is_its_input(tokenizer: Any) -> None:
    labelled = Example("l", (Message("user", "What is a loan?"),), label="question")
    rows, report = render_all([labelled], tokenizer, 64, stops(tokenizer))
    assert set(rows[0].labels) == {-100} and report.refusals == []


def test_refusals_name_the_line_they_come_from(tokenizer: Any) -> None:
    place = {"source": "d.jsonl", "line": 9}
    with pytest.raises(InputError, match=r"^d.jsonl:9: has no token to learn"):
        render_all([Example("e", (Message("user", "Hi"),), metadata=place)], tokenizer, 64, stops(tokenizer))


# --- templates of other families --------------------------------------------------------------------------------------

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
QWEN3 = (  # an empty thinking block before the answer that ends the conversation
    "{% for m in messages %}<|im_start|>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "{{ bos_token }}{% for m in messages %}<|start_header_id|>{{ m.role }}<|end_header_id|>\n\n"
    "{{ m.content | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
    "{% for m in messages %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "<start_of_turn>{{ 'model' if m.role == 'assistant' else m.role }}\n{{ m.content | trim }}<end_of_turn>\n"
    "{% endfor %}{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)
MISTRAL = (
    "{{ bos_token }}{% for m in messages %}{% if m.role == 'user' %}[INST] {{ m.content }} [/INST]"
    "{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}"
)
MISTRAL_LATE = (  # the system text goes into the last question, which moves as the conversation grows
    "{% for m in messages %}{% if m.role == 'user' %}[INST] "
    "{% if messages[0].role == 'system' and (loop.last or loop.index == messages | length - 1) %}"
    "{{ messages[0].content }} {% endif %}"
    "{{ m.content }}[/INST]{% elif m.role == 'assistant' %} {{ m.content }}{{ eos_token }}{% endif %}{% endfor %}"
)
MARKS = {
    CHATML: ("<|im_start|>", "<|im_end|>"),
    QWEN3: ("<|im_start|>", "<|im_end|>"),
    LLAMA3: ("<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"),
    GEMMA: ("<start_of_turn>", "<end_of_turn>"),
    MISTRAL: ("[INST]", "[/INST]"),
    MISTRAL_LATE: ("[INST]", "[/INST]"),
}
STOP = {CHATML: "<|im_end|>", QWEN3: "<|im_end|>", LLAMA3: "<|eot_id|>", GEMMA: "<end_of_turn>"}


def small(template: str | None, padding: str | None = "<pad>") -> Any:
    """A byte-level BPE tokenizer that joins spaces with words, with the special tokens of a family."""
    inner = Tokenizer(models.BPE())
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>", *([padding] if padding else []), *MARKS.get(template or "", ())]
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=special,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    inner.train_from_iterator([" Yes No And Hi assistant user model think" * 50, "\n\n" * 50], trainer)
    made = PreTrainedTokenizerFast(tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token=padding)
    made.chat_template = template
    return made


def stop_of(template: str, tokenizer: Any) -> set[int]:
    return {tokenizer.convert_tokens_to_ids(STOP.get(template, "</s>"))}


@pytest.mark.parametrize(
    ("template", "learned"),
    [
        (CHATML, "|Yes<|im_end|>||No<|im_end|>|"),
        (QWEN3, "|Yes<|im_end|>||<think>\n\n</think>\n\nNo<|im_end|>|"),
        (LLAMA3, "|Yes<|eot_id|>||No<|eot_id|>|"),
        (GEMMA, "|Yes<end_of_turn>||No<end_of_turn>|"),
        (MISTRAL, "| Yes</s>|| No</s>|"),
    ],
)
def test_the_answers_and_their_stop_token_are_learned_under_each_template(template: str, learned: str) -> None:
    tokenizer = small(template)
    tokens = render(chat("Hi", "Yes", "And?", "No"), tokenizer)
    assert words(tokens, tokenizer) == learned
    assert tokens.ids.count(next(iter(stop_of(template, tokenizer)))) >= 2
    prompt = prompt_ids(chat("Hi"), tokenizer)
    assert tokens.ids[: len(prompt)] == prompt
    render_all([Example("e", chat("Hi", "Yes"))], tokenizer, 64, stop_of(template, tokenizer))


def test_a_stop_token_that_the_template_never_writes_is_refused() -> None:
    """The control: Llama-3's template under a generation that would stop at </s> only."""
    tokenizer = small(LLAMA3)
    with pytest.raises(InputError, match="1 of 1 examples do not train a stop token"):
        render_all([Example("e", chat("Hi", "Yes"))], tokenizer, 64, {tokenizer.eos_token_id})


@pytest.mark.parametrize(("template", "reason"), [(GEMMA, "System role not supported"), (MISTRAL, "Only user and")])
def test_a_system_message_that_the_template_refuses_is_said(template: str, reason: str) -> None:
    messages = (Message("system", "Be brief."), *chat("Hi", "Yes"))
    with pytest.raises(InputError, match=f"example e: the model's chat template refuses .*{reason}.* Move the system"):
        render_all([Example("e", messages)], small(template), 64, set())
    assert words(render(messages, small(CHATML)), small(CHATML)) == "|Yes<|im_end|>|"


def test_other_refusals_of_a_template_are_said() -> None:
    with pytest.raises(InputError, match="refuses this conversation: Conversation roles must alternate"):
        render([Message("user", "Hi"), *chat("Hi", "Yes")], small(GEMMA))
    with pytest.raises(InputError, match="starts with an answer"):
        render(chat("Hi", "Yes")[1:], small(CHATML))
    with pytest.raises(InputError, match="has no chat template"):
        render(chat("Hi", "Yes"), small(None))
    system = Message("system", "Be brief.")
    assert words(render([system, *chat("Hi", "Yes")], small(MISTRAL_LATE)), small(MISTRAL_LATE)) == "| Yes</s>|"
    with pytest.raises(InputError, match="rewrites earlier turns"):
        render([system, *chat("Hi", "Yes", "And?", "No")], small(MISTRAL_LATE))


def test_no_token_reaches_across_the_end_of_a_prompt() -> None:
    """A prompt that ends with a space: in one piece " Yes" would be one token, half of it outside the answer."""
    tokenizer = small(
        "{% for m in messages %}{{ m.role }}: {{ m.content }}{{ eos_token if m.role == 'assistant' }}"
        "{% endfor %}{{ 'assistant: ' if add_generation_prompt }}"
    )
    whole = tokenizer("user: Hiassistant: Yes</s>")["input_ids"]
    assert tokenizer.convert_tokens_to_ids("\u0120Yes") in whole
    tokens, prompt = render(chat("Hi", "Yes"), tokenizer), prompt_ids(chat("Hi"), tokenizer)
    assert tokens.ids[: len(prompt)] == prompt and words(tokens, tokenizer) == "|Yes</s>|"
    assert tokenizer.decode(tokens.ids) == tokenizer.decode(whole)


@pytest.mark.parametrize("padding", ["<pad>", None])
def test_a_tokenizer_without_template_or_padding_still_learns_to_stop(tmp_path: Path, padding: str | None) -> None:
    small(None, padding).save_pretrained(tmp_path)
    (tmp_path / "config.json").write_text('{"model_type": "llama", "eos_token_id": 1}')
    tokenizer = load_tokenizer(tmp_path)
    assert (tokenizer.pad_token_id == tokenizer.eos_token_id) is (padding is None)
    assert saved_stop_ids(tmp_path, tokenizer) == {tokenizer.eos_token_id} == {1}
    examples = [Example("a", chat("Hi", "Yes")), Example("b", chat("Hi", "Yes", "And?", "No No No"))]
    rows, _ = render_all(examples, tokenizer, 64, {1})
    assert words(rows[1], tokenizer) == "| Yes</s>|| No No No</s>|"
    batch = pad_rows(rows, tokenizer.pad_token_id)
    labelled = batch.labels_BT != -100
    assert ((batch.ids_BT == 1) & labelled).sum(1).tolist() == [1, 2]  # every stop token is learned, and no padding
    assert not labelled[0, len(rows[0].ids) :].any() and bool((batch.ids_BT == batch.labels_BT)[labelled].all())


def test_the_stop_tokens_of_a_folder_come_from_its_generation_config(tmp_path: Path) -> None:
    tokenizer = small(LLAMA3)
    (tmp_path / "config.json").write_text('{"eos_token_id": 1}')
    (tmp_path / "generation_config.json").write_text('{"eos_token_id": [1, 5]}')
    assert saved_stop_ids(tmp_path, tokenizer) == {1, 5}
