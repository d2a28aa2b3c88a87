"""The transformers engine: batches answer as each row alone does, adapters do not mix, slots are given back."""

from __future__ import annotations

import queue
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from little import make_lively_base
from tinyforge import adapters
from tinyforge.config import TrainConfig
from tinyforge.dataset.render import prompt_ids
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.resolve import load_model, load_tokenizer
from tinyforge.models.sampling import Sampling
from tinyforge.records import Message
from tinyforge.serve.engines import BusyError, Event, Request, StoppingError, Ticket
from tinyforge.serve.engines.batch import least_rows, takes_ragged
from tinyforge.serve.engines.transformers import TransformersEngine

QUESTIONS = [f"{'Why do tools wear out? ' * (i % 5)}What is loan number {i}?" for i in range(12)]
SHORT = Sampling(max_new_tokens=40)


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    return make_lively_base(tmp_path_factory.mktemp("base"))


@pytest.fixture(scope="module")
def lora(base: Path, tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three adapters that change the answers."""
    folders = []
    for seed in range(3):
        config = TrainConfig(method="lora", lora_rank=4)  # type: ignore[call-arg]
        wrapped = adapters.attach(load_model(base, "fp32"), config, seed)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for name, parameter in wrapped.named_parameters():
                if "lora_B" in name:
                    parameter.copy_(torch.randn(parameter.shape, generator=generator))
        folders.append(tmp_path_factory.mktemp("adapter"))
        adapters.save(wrapped, folders[-1])
    return folders


@pytest.fixture
def engine(base: Path) -> Iterator[TransformersEngine]:
    made = TransformersEngine(load_model(base, "fp32"), load_tokenizer(base), slots=8, waiting=16)
    yield made
    made.close(0)


class Asked:
    """A request whose events are waited for."""

    def __init__(
        self, engine: TransformersEngine, question: str, sampling: Sampling = SHORT, adapter: str = ""
    ) -> None:
        self.events: queue.SimpleQueue[Event] = queue.SimpleQueue()
        ids = prompt_ids([Message("user", question)], engine.tokenizer)
        self.request = Request(ids, self.events.put, sampling, adapter)
        self.ticket: Ticket = engine.submit([self.request])[0]

    def all(self) -> list[Event]:
        found = [self.events.get(timeout=60)]
        while not found[-1].finish:
            found.append(self.events.get(timeout=60))
        return found

    def text(self) -> str:
        return "".join(event.text for event in self.all())


def texts(asked: Sequence[Asked]) -> list[str]:
    return [one.text() for one in asked]


def test_a_batch_equals_each_alone_and_the_writer(engine: TransformersEngine, base: Path) -> None:
    assert engine.batched
    together = texts([Asked(engine, question) for question in QUESTIONS])
    assert together == [Asked(engine, question).text() for question in QUESTIONS]
    writer = Writer(load_model(base, "fp32"), load_tokenizer(base), 40)
    assert together == [writer.answer_all([[Message("user", question)]])[0] for question in QUESTIONS]
    assert len(set(together)) > 6


def test_scores_are_the_same_to_the_bit_in_any_company(engine: TransformersEngine) -> None:
    told = Sampling(max_new_tokens=30, logprobs=2)
    alone = [c.logprob for event in Asked(engine, QUESTIONS[0], told).all() for c in event.choices]
    crowd = [Asked(engine, question, told) for question in QUESTIONS]
    assert [c.logprob for event in crowd[0].all() for c in event.choices] == alone
    assert len(alone) == 30
    texts(crowd[1:])


def test_without_enough_rows_the_bits_differ(base: Path) -> None:
    """The control: on this machine one row is another product than eight, or least_rows would say 1."""
    layer = torch.nn.Linear(256, 704)
    least = least_rows(torch.nn.Sequential(layer), 8)
    rows = torch.randn(8, 1, 256)
    with torch.inference_mode():
        assert torch.equal(layer(rows[:least])[0], layer(rows)[0])
        assert least == 1 or not torch.equal(layer(rows[: least - 1]), layer(rows)[: least - 1])


def test_adapters_mixed_equal_adapters_alone(engine: TransformersEngine, lora: list[Path], base: Path) -> None:
    for number, folder in enumerate(lora):
        engine.add_adapter(f"a{number}", folder)
    names = ["", "a0", "a1", "a2"]
    mixed = texts([Asked(engine, question, adapter=names[i % 4]) for i, question in enumerate(QUESTIONS)])
    for number, name in enumerate(names):
        model: Any = load_model(base, "fp32")
        alone = Writer(adapters.load(model, lora[number - 1]) if name else model, load_tokenizer(base), 40)
        for place in range(number, len(QUESTIONS), 4):
            assert mixed[place] == alone.answer_all([[Message("user", QUESTIONS[place])]])[0]
    same = texts([Asked(engine, QUESTIONS[0], adapter=name) for name in names])
    assert len(set(same)) == 4  # the control: which adapter answers matters


def test_adapters_come_and_go_while_others_write(engine: TransformersEngine, lora: list[Path]) -> None:
    expected = Asked(engine, QUESTIONS[1], Sampling(max_new_tokens=200)).text()
    engine.add_adapter("one", lora[0])
    first = Asked(engine, QUESTIONS[1], adapter="one").text()
    running = Asked(engine, QUESTIONS[1], Sampling(max_new_tokens=200))
    using = Asked(engine, QUESTIONS[1], adapter="one")
    using.events.get(timeout=60)
    engine.remove_adapter("one")
    assert first.endswith(using.text())  # what was under way is finished
    with pytest.raises(InputError, match="no adapter 'one'"):
        Asked(engine, QUESTIONS[1], adapter="one")
    engine.add_adapter("one", lora[1])
    assert Asked(engine, QUESTIONS[1], adapter="one").text() != first
    assert running.text() == expected
    with pytest.raises(InputError, match="loaded already"):
        engine.add_adapter("one", lora[2])


def test_seeds_stop_texts_and_reasons(engine: TransformersEngine) -> None:
    hot = Sampling(temperature=1.5, seed=5, max_new_tokens=30)
    crowd = [Asked(engine, QUESTIONS[2], hot), *[Asked(engine, question) for question in QUESTIONS[:6]]]
    assert crowd[0].text() == Asked(engine, QUESTIONS[2], hot).text()
    texts(crowd[1:])
    whole = Asked(engine, QUESTIONS[3]).all()
    text = "".join(event.text for event in whole)
    assert (whole[-1].finish, whole[-1].tokens) == ("length", 40)
    stopped = Asked(engine, QUESTIONS[3], Sampling(max_new_tokens=40, stop=(text[5:8],))).all()
    assert stopped[-1].finish == "stop"
    assert "".join(event.text for event in stopped) == text[: text.index(text[5:8])]


def test_cancelled_rows_free_their_slot_and_a_full_queue_says_so(engine: TransformersEngine) -> None:
    endless = Sampling(max_new_tokens=900)
    running = [Asked(engine, question, endless) for question in QUESTIONS[:8]]
    for one in running:
        one.events.get(timeout=60)
    waiting = [Asked(engine, QUESTIONS[0]) for _ in range(16)]
    with pytest.raises(BusyError) as full:
        Asked(engine, QUESTIONS[0])
    assert full.value.retry_after >= 1
    with pytest.raises(InputError, match="25 answers are asked for at once, and 24 are the most"):
        engine.submit([running[0].request] * 25)
    for one in running:
        one.ticket.cancel()
    ends = [one.all()[-1] for one in running]
    assert {end.finish for end in ends} == {"cancelled"}
    assert len(set(texts(waiting))) == 1
    engine.close(30)  # when the thread has ended, nothing is under way any more
    stats = engine.stats()
    assert (stats.running, stats.waiting, stats.cancelled) == (0, 0, 8)


def test_close_lets_finish_then_ends_with_a_reason(base: Path) -> None:
    made = TransformersEngine(load_model(base, "fp32"), load_tokenizer(base), slots=2)
    done, late = Asked(made, QUESTIONS[0]), Asked(made, QUESTIONS[1])
    made.close(30)
    assert [one.all()[-1].finish for one in (done, late)] == ["length", "length"]
    with pytest.raises(StoppingError):
        Asked(made, QUESTIONS[0])
    other = TransformersEngine(load_model(base, "fp32"), load_tokenizer(base), slots=2)
    long = Asked(other, QUESTIONS[0], Sampling(max_new_tokens=900))
    long.events.get(timeout=60)
    other.close(0)
    end = long.all()[-1]
    assert (end.finish, end.reason) == ("error", "the server is stopping.")
    assert not other._thread.is_alive()


def test_what_fails_is_told_and_the_engine_goes_on(engine: TransformersEngine) -> None:
    events: queue.SimpleQueue[Event] = queue.SimpleQueue()
    engine.submit([Request([10**6], events.put)])  # no such token
    assert (end := events.get(timeout=60)).finish == "error" and end.reason
    assert engine.stats().failed == 1
    assert len(Asked(engine, QUESTIONS[0]).text()) > 10


def test_a_model_with_another_kind_of_past_answers_row_by_row(base: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(0)
    shape = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    config = MistralConfig(vocab_size=512, num_key_value_heads=2, sliding_window=8, initializer_range=0.8, **shape)
    model: Any = MistralForCausalLM(config).eval()
    assert not takes_ragged(model)
    made = TransformersEngine(model, load_tokenizer(base), slots=4)
    assert not made.batched
    sampling = Sampling(max_new_tokens=20)
    together = texts([Asked(made, question, sampling) for question in QUESTIONS[:4]])
    assert together == Writer(model, made.tokenizer, 20).answer_all(
        [[Message("user", question)] for question in QUESTIONS[:4]][:1]
    ) + [Asked(made, question, sampling).text() for question in QUESTIONS[1:4]]
    made.close(0)
