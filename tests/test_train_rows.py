"""Rows for encoders and encoder-decoders: windows over a long context, and what is refused or left out."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers as tr

from families import LABELLED, PAIRS, SPANS, chat, made, make_bases, wordpiece
from tinyforge.dataset.pairs import classes_of, input_text
from tinyforge.dataset.spans import answer_place, split_context, windows
from tinyforge.errors import InputError
from tinyforge.models.predict import Extractor, load_predictor
from tinyforge.records import Example, Message
from tinyforge.train.encoding import encode_all


@pytest.fixture(scope="module")
def bases(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return make_bases(tmp_path_factory.mktemp("bases"))


# --- spans and windows ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "question", "context"),
    [
        ("who ?\n\nada lives.\n\nben too.", "who ?", "ada lives.\n\nben too."),
        ("[1] Home\nada lives.\n\nQuestion: who", "Question: who", "[1] Home\nada lives."),
        ("ada lives.\n\nwho ?", "who ?", "ada lives."),
        ("who ?\nada lives.", "who ?", "ada lives."),
        ("ada lives.\n\nben too.", "", "ada lives.\n\nben too."),
        ("ada lives in the attic", "", "ada lives in the attic"),
    ],
)
def test_question_and_context(text: str, question: str, context: str) -> None:
    assert split_context(text) == (question, context)


def long_example(filler: int) -> Example:
    text = "who lives in the barn ?\n\n" + "filler . " * filler + "ben and ida . " + "filler . " * filler
    return chat(1, text, "ben and ida")


def test_a_long_context_is_read_in_windows(bases: dict[str, Path]) -> None:
    tokenizer, _, objective, rows = made(bases["bert"], "extract", [long_example(40)])
    assert len(rows) > 2 and all(len(row.ids) <= 64 for row in rows)
    holding = [row for row in rows if row.labels[1]]
    assert 1 <= len(holding) < len(rows)
    for row in rows:
        first, last = row.labels[:2]
        words = tokenizer.decode(row.ids[first : last + 1]) if last else ""
        assert words == ("ben and ida" if row in holding else "")
        assert tokenizer.decode(row.ids[1 : row.border - 1]).startswith("who lives in the barn")
    assert objective.encode(long_example(40), tokenizer) in [
        r for r in objective.encode_windows(long_example(40), tokenizer, 384) if r.labels[1]
    ]
    question, context = split_context(input_text(long_example(40)))
    covered = {o for w in windows(question, context, tokenizer, 64) for o in w.offsets if o}
    assert len(covered) == len(tokenizer(context, add_special_tokens=False)["input_ids"]), "nothing is left out"
    with pytest.raises(InputError, match=r"the question has 60 tokens, which leaves 1 of 64"):
        windows("who " * 60, context, tokenizer, 64)


def test_an_answer_is_found_in_any_window(bases: dict[str, Path]) -> None:
    """The weights are set by hand, so that the first token of a name is a start and its last an end."""
    tokenizer, model, _, _ = made(bases["distilbert"], "extract", SPANS)
    wanted = {tokenizer.convert_tokens_to_ids(word) for word in ("ben", "ida")}

    class Pointer(torch.nn.Module):
        config = model.config

        def forward(self, input_ids: Any, attention_mask: Any) -> Any:
            cls = (input_ids == tokenizer.cls_token_id).float() * 5
            ben, ida = ((input_ids == token).float() * 9 for token in sorted(wanted))
            return tr.modeling_outputs.QuestionAnsweringModelOutput(start_logits=cls + ben, end_logits=cls + ida)

    extractor = Extractor(Pointer(), tokenizer)
    found, missing = extractor.predict([long_example(40).question, "who ?\n\n" + "filler . " * 80])
    assert found.text == "ben and ida" and missing.text == ""
    backwards = extractor.predict(["who ?\n\nida and ben . " + "filler " * 70])[0]
    assert "ida and ben" not in backwards.text, "an end before its start is no span"
    with pytest.raises(InputError, match="text 2: is empty"):
        extractor.predict(["who ?\n\nada", " "])


def test_answers_that_cannot_be_extracted(bases: dict[str, Path]) -> None:
    assert answer_place(SPANS[9]) == (0, 0) and answer_place(PAIRS[0]) is None
    tokenizer, _, objective, _ = made(bases["bert"], "extract", SPANS)
    with pytest.raises(InputError, match="example e0: its answer is not a part of its input"):
        objective.encode(PAIRS[0], tokenizer)
    whole = "filler . " * 100
    with pytest.raises(InputError, match="its answer is too long to lie in one window of 64 tokens"):
        objective.encode_windows(chat(1, "who ?\n\n" + whole, whole), tokenizer, 64)


# --- rows that are refused or left out --------------------------------------------------------------------------------


def test_long_rows_are_left_out_whole_and_counted(bases: dict[str, Path]) -> None:
    tokenizer, _, objective, _ = made(bases["t5"], "seq2seq", PAIRS)
    many = [replace(PAIRS[n % 10], id=f"r{n}") for n in range(100)]
    many[7] = chat(7, "who ?", "ada " * 80)
    rows, report = encode_all(objective, many, tokenizer, 64)
    assert len(rows) == report.rows == 99 and report.names == ["e7"]
    assert report.left_out == {"longer than 64 tokens": 1} and report.targets == sum(row.targets for row in rows)
    with pytest.raises(InputError, match=r"2 of 100 examples are longer than 64 tokens, first e7"):
        encode_all(objective, [*many[:-1], chat(8, "ada " * 80, "ben")], tokenizer, 64)
    dev, _ = encode_all(objective, many[5:10], tokenizer, 64, beside=100)
    assert len(dev) == 4  # of five rows beside a hundred, one too long is no reason to stop
    with pytest.raises(InputError, match="1 of 1 examples"):
        encode_all(objective, many[7:8], tokenizer, 64, beside=100)


def test_labels_that_cannot_be_learned(bases: dict[str, Path]) -> None:
    tokenizer, _, objective, _ = made(bases["bert"], "classify", LABELLED)
    with pytest.raises(
        InputError, match=r"has the label 'other', which no training row has\. Known: complaint, praise"
    ):
        objective.encode(replace(LABELLED[0], label="other"), tokenizer)
    with pytest.raises(InputError, match=r"have only 1 label\(s\): praise"):
        classes_of(LABELLED[:5])
    with pytest.raises(InputError, match="example e0: has no input text"):
        objective.encode(Example("e0", (Message("user", " "),), label="praise"), tokenizer)


def test_a_text_that_does_not_fit_is_refused_by_number(bases: dict[str, Path], tmp_path: Path) -> None:
    _, model, _, _ = made(bases["bert"], "classify", LABELLED)
    model.save_pretrained(tmp_path)
    wordpiece().save_pretrained(tmp_path)
    with pytest.raises(InputError, match="text 2: has 82 tokens; this model takes 1 to 64"):
        load_predictor(tmp_path).predict(["ada", "ada " * 80])
