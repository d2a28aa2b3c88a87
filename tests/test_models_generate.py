"""Generation: a batch says what one prompt alone says, streams say what batches say, and stop tokens stop."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from little import TEXT, make_base
from tinyforge.config import TrainConfig
from tinyforge.errors import InputError
from tinyforge.models.generate import Writer
from tinyforge.models.resolve import load_model, load_tokenizer, resolve
from tinyforge.records import Example, Message
from tinyforge.train.loop import Training
from tinyforge.train.objectives.sft import SupervisedFineTuning
from tinyforge.train.rows import EncodedRows

PAIRS = [
    ("What is a loan?", "A loan is an agreement."),
    ("Why is there a fee?", "Because the tools wear out, grüße 世界."),
    ("Who lends tools, and to whom does the library lend them in a year of seven days?", "The library."),
]


@pytest.fixture(scope="module")
def writer(tmp_path_factory: pytest.TempPathFactory) -> Writer:
    """A model that knows the three pairs by heart."""
    folder = make_base(tmp_path_factory.mktemp("base"), hidden=64)
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, "fp32")
    objective = SupervisedFineTuning(tokenizer.pad_token_id)
    rows = [objective.encode(Example(q, (Message("user", q), Message("assistant", a))), tokenizer) for q, a in PAIRS]
    Training(
        model=model,
        objective=objective,
        rows=EncodedRows(rows),
        dev=None,
        config=TrainConfig(epochs=120.0, batch_tokens=512),
        learning_rate=5e-3,
        folder=tmp_path_factory.mktemp("checkpoints"),
        key="k",
        seed=0,
    ).run()
    return Writer(model, tokenizer, 40)


def prompts() -> list[list[Message]]:
    return [[Message("user", question)] for question, _ in PAIRS]


def test_it_learned_to_answer_and_to_stop(writer: Writer) -> None:
    assert writer.answer_all(prompts()) == [answer for _, answer in PAIRS]


def test_a_batch_equals_one_at_a_time(writer: Writer) -> None:
    alone = [writer.answer_all([prompt])[0] for prompt in prompts()]
    assert writer.answer_all(prompts()) == alone


def test_a_stream_joins_to_the_same_answer_and_never_splits_a_character(writer: Writer) -> None:
    for prompt, (_, answer) in zip(prompts(), PAIRS, strict=True):
        pieces = list(writer.stream(prompt))
        assert "".join(pieces) == answer and len(pieces) > 2
        assert not any("\ufffd" in piece for piece in pieces)


def test_equals_transformers_generate(writer: Writer) -> None:
    from tinyforge.dataset.render import prompt_ids

    model: Any = writer.model
    for prompt in prompts():
        ids = torch.tensor([prompt_ids(prompt, writer.tokenizer)])
        theirs = model.generate(ids, attention_mask=torch.ones_like(ids), max_new_tokens=40, do_sample=False)
        text = writer.tokenizer.decode(theirs[0, ids.shape[1] :], skip_special_tokens=True)
        assert writer.answer_all([prompt]) == [text]


def test_without_stop_tokens_it_runs_on(writer: Writer) -> None:
    """The control: it is the stop token that ends an answer, not luck."""
    endless = Writer(writer.model, writer.tokenizer, 40)
    endless._stops = set()
    start = writer._left_pad([writer.tokenizer.encode("<|user|>What is a loan?<|end|><|assistant|>")])
    assert len(list(endless._decode(*start))) == 40 > len(list(writer._decode(*start)))


def test_a_question_longer_than_the_context_is_refused(writer: Writer) -> None:
    with pytest.raises(InputError, match=r"has \d+ tokens; this model takes 984 and 40 for the answer"):
        writer.prompt("loan " * 2000, [])


def test_resolve_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="unknown base 'nonsense'"):
        resolve("nonsense")
    for name, fix in (("model.gguf", "that it was made of"), ("model.safetensors", "that it lies in")):
        (tmp_path / "file").mkdir(exist_ok=True)
        (tmp_path / "file" / name).touch()
        with pytest.raises(InputError, match=rf"{name}: is a file, not a model folder.*{fix}"):
            resolve(str(tmp_path / "file" / name))
    with pytest.raises(InputError, match="holds no model"):
        resolve(str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"pickle")
    with pytest.raises(InputError, match="never loads pickled weights"):
        resolve(str(tmp_path))


def test_a_tokenizer_without_template_gets_one_that_stops(tmp_path: Path) -> None:
    from tinyforge.dataset.render import render

    folder = make_base(tmp_path)
    (folder / "chat_template.jinja").unlink()
    tokenizer = load_tokenizer(folder)
    tokens = render([Message("user", TEXT), Message("assistant", "Yes.")], tokenizer)
    assert tokens.labels[-1] == tokenizer.eos_token_id or tokenizer.eos_token_id in tokens.labels
