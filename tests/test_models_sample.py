"""Sampling: the filters are those of transformers, seeds are a row's own, stop texts and reports are exact."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch

from little import make_lively_base
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.pieces import Pieces
from tinyforge.models.resolve import load_model, load_tokenizer
from tinyforge.models.sample import Chooser, narrow, report
from tinyforge.models.sampling import GREEDY, Sampling
from tinyforge.records import Message

PROMPTS = [[Message("user", text)] for text in ("What is a loan?", "Why is there a fee?", "Who lends tools to whom?")]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    folder = make_lively_base(tmp_path_factory.mktemp("base"))
    return Writer(load_model(folder, "fp32"), load_tokenizer(folder), 24)


# --- the filters -----------------------------------------------------------------------------------------------------

OPTIONS: list[dict[str, Any]] = [
    {"temperature": 0.7},
    {"temperature": 1.0, "top_k": 5},
    {"temperature": 1.3, "top_p": 0.8},
    {"temperature": 1.0, "top_p": 0.01},
    {"temperature": 0.9, "min_p": 0.2},
    {"temperature": 2.0, "top_k": 40, "top_p": 0.9, "min_p": 0.05},
]


def theirs(scores_V: torch.Tensor, options: dict[str, Any]) -> torch.Tensor:
    from transformers.generation import logits_process as hf

    chain: list[Any] = [hf.TemperatureLogitsWarper(options["temperature"])]
    if "top_k" in options:
        chain.append(hf.TopKLogitsWarper(options["top_k"]))
    if "top_p" in options:
        chain.append(hf.TopPLogitsWarper(options["top_p"]))
    if "min_p" in options:
        chain.append(hf.MinPLogitsWarper(options["min_p"]))
    scores = scores_V[None]
    for step in chain:
        scores = step(torch.zeros((1, 1), dtype=torch.long), scores)
    return scores[0]


@pytest.mark.parametrize("options", OPTIONS)
def test_filters_equal_those_of_transformers(options: dict[str, Any]) -> None:
    for seed in range(20):
        scores_V = 3 * torch.randn(300, generator=torch.Generator().manual_seed(seed))
        ours = narrow(scores_V, Sampling(**options))
        assert torch.equal(ours, theirs(scores_V, options))
        assert not torch.equal(ours, narrow(scores_V, Sampling(temperature=0.5)))  # the control: options matter


def test_repetition_penalty_equals_that_of_transformers() -> None:
    from transformers.generation.logits_process import RepetitionPenaltyLogitsProcessor

    scores_V = torch.randn(50, generator=torch.Generator().manual_seed(1))
    chooser = Chooser(Sampling(repetition_penalty=1.7), [3, 4, 4, 9])
    chooser.take(12)
    expected: Any = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[3, 4, 4, 9, 12]]), scores_V[None].clone())
    assert torch.equal(chooser._penalise(scores_V), expected[0])


def test_frequency_and_presence_by_hand() -> None:
    chooser = Chooser(Sampling(frequency_penalty=0.5, presence_penalty=0.25), [0])
    for token in (1, 1, 2):
        chooser.take(token)
    got = chooser._penalise(torch.tensor([1.0, 1.0, 1.0, 1.0]))
    assert got.tolist() == [1.0, 1 - 2 * 0.5 - 0.25, 1 - 0.5 - 0.25, 1.0]  # the prompt's token is not counted


def test_draws_follow_the_probabilities() -> None:
    scores_V = torch.tensor([0.5, 0.3, 0.2]).log()
    chooser = Chooser(Sampling(temperature=1.0, seed=3), [])
    counts = torch.bincount(torch.tensor([chooser.choose(scores_V) for _ in range(4000)]), minlength=3) / 4000
    assert torch.allclose(counts, torch.tensor([0.5, 0.3, 0.2]), atol=0.03)


def test_report_by_hand() -> None:
    choice = report(torch.tensor([0.5, 0.3, 0.2]).log() + 7, 2, 2)
    assert choice.token == 2 and choice.logprob == pytest.approx(math.log(0.2), abs=1e-5)
    assert [token for token, _ in choice.top] == [0, 1]
    assert [value for _, value in choice.top] == pytest.approx([math.log(0.5), math.log(0.3)], abs=1e-5)


@pytest.mark.parametrize("wrong", [{"temperature": -1}, {"top_p": 0.0}, {"logprobs": 21}, {"stop": ("",)}])
def test_wrong_options_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        Sampling(**wrong)


# --- the writer ------------------------------------------------------------------------------------------------------


def test_a_seed_gives_the_same_answer_alone_and_in_a_batch(writer: Writer) -> None:
    hot = Sampling(temperature=1.5, seed=11)
    together = writer.answer_all(PROMPTS, sampling=hot)
    assert together == [writer.answer_all([prompt], sampling=hot)[0] for prompt in PROMPTS]
    assert together == ["".join(writer.stream(prompt, hot)) for prompt in PROMPTS]
    assert together != writer.answer_all(PROMPTS, sampling=dataclasses.replace(hot, seed=12))
    assert writer.answer_all(PROMPTS) != together


def test_without_a_seed_answers_differ(writer: Writer) -> None:
    hot = Sampling(temperature=2.0)
    assert writer.answer_all(PROMPTS[:1], sampling=hot) != writer.answer_all(PROMPTS[:1], sampling=hot)


def test_reported_greedy_is_greedy(writer: Writer) -> None:
    plain, told = writer.write_all(PROMPTS), writer.write_all(PROMPTS, sampling=Sampling(logprobs=3))
    assert [a.text for a in plain] == [a.text for a in told]
    for one, other in zip(plain, told, strict=True):
        assert (one.finish, one.tokens, one.prompt_tokens) == (other.finish, other.tokens, other.prompt_tokens)
        assert len(other.choices) == other.tokens and not one.choices
        assert all(c.top[0] == (c.token, c.logprob) and len(c.top) == 3 for c in other.choices)
    texts = ["".join(writer.tokenizer.decode([c.token for c in a.choices])) for a in told]
    assert texts == [a.text for a in told]


def test_length_is_told_from_stop(writer: Writer) -> None:
    (answer,) = writer.write_all(PROMPTS[:1], sampling=Sampling(max_new_tokens=5))
    assert (answer.finish, answer.tokens) == ("length", 5)
    full = writer.answer_all(PROMPTS[:1])[0]
    assert full.startswith(answer.text)
    ended = writer.write_all(PROMPTS[:1], sampling=Sampling(stop=(full[3:6],)))[0]
    assert ended.finish == "stop" and ended.text == full[: full.index(full[3:6])]


def test_greedy_equals_generate_with_a_penalty(writer: Writer) -> None:
    from tinyforge.dataset.render import prompt_ids

    model: Any = writer.model
    ids = torch.tensor([prompt_ids(PROMPTS[2], writer.tokenizer)])
    written = model.generate(
        ids, attention_mask=torch.ones_like(ids), max_new_tokens=24, do_sample=False, repetition_penalty=1.5
    )
    text = writer.tokenizer.decode(written[0, ids.shape[1] :], skip_special_tokens=True)
    assert writer.answer_all(PROMPTS[2:], sampling=Sampling(repetition_penalty=1.5)) == [text]
    assert text != writer.answer_all(PROMPTS[2:], sampling=GREEDY)[0]


# --- text in pieces --------------------------------------------------------------------------------------------------


def letters(ids: Any) -> str:
    return bytes(ids).decode("utf-8", "replace")


def test_pieces_hold_back_half_characters_and_stop_texts() -> None:
    pieces = Pieces(letters, ("END", "NOW"))
    shown = [pieces.push(byte) for byte in "aü EN END".encode()]
    assert shown == ["a", "", "ü", " ", "", "", "EN ", "", "", ""]
    assert pieces.stopped and pieces.text == "aü EN " and pieces.tokens == 7
    assert pieces.close() == ""


def test_what_only_began_like_a_stop_text_is_shown_at_the_end() -> None:
    pieces = Pieces(letters, ("END",))
    assert [pieces.push(byte) for byte in b"xEN"] == ["x", "", ""]
    assert pieces.close() == "EN" and pieces.text == "xEN" and not pieces.stopped


def test_half_a_character_at_the_end_is_shown_as_what_it_is() -> None:
    pieces = Pieces(letters)
    assert [pieces.push(byte) for byte in "aü".encode()[:2]] == ["a", ""]
    assert pieces.close() == "\ufffd"


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
