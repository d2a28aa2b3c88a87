"""Pretraining from scratch: a corpus in, a plain transformers folder out, that predicts held-out text better."""

from __future__ import annotations

import gzip
import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinyforge.config import load_config
from tinyforge.dataset.corpus import CorpusReport, TokenStore, deduplicate, read_texts, write_store
from tinyforge.errors import InputError
from tinyforge.pipeline.pretrain import pretrain

SAMPLES = Path(__file__).parents[1] / "src" / "tinyforge" / "samples"
SMALL = [
    *("pretrain.vocabulary=512", "pretrain.hidden=32", "pretrain.layers=2", "pretrain.heads=4", "pretrain.kv_heads=2"),
    *("pretrain.intermediate=64", "pretrain.context=256", "pretrain.sequence=64", "pretrain.validation_fraction=0.2"),
    *(
        "train.epochs=12",
        "train.batch_tokens=512",
        "train.threads=1",
        "train.evaluations=2",
        "train.learning_rate=0.01",
    ),
]


def paragraphs() -> list[str]:
    text = "\n\n".join(p.read_text() for p in sorted(SAMPLES.glob("*.md")))
    return [block for block in text.split("\n\n") if len(block) > 80]


def write_corpus(folder: Path) -> Path:
    folder.mkdir()
    rows = [json.dumps({"text": block}) for block in paragraphs()]
    with gzip.open(folder / "a.jsonl.gz", "wt") as handle:
        handle.write("\n".join(rows[::2]) + "\n")
    (folder / "b.jsonl.zst").write_bytes(zstandard.compress(("\n".join(rows[1::2]) + "\n").encode()))
    return folder


def run(corpus: Path, out: Path, *settings: str) -> dict[str, Any]:
    config = load_config(None, [*SMALL, *settings])
    return pretrain([corpus], out, config, lambda stage, note: None, lambda status: None)


def test_a_corpus_becomes_a_model(tmp_path: Path) -> None:
    summary = run(write_corpus(tmp_path / "corpus"), tmp_path / "run")
    untrained = run(tmp_path / "corpus", tmp_path / "untrained", "train.max_steps=1", "train.learning_rate=1e-9")
    assert summary["validation_bits_per_byte"] < 0.75 * untrained["validation_bits_per_byte"]
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "model")
    assert model.config.model_type == "llama" and model.dtype == torch.bfloat16
    assert model.generation_config.eos_token_id == [tokenizer.convert_tokens_to_ids("<|end|>"), tokenizer.eos_token_id]
    again = run(tmp_path / "corpus", tmp_path / "run")
    assert again == summary


def test_bits_per_byte_is_that_of_the_saved_model(tmp_path: Path) -> None:
    summary = run(write_corpus(tmp_path / "corpus"), tmp_path / "run", "train.precision=bf16")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "run" / "model")
    store = TokenStore(tmp_path / "run" / "tokens" / "validation", 64)
    nats = 0.0
    for i in range(len(store)):
        ids = torch.tensor([store[i].ids])
        with torch.no_grad():
            nats += float(model(ids, labels=ids).loss) * (ids.shape[1] - 1)
    assert nats / math.log(2) / store.bytes == pytest.approx(summary["validation_bits_per_byte"], rel=0.01)


def test_duplicates_are_dropped_and_counted() -> None:
    text = " ".join(f"word{i}" for i in range(200))
    near = text.replace("word100", "other")
    rows = [("a", text), ("b", "  " + text.replace(" ", "  ")), ("c", near), ("d", "short"), ("e", text[::-1])]
    report = CorpusReport()
    kept = [name for name, _ in deduplicate(rows, 0.8, report)]
    assert kept == ["a", "e"]
    assert report.dropped == {
        "exact duplicate": 1,
        "near duplicate (Jaccard of at least 0.8)": 1,
        "shorter than 64 characters": 1,
    }
    strict = [name for name, _ in deduplicate(rows, 0.999, CorpusReport())]
    assert strict == ["a", "c", "e"]


def test_documents_never_share_a_sequence(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    run(corpus, tmp_path / "run", "train.max_steps=1")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "tokenizer")
    texts = paragraphs()[:7]
    write_store(tmp_path / "store", texts, tokenizer)
    store = TokenStore(tmp_path / "store", 16)
    end = tokenizer.eos_token_id
    for i in range(len(store)):
        ids = store[i].ids
        assert len(ids) <= 16 and end not in ids[1:-1], "the end token may only open or close a sequence"
    predicted = sum(len(store[i].ids) - 1 for i in range(len(store)))
    assert predicted == store.tokens - store.documents, "every token but the first of each document, once"
    joined = np.fromfile(tmp_path / "store" / "ids.bin", dtype=np.uint16)
    assert "".join(texts) == tokenizer.decode(joined, skip_special_tokens=True)


def test_bad_corpora_are_named_with_their_line(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": "fine"}\n{"txt": "no"}\n')
    with pytest.raises(InputError, match=r"bad.jsonl:2: no `text` field"):
        list(read_texts([bad]))
    bad.write_text('{"text": "fine"}\n{broken\n')
    with pytest.raises(InputError, match=r"bad.jsonl:2: not JSON"):
        list(read_texts([bad]))
    with pytest.raises(InputError, match="no such file"):
        list(read_texts([tmp_path / "none"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no text found"):
        list(read_texts([tmp_path / "empty"]))


def test_parquet_is_read(tmp_path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"text": ["one", "two"]}), tmp_path / "a.parquet")
    assert [text for _, text in read_texts([tmp_path])] == ["one", "two"]
    pyarrow.parquet.write_table(pyarrow.table({"body": ["one"]}), tmp_path / "b.parquet")
    with pytest.raises(InputError, match="no `text` column"):
        list(read_texts([tmp_path / "b.parquet"]))


def test_a_second_stage_teaches_to_answer_from_passages(tmp_path: Path) -> None:
    """Both stages of a base, small, on the sample documents."""
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    with gzip.open(corpus / "samples.jsonl.gz", "wt") as handle:
        for path in sorted(SAMPLES.glob("*.md")):
            handle.write(json.dumps({"text": path.read_text()}) + "\n")
    settings = ["pretrain.validation_fraction=0.4", "pretrain.reading_questions=30", "pretrain.context=1024"]
    summary = run(corpus, tmp_path / "run", *settings, "pretrain.reading_sequence=1024")
    assert summary["reading"]["steps"] > 0
    rows = [json.loads(line) for line in (tmp_path / "run" / "reading" / "train.jsonl").read_text().splitlines()]
    kinds = {row["metadata"]["reading"] for row in rows}
    assert kinds == {"memory", "gold", "passages", "missing"}
    for row in rows:
        answer, prompt = row["messages"][-1]["content"], row["messages"][0]["content"]
        assert (answer == "The documents do not say.") == (row["metadata"]["reading"] == "missing")
        assert prompt.endswith(row["metadata"]["question"])
    test = [json.loads(line) for line in (tmp_path / "run" / "reading" / "test.jsonl").read_text().splitlines()]
    held = {row["metadata"]["source"] for row in test}
    assert held and not held & {row["metadata"]["source"] for row in rows}
    first = (tmp_path / "run" / "pretrained" / "model.safetensors").read_bytes()
    assert first != (tmp_path / "run" / "model" / "model.safetensors").read_bytes()
