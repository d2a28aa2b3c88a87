"""Pretraining from scratch: a corpus in, a plain transformers folder out, that predicts held-out text better."""

from __future__ import annotations

import gzip
import json
import math
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import zstandard
from transformers import AutoModelForCausalLM, AutoTokenizer

from tinyforge.dataset.corpus import CorpusReport, TokenStore, deduplicate, read_texts, write_store
from tinyforge.errors import InputError
from tinyforge.pipeline.pretrain import pretrain
from tinyforge.recipe import load_config

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


NOT_FOUND = "The documents do not say."


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both stages of a base, small, on the sample documents: borrowing gives questions only, membership is held out."""
    folder = tmp_path_factory.mktemp("taught")
    corpus = folder / "corpus"
    corpus.mkdir()
    for path in sorted(SAMPLES.glob("*.md")):
        with gzip.open(corpus / f"{path.stem}.jsonl.gz", "wt") as handle:
            handle.write(json.dumps({"text": path.read_text()}) + "\n")
    run(corpus, folder / "run", *TAUGHT)
    return folder / "run"


TAUGHT = (
    *("pretrain.validation_fraction=0.3", "pretrain.context=1024", "pretrain.reading_sequence=1024"),
    *(
        "pretrain.reading_tokens=60000",
        "pretrain.declining_tokens=40000",
        "seed=5",
        "pretrain.reading_only=[borrowing*]",
        "train.max_steps=3",
    ),
)


def lessons(run_folder: Path, name: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run_folder / "reading" / f"{name}.jsonl").read_text().splitlines()]


def test_a_second_stage_teaches_to_answer_from_passages(taught: Path) -> None:
    first = (taught / "pretrained" / "model.safetensors").read_bytes()
    assert first != (taught / "model" / "model.safetensors").read_bytes()
    rows = lessons(taught, "train")
    assert {"gold", "passages", "sentences"} <= {row["metadata"]["reading"] for row in rows}
    assert max(len(row["messages"]) for row in rows) > 2, "several questions share a prompt"
    for row in rows:
        first_prompt = row["messages"][0]["content"]
        assert ("[1] " in first_prompt) == (row["metadata"]["reading"] != "memory")
        assert all("[1] " not in m["content"] for m in row["messages"][2:] if m["role"] == "user")


def test_what_a_lesson_answers_stands_in_its_passages(taught: Path) -> None:
    """Every answer of a gold or passages lesson is copied from its prompt; what is declined is not in it."""

    def squeezed(text: str) -> str:
        return "".join(text.split())

    checked = declined = 0
    for row in lessons(taught, "train"):
        if row["metadata"]["reading"] == "memory":
            continue
        prompt = squeezed(row["messages"][0]["content"])
        for message in row["messages"][1::2]:
            if message["content"] == NOT_FOUND:
                declined += 1
                continue
            pieces = [squeezed(piece) for piece in re.split(r"\. |\n", message["content"])]
            assert all(piece.rstrip(".") in prompt for piece in pieces), message["content"]
            checked += 1
    assert checked > 20 and 0 < declined < checked / 3


def test_lessons_of_sentences_show_one_sentence_at_a_time(taught: Path) -> None:
    """As a small model is given them when it is asked: other sentences stand among those of the answers."""
    from tinyforge.retrieve.sentences import sentences

    found = [row for row in lessons(taught, "train") if row["metadata"]["reading"] == "sentences"]
    assert found
    for row in found:
        shown = row["messages"][0]["content"].split("\n\nQuestion: ")[0]
        blocks = [block.partition("\n")[2] for block in re.split(r"\n\n(?=\[\d+\] )", shown)]
        assert len(blocks) > 2
        assert all(len(sentences(block)) <= 1 for block in blocks), blocks


def shown_in(row: dict[str, Any]) -> dict[str, str]:
    """The passages of a lesson's prompt: text by heading."""
    blocks = re.split(r"\n\n(?=\[\d+\] )", row["messages"][0]["content"].rpartition("\n\nQuestion: ")[0])
    found = {block.partition("\n")[0].partition("] ")[2]: block.partition("\n")[2] for block in blocks}
    assert len(found) == len(blocks), "two passages under one heading"
    return found


def test_choices_come_first_each_among_passages_that_hold_nothing_else(taught: Path) -> None:
    found = lessons(taught, "choices")
    assert found and (taught / "chosen" / "model.safetensors").is_file()
    several = 0
    for row in found:
        assert row["metadata"]["reading"] == "choices"
        answers = ["".join(m["content"].split()) for m in row["messages"][1::2]]
        texts = {"".join(text.split()) for text in shown_in(row).values()}
        assert NOT_FOUND not in {m["content"] for m in row["messages"]}
        several += len(texts) > 2
        if row["rule"] == "section":
            assert len(answers) == len(texts)
            assert any(answer.rstrip(".") in text for answer in answers for text in texts)
    assert several > len(found) / 3


def test_pieces_stand_under_different_headings(taught: Path) -> None:
    found = [row for row in lessons(taught, "train") if row["metadata"]["reading"] == "pieces"]
    assert found and max(len(shown_in(row)) for row in found) > 3


def test_without_choices_reading_begins_with_the_pretrained_model(taught: Path, tmp_path: Path) -> None:
    assert (taught / "stages" / "choosing.json").is_file() and (taught / "stages" / "reading.json").is_file()
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    for name in ("choosing", "reading", "lessons"):
        (again / "stages" / f"{name}.json").unlink()
    shutil.rmtree(again / "chosen")
    run(taught.parent / "corpus", again, *TAUGHT, "pretrain.reading_choices=0")
    assert not (again / "chosen").exists() and not lessons(again, "choices")
    assert (again / "model" / "model.safetensors").read_bytes() != (taught / "model" / "model.safetensors").read_bytes()


def test_without_reading_the_pretrained_model_is_the_result(taught: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    run(taught.parent / "corpus", again, *TAUGHT, "pretrain.reading_tokens=0")
    model, pretrained = ((again / name / "model.safetensors").read_bytes() for name in ("model", "pretrained"))
    assert model == pretrained != (taught / "model" / "model.safetensors").read_bytes()


def declined(rows: list[dict[str, Any]]) -> float:
    answers = [m["content"] for row in rows for m in row["messages"][1::2]]
    return sum(answer == NOT_FOUND for answer in answers) / len(answers)


def test_declining_comes_last_from_what_has_learned_to_read(taught: Path, tmp_path: Path) -> None:
    more = lessons(taught, "declines")
    assert declined(more) > declined(lessons(taught, "train")) > 0
    trained = {row["metadata"]["source"] for row in lessons(taught, "train")}
    assert {row["metadata"]["source"] for row in more} <= trained, "of documents that are trained on"
    read, last = ((taught / name / "model.safetensors").read_bytes() for name in ("read", "model"))
    assert read != last
    without = tmp_path / "without"
    shutil.copytree(taught, without)
    run(taught.parent / "corpus", without, *TAUGHT, "pretrain.declining_tokens=0")
    assert (without / "model" / "model.safetensors").read_bytes() == read


def test_other_held_out_documents_make_other_lessons_to_decline(taught: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(taught, again)
    run(taught.parent / "corpus", again, *TAUGHT, "pretrain.reading_test_fraction=0.4")
    keys = [json.loads((folder / "stages" / "declines.json").read_text())["key"] for folder in (taught, again)]
    assert keys[0] != keys[1]


def test_the_base_of_the_angles_is_the_models(tmp_path: Path) -> None:
    run(write_corpus(tmp_path / "corpus"), tmp_path / "run", "train.max_steps=1", "pretrain.rope_theta=500000")
    config = json.loads((tmp_path / "run" / "model" / "config.json").read_text())
    assert config["rope_parameters"] == {"rope_type": "default", "rope_theta": 500000.0}


def test_held_out_documents_give_test_lessons_only(taught: Path) -> None:
    held = {row["metadata"]["source"] for name in ("dev", "test") for row in lessons(taught, name)}
    trained = {row["metadata"]["source"] for row in lessons(taught, "train")}
    assert held and trained and not held & trained
    kinds = [row["metadata"]["reading"] for row in lessons(taught, "test")]
    assert {"gold", "passages", "missing"} == set(kinds) or len(kinds) < 3
    for row in lessons(taught, "test"):
        section = row["metadata"]["section"].rpartition(" > ")[2]
        shown = re.findall(r"^\[\d+\] (.+)$", row["messages"][0]["content"], re.MULTILINE)
        found = any(heading.rpartition(" > ")[2] == section for heading in shown)
        assert found == (row["metadata"]["reading"] != "missing")


def test_documents_for_reading_only_are_not_running_text(tmp_path: Path) -> None:
    corpus = write_corpus(tmp_path / "corpus")
    run(corpus, tmp_path / "all", "train.max_steps=1")
    run(corpus, tmp_path / "some", "train.max_steps=1", "pretrain.reading_only=[a.jsonl*]")
    counts = [
        json.loads((tmp_path / name / "tokens" / "train" / "meta.json").read_text())["documents"]
        for name in ("all", "some")
    ]
    assert 0 < counts[1] < counts[0]


def test_pretraining_shows_what_it_writes(tmp_path: Path) -> None:
    notes: list[str] = []
    config = load_config(None, [*SMALL, "train.max_steps=4"])
    pretrain([write_corpus(tmp_path / "corpus")], tmp_path / "run", config, lambda s, note: notes.append(note), print)
    assert len([note for note in notes if note.startswith("step 4 writes: ")]) == 1
    events = [json.loads(line) for line in (tmp_path / "run" / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if event["event"] == "step"]
    assert all(0 < event["peak_share"] < 1.5 for event in steps)


def test_a_dataset_in_the_hubs_form_is_streamed(tmp_path: Path) -> None:
    pytest.importorskip("datasets")
    folder = tmp_path / "dataset"
    folder.mkdir()
    (folder / "train.jsonl").write_text("".join(json.dumps({"text": f"text {i} " * 10}) + "\n" for i in range(50)))
    texts = [text for _, text in read_texts([f"hub:{folder}"], hub_characters=250)]
    assert texts == [f"text {i} " * 10 for i in range(len(texts))] and 3 <= len(texts) <= 5
    (folder / "train.jsonl").write_text('{"body": "x"}\n')
    with pytest.raises(InputError, match="no `text` field"):
        list(read_texts([f"hub:{folder}"]))


def test_a_size_names_a_shape_and_settings_change_it() -> None:
    from tinyforge.cli import main
    from tinyforge.config import SIZES, PretrainConfig

    assert SIZES["tiny"].items() <= PretrainConfig().model_dump().items()
    with pytest.raises(SystemExit, match="2"):
        main(["pretrain", "nowhere", "--out", "x", "--size", "huge"])
