"""Every objective on every family that has it, by its command: ten rows are learned, saved, read again and answered.

One family of each kind and each objective on some family are in the fast tests; the rest of the table is slow.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from families import LABELLED, PAIRS, SPANS, make_model, unigram, wordpiece
from little import TEXT
from test_pipeline_train import predict, train, write
from tinyforge.dataset.pairs import input_text
from tinyforge.models.tokenizer import END_OF_TURN, train_tokenizer
from tinyforge.records import Example, Message
from tinyforge.train.loss import row_log_probs
from tinyforge.train.objectives.dpo import PreferenceOptimization

TOOLS = "saw drill ladder lathe plane file vice rasp clamp level".split()
ROWS = [(f"What does the {tool} cost?", f"It costs {number} tokens.") for number, tool in enumerate(TOOLS)]
TEXTS = [f"The {tool} costs {number} tokens, say the members." for number, tool in enumerate(TOOLS)]

PLAIN = {
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
}
GEMMA = {**PLAIN, "head_dim": 8}
DECODERS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", PLAIN),
    "qwen2": ("qwen2", PLAIN),
    "qwen3": ("qwen3", GEMMA),
    "gemma": ("gemma", GEMMA),
    "gemma2": ("gemma2", {**GEMMA, "query_pre_attn_scalar": 8}),
    "gemma3": ("gemma3_text", {**GEMMA, "query_pre_attn_scalar": 8, "sliding_window": 32}),
    "phi": ("phi", PLAIN),
    "phi3": ("phi3", PLAIN),
    "mistral": ("mistral", {**PLAIN, "sliding_window": 32}),
    "gpt2": ("gpt2", {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 256}),
}
OTHERS = ("t5", "flan-t5", "bert", "distilbert", "minilm")
GENTLY = ("train.learning_rate=0.003", "train.epochs=450")
"""For Gemma, which multiplies its embeddings by the root of their width, and GPT-2, which learns its positions."""
NO_DROPOUT = {"attn_pdrop": 0.0, "embd_pdrop": 0.0, "resid_pdrop": 0.0}


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Untrained models of a family, made when they are first asked for."""
    root, made = tmp_path_factory.mktemp("families"), set[str]()

    def base(family: str) -> Path:
        if family not in made:
            (make_decoder if family in DECODERS else make_other)(family, root / family)
            made.add(family)
        return root / family

    torch.set_num_threads(1)
    return base


def make_decoder(family: str, folder: Path, seed: int = 0) -> None:
    kind, shape = DECODERS[family]
    tokenizer = train_tokenizer([TEXT * 4, *TEXTS, *(f"{q} {a}" for q, a in ROWS)], 512, 256)
    ids = {"bos_token_id": tokenizer.bos_token_id, "pad_token_id": tokenizer.pad_token_id}
    stops = [tokenizer.convert_tokens_to_ids(END_OF_TURN), tokenizer.eos_token_id]
    ids["eos_token_id"] = tokenizer.eos_token_id
    quiet = NO_DROPOUT if kind in ("gpt2", "phi", "phi3") else {}
    config = tr.AutoConfig.for_model(kind, vocab_size=len(tokenizer), **shape, **ids, **quiet)
    torch.manual_seed(seed)
    model = tr.AutoModelForCausalLM.from_config(config)
    model.generation_config = tr.GenerationConfig(**{**ids, "eos_token_id": stops}, do_sample=False)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def make_other(family: str, folder: Path) -> None:
    """MiniLM is a BERT that is published without a head; FLAN-T5 has gates and a head of its own."""
    if family == "minilm":
        make_model("bert").bert.save_pretrained(folder)
    elif family == "flan-t5":
        config = make_model("t5").config
        config.feed_forward_proj, config.is_gated_act, config.dense_act_fn = "gated-gelu", True, "gelu_new"
        config.tie_word_embeddings = False
        torch.manual_seed(0)
        tr.T5ForConditionalGeneration(config).save_pretrained(folder)
    else:
        make_model(family).save_pretrained(folder)
    (unigram() if family in ("t5", "flan-t5") else wordpiece()).save_pretrained(folder)


def some_fast(families: Any, fast: tuple[str, ...]) -> list[Any]:
    return [family if family in fast else pytest.param(family, marks=pytest.mark.slow) for family in families]


def by_heart(family: str) -> tuple[str, ...]:
    """What it takes to learn ten answers word for word."""
    return GENTLY if family.startswith(("gemma", "gpt2")) else ("train.epochs=150",)


def chat_rows(folder: Path) -> Path:
    return write(folder / "rows.jsonl", [{"input": question, "output": answer} for question, answer in ROWS])


def reloaded(folder: Path) -> tuple[Any, Any]:
    """The model and the tokenizer of a finished run, by transformers alone."""
    model = tr.AutoModelForCausalLM.from_pretrained(folder / "model", dtype=torch.float32)
    return model.eval(), tr.AutoTokenizer.from_pretrained(folder / "model")


@pytest.mark.parametrize("family", some_fast(DECODERS, ("llama", "gpt2")))
def test_sft(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary = train(chat_rows(tmp_path), tmp_path / "run", bases(family), *by_heart(family))
    assert (summary["objective"], summary["method"]) == ("sft", "full")
    found = predict(tmp_path / "run", [question for question, _ in ROWS], capsys)
    assert [row["text"] for row in found] == [answer for _, answer in ROWS]
    untrained = predict(bases(family), [ROWS[0][0]], capsys)
    assert untrained[0]["text"] != ROWS[0][1], "the control"


@pytest.mark.parametrize("family", some_fast(DECODERS, ("qwen3",)))
def test_pretrain(bases: Any, family: str, tmp_path: Path) -> None:
    data = write(tmp_path / "rows.jsonl", [{"text": text} for text in TEXTS])
    summary = train(data, tmp_path / "run", bases(family), *by_heart(family))
    assert summary["objective"] == "pretrain"
    model, tokenizer = reloaded(tmp_path / "run")
    for tool, text in zip(TOOLS, TEXTS, strict=True):
        given = tokenizer(f"The {tool} costs", return_tensors="pt", add_special_tokens=False)
        start = torch.tensor([[tokenizer.bos_token_id]])
        ids = model.generate(torch.cat([start, given["input_ids"]], 1), max_new_tokens=24, do_sample=False)
        assert tokenizer.decode(ids[0], skip_special_tokens=True).strip() == text


@pytest.mark.parametrize("family", some_fast(DECODERS, ("mistral",)))
def test_dpo(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"prompt": question, "chosen": answer, "rejected": "No idea."} for question, answer in ROWS]
    data = write(tmp_path / "pairs.jsonl", rows)
    summary = train(data, tmp_path / "run", bases(family), "train.learning_rate=0.003", "train.epochs=40")
    assert summary["objective"] == "dpo"
    objective = PreferenceOptimization(1)
    pairs = [
        Example(str(n), (Message("user", q), Message("assistant", a)), rejected="No idea.")
        for n, (q, a) in enumerate(ROWS)
    ]

    def margins(folder: Path) -> torch.Tensor:
        model = tr.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        tokenizer = tr.AutoTokenizer.from_pretrained(folder)
        batch = objective.collate([objective.encode(pair, tokenizer) for pair in pairs])
        with torch.no_grad():
            log_probs, _ = row_log_probs(model, batch.ids_BT, batch.labels_BT)
        return log_probs[: len(pairs)] - log_probs[len(pairs) :]

    before, after = margins(bases(family)), margins(tmp_path / "run" / "model")
    assert bool((after > before + 5).all()), "each better answer became likelier than its worse one"
    assert len(predict(tmp_path / "run", [question for question, _ in ROWS], capsys)) == len(ROWS)


@pytest.mark.parametrize("family", some_fast(DECODERS, ("gemma3",)))
def test_distill(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The teacher has learned the ten rows; what the student learns from them is the teacher's distribution."""
    data = chat_rows(tmp_path)
    train(data, tmp_path / "teacher", bases(family), *by_heart(family))
    make_decoder(family, tmp_path / "student", seed=5)
    teacher = ("train.objective=distill", f"train.teacher={tmp_path / 'teacher'}", "train.distill_share=1")
    summary = train(data, tmp_path / "run", tmp_path / "student", *teacher, *by_heart(family))
    assert summary["objective"] == "distill"
    steps = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    divergence = [event["metrics"]["divergence"] for event in steps if event["event"] == "step"]
    assert divergence[-1] < 0.1 * divergence[0]
    found = predict(tmp_path / "run", [question for question, _ in ROWS], capsys)
    assert sum(row["text"] == answer for row, (_, answer) in zip(found, ROWS, strict=True)) >= 9


@pytest.mark.parametrize("family", some_fast((*DECODERS, *OTHERS), ("phi", "t5", "bert")))
def test_classify(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [{"text": input_text(e), "label": e.label} for e in LABELLED]
    summary = train(write(tmp_path / "rows.jsonl", rows), tmp_path / "run", bases(family))
    assert (summary["objective"], summary["labels"]) == ("classify", ["complaint", "praise"])
    found = predict(tmp_path / "run", [row["text"] for row in rows], capsys)
    assert [row["text"] for row in found] == [row["label"] for row in rows]
    assert all(abs(sum(row["probabilities"].values()) - 1) < 1e-5 for row in found)


def answers_to(
    examples: list[Example], base: Path, folder: Path, capsys: pytest.CaptureFixture[str], *settings: str
) -> tuple[dict[str, Any], list[str]]:
    """The summary of a training on these pairs, and what the run then says to each of them."""
    rows = [{"input": input_text(e), "output": e.answer} for e in examples]
    summary = train(write(folder / "rows.jsonl", rows), folder / "run", base, *settings)
    assert summary["data"]["why"]
    return summary, [row["text"] for row in predict(folder / "run", [row["input"] for row in rows], capsys)]


@pytest.mark.parametrize("family", some_fast(("t5", "flan-t5"), ("t5",)))
def test_seq2seq(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, found = answers_to(PAIRS, bases(family), tmp_path, capsys, "train.epochs=120")
    assert summary["objective"] == "seq2seq" and found == [e.answer for e in PAIRS]


@pytest.mark.parametrize("family", some_fast(("bert", "distilbert", "minilm"), ("bert",)))
def test_extract(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    summary, found = answers_to(SPANS, bases(family), tmp_path, capsys)
    assert summary["objective"] == "extract" and found == [*(e.answer for e in SPANS[:9]), ""]


@pytest.mark.parametrize("family", some_fast(("bert", "distilbert", "minilm"), ("distilbert", "minilm")))
def test_respond(bases: Any, family: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The seed text: a bare DistilBERT with question and answer rows trains and answers."""
    summary, found = answers_to(PAIRS, bases(family), tmp_path, capsys)
    assert summary["objective"] == "respond" and found == [e.answer for e in PAIRS]
