"""Encoders, encoder-decoders and classification: each objective learns ten rows, is saved, reloaded and asked.

Invariances with a control that breaks each.
"""

from __future__ import annotations

import copy
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from families import LABELLED, NAMES, PAIRS, SPANS, chat, made, make_bases, train
from tinyforge.config import TrainConfig
from tinyforge.dataset.pairs import input_text
from tinyforge.dataset.spans import split_context
from tinyforge.errors import InputError
from tinyforge.models.calibrate import Calibration
from tinyforge.models.family import family, load_for
from tinyforge.models.predict import kind_of, load_predictor
from tinyforge.models.resolve import load_tokenizer
from tinyforge.records import Message, Tokens
from tinyforge.train.choose import choose_objective
from tinyforge.train.optimizer import MasterOptimizer


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_bases(tmp_path_factory.mktemp("bases"))


# --- every objective on its families learns ten rows, is saved, reloaded and answers ----------------------------------


@pytest.mark.parametrize("kind", ["bert", "distilbert", "llama", "t5"])
def test_classify_learns_ten_rows(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    saved = train(bases[kind], "classify", LABELLED, tmp_path)
    assert kind_of(saved) == "classify"
    config = tr.AutoConfig.from_pretrained(saved)
    assert config.id2label == {0: "complaint", 1: "praise"} and config.label2id == {"complaint": 0, "praise": 1}
    predictor = load_predictor(saved)
    found = predictor.predict([input_text(e) for e in LABELLED])
    assert [p.text for p in found] == [e.label for e in LABELLED]
    assert all(sum(p.probabilities.values()) == pytest.approx(1, abs=1e-5) for p in found)
    assert not list(tmp_path.rglob("*.bin")) and not list(tmp_path.rglob("*.pt"))
    Calibration(4.0, 10, 0.2, 0.1).save(saved)
    (softer,) = load_predictor(saved).predict([input_text(LABELLED[0])])
    hot, cold = softer.probabilities, found[0].probabilities
    margin = math.log(cold["praise"] / cold["complaint"])
    assert math.log(hot["praise"] / hot["complaint"]) == pytest.approx(margin / 4, rel=1e-3)


def test_seq2seq_learns_ten_rows(bases: dict[str, Path], tmp_path: Path) -> None:
    saved = train(bases["t5"], "seq2seq", PAIRS, tmp_path, 120.0)
    predictor = load_predictor(saved)
    found = predictor.predict([e.question for e in PAIRS])
    assert kind_of(saved) == "seq2seq" and [p.text for p in found] == [e.answer for e in PAIRS]
    assert all(p.complete for p in found), "the stop token was learned"
    predictor.max_new_tokens = 2  # type: ignore[attr-defined]
    assert not predictor.predict([PAIRS[0].question])[0].complete


@pytest.mark.parametrize("kind", ["bert", "distilbert"])
def test_extract_learns_ten_rows(bases: dict[str, Path], tmp_path: Path, kind: str) -> None:
    saved = train(bases[kind], "extract", SPANS, tmp_path, 40.0)
    found = load_predictor(saved).predict([e.question for e in SPANS])
    assert kind_of(saved) == "extract" and [p.text for p in found] == [*NAMES[:9], ""]
    assert all(p.score is not None and 0.8 < p.score <= 1 for p in found)


def test_a_bare_distilbert_with_question_and_answer_rows(bases: dict[str, Path], tmp_path: Path) -> None:
    """The seed text: the engine decides by the data, trains and answers."""
    name, reason = choose_objective("chat", PAIRS, family(tr.AutoConfig.from_pretrained(bases["distilbert"])))
    assert name == "respond" and "encoder" in reason
    saved = train(bases["distilbert"], name, PAIRS, tmp_path)
    predictor = load_predictor(saved)
    found = predictor.predict([e.question for e in PAIRS])
    assert kind_of(saved) == "respond" and [p.text for p in found] == [e.answer for e in PAIRS]
    assert all(p.score is not None and p.score > 0.5 for p in found) and predictor.predict([]) == []
    (saved / "responses.jsonl").write_text('{"text": "one"}\n')
    with pytest.raises(InputError, match=r"has 1 responses, but .* has 10 embeddings"):
        load_predictor(saved)


def test_bert_responds_too_and_its_unused_pooler_is_left_alone(bases: dict[str, Path], tmp_path: Path) -> None:
    """A parameter without a gradient has no optimizer state, and a checkpoint of it could not be restored."""
    saved = train(bases["bert"], "respond", PAIRS, tmp_path)
    assert [p.text for p in load_predictor(saved).predict([e.question for e in PAIRS])] == [e.answer for e in PAIRS]
    _, model, objective, rows = made(bases["bert"], "respond", PAIRS)
    objective.loss(model, objective.collate(rows))[0].backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    assert any(p.grad is None for p in model.parameters()), "the control: the pooler has none"


# --- the family, and the head that goes on it -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (tr.LlamaConfig(), "decoder"),
        (tr.GPT2Config(), "decoder"),
        (tr.Qwen3Config(), "decoder"),
        (tr.Gemma2Config(), "decoder"),
        (tr.PhiConfig(), "decoder"),
        (tr.MistralConfig(), "decoder"),
        (tr.T5Config(), "encoder-decoder"),
        (tr.BartConfig(), "encoder-decoder"),
        (tr.BertConfig(), "encoder"),
        (tr.DistilBertConfig(), "encoder"),
        (tr.RobertaConfig(), "encoder"),
        (tr.BertConfig(is_decoder=True), "decoder"),
    ],
)
def test_family(config: Any, expected: str) -> None:
    assert family(config) == expected


@pytest.mark.parametrize(
    "config",
    [tr.ViTConfig(), tr.Wav2Vec2Config(), tr.WhisperConfig(), tr.T5Config(architectures=["T5EncoderModel"])],
)
def test_what_is_no_text_model_is_refused(config: Any) -> None:
    with pytest.raises(InputError, match="is no text model that can be trained here"):
        family(config)


def test_a_head_is_fresh_but_the_body_must_be_there(bases: dict[str, Path], tmp_path: Path) -> None:
    labels = ["a", "b", "c"]
    first, again = (load_for("classify", bases["bert"], "fp32", labels, 0, seed=4) for _ in range(2))
    other = load_for("classify", bases["bert"], "fp32", labels, 0, seed=5)
    assert torch.equal(first.classifier.weight, again.classifier.weight)
    assert not torch.equal(first.classifier.weight, other.classifier.weight), "the control: another seed"
    first.save_pretrained(tmp_path / "three")
    assert load_for("classify", tmp_path / "three", "fp32", ["x", "y"], 0).classifier.weight.shape == (2, 32)
    cut = {k: v for k, v in first.state_dict().items() if "layer.1" not in k}
    first.save_pretrained(tmp_path / "cut", state_dict=cut)
    with pytest.raises(InputError, match=r"16 of the weights that BertForSequenceClassification needs are missing"):
        load_for("classify", tmp_path / "cut", "fp32", labels, 0)


def test_an_objective_of_another_family_is_refused(bases: dict[str, Path]) -> None:
    with pytest.raises(InputError, match=r"is an encoder model, which cannot be trained with sft\..*extract, respond"):
        load_for("sft", bases["bert"], "fp32")
    with pytest.raises(InputError, match=r"is a decoder model, which cannot be trained with extract"):
        load_for("extract", bases["llama"], "fp32")
    with pytest.raises(InputError, match="an encoder that was not trained to answer"):
        load_predictor(bases["bert"])
    with pytest.raises(InputError, match="causal language model"):
        load_predictor(bases["llama"])


# --- one optimizer step over any micro-batches ------------------------------------------------------------------------


def gradients(model: Any, objective: Any, groups: list[list[Tokens]], means: bool = False) -> list[torch.Tensor]:
    model = copy.deepcopy(model)
    optimizer, weight = MasterOptimizer(model, TrainConfig(), 0.0), 0
    for group in groups:
        total, count, _ = objective.loss(model, objective.collate(group))
        (total / count if means else total).backward()
        optimizer.gather()
        weight += 1 if means else count
    return [master.grad / weight for master in optimizer.masters.values()]


def distance(ours: list[torch.Tensor], theirs: list[torch.Tensor]) -> float:
    return max(float((a - b).abs().max() / b.abs().max().clamp(min=1e-3)) for a, b in zip(ours, theirs, strict=True))


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "classify"), ("llama", "classify"), ("t5", "seq2seq"), ("bert", "extract")]
)
def test_accumulation_of_mixed_lengths(bases: dict[str, Path], kind: str, name: str) -> None:
    examples = {"classify": LABELLED, "seq2seq": PAIRS, "extract": SPANS}[name][-8:]
    longer = []
    for i, e in enumerate(examples):
        answers = (Message("assistant", "ada " * (1 + i)),) if name == "seq2seq" else e.messages[1:]
        longer.append(replace(e, messages=(Message("user", "near a " * i + input_text(e)), *answers)))
    _, model, objective, rows = made(bases[kind], name, longer, 256)
    assert len({len(row.ids) for row in rows}) > 4
    whole = gradients(model, objective, [rows])
    for split in ([[r] for r in rows], [rows[i : i + 2] for i in (0, 2, 4, 6)], [rows[:3], rows[3:]]):
        assert distance(gradients(model, objective, split), whole) < 1e-3
    uneven = gradients(model, objective, [rows[:3], rows[3:]], means=True)
    assert distance(uneven, whole) > 1e-2, "the control: a mean of means"


def test_respond_depends_on_its_batch_by_design(bases: dict[str, Path]) -> None:
    """The other rows are the wrong answers: alone, a row has nothing to tell apart and teaches nothing."""
    _, model, objective, rows = made(bases["bert"], "respond", PAIRS[:8])
    together, count, _ = objective.loss(model, objective.collate(rows))
    alone = sum(float(objective.loss(model, objective.collate([row]))[0].detach()) for row in rows)
    assert count == 8 and float(together.detach()) > 1 and alone == pytest.approx(0, abs=1e-6)


def test_the_same_response_is_no_wrong_answer(bases: dict[str, Path]) -> None:
    _, model, objective, rows = made(bases["bert"], "respond", [PAIRS[0], chat(1, "where is ada ?", PAIRS[0].answer)])
    assert float(objective.loss(model, objective.collate(rows))[0].detach()) == pytest.approx(0, abs=1e-6)
    _, model, objective, rows = made(bases["bert"], "respond", PAIRS[:2])
    assert float(objective.loss(model, objective.collate(rows))[0].detach()) > 0.1, "the control: two responses"


@pytest.mark.parametrize(
    ("kind", "name"), [("bert", "classify"), ("t5", "seq2seq"), ("bert", "extract"), ("bert", "respond")]
)
def test_padding_changes_nothing(bases: dict[str, Path], kind: str, name: str) -> None:
    examples = {"classify": LABELLED, "seq2seq": PAIRS, "extract": SPANS, "respond": PAIRS}[name][3:7]
    _, model, objective, rows = made(bases[kind], name, examples)
    model.eval()
    batch = objective.collate(rows)
    wide = {
        key: torch.nn.functional.pad(value, (0, 9), value={"labels_BT": -100, "ids_BT": 9}.get(key, 0))
        for key, value in vars(batch).items()
        if isinstance(value, torch.Tensor) and not (key == "labels_BT" and name in ("classify", "extract"))
    }
    total, wider = (float(objective.loss(model, b)[0].detach()) for b in (batch, replace(batch, **wide)))
    assert wider == pytest.approx(total, abs=1e-5)
    mask = "source_mask_BS" if "source_mask_BS" in wide else "mask_BT"
    seen = replace(batch, **{**wide, mask: torch.ones_like(wide[mask])})
    assert float(objective.loss(model, seen)[0].detach()) != pytest.approx(total, abs=1e-5), "the control: no mask"


def test_seq2seq_loss_equals_transformers(bases: dict[str, Path]) -> None:
    tokenizer, model, objective, rows = made(bases["t5"], "seq2seq", PAIRS)
    batch = objective.collate(rows)
    total, count, _ = objective.loss(model, batch)
    theirs = model(input_ids=batch.source_BS, attention_mask=batch.source_mask_BS, labels=batch.labels_BT).loss
    assert float(total) / count == pytest.approx(float(theirs), abs=1e-5)
    assert count == sum(row.targets for row in rows) and all(row.labels[-1] == tokenizer.eos_token_id for row in rows)


def test_extract_loss_equals_transformers(bases: dict[str, Path]) -> None:
    _, model, objective, rows = made(bases["bert"], "extract", SPANS[:1])
    tokenizer = load_tokenizer(bases["bert"])
    question, context = split_context(SPANS[0].question)
    theirs = model(
        **tokenizer(question, context, return_tensors="pt"),
        start_positions=torch.tensor([rows[0].labels[0]]),
        end_positions=torch.tensor([rows[0].labels[1]]),
    ).loss
    total, count, _ = objective.loss(model, objective.collate(rows))
    assert float(total) / count == pytest.approx(float(theirs), abs=1e-5)
    unsegmented = [replace(row, border=0) for row in rows]
    changed = objective.loss(model, objective.collate(unsegmented))[0]
    assert float(changed) != pytest.approx(float(theirs), abs=1e-6), "the control: question and context not told apart"


def test_a_decoder_reads_its_last_real_token(bases: dict[str, Path]) -> None:
    _, model, objective, rows = made(bases["llama"], "classify", LABELLED)
    model.eval()
    short, long = sorted(rows, key=lambda row: len(row.ids))[:: len(rows) - 1]
    assert len(short.ids) < len(long.ids)
    alone = objective.logits(model, objective.collate([short]))[0]
    beside = objective.logits(model, objective.collate([short, long]))[0]
    torch.testing.assert_close(beside, alone, atol=1e-5, rtol=1e-4)
    model.config.pad_token_id = 0
    wrong = objective.logits(model, objective.collate([short, long]))[0]
    assert (wrong - alone).abs().max() > 1e-3, "the control: the head reads the padding"
