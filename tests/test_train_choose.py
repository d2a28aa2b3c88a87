"""What is learned from which rows by which family, and what cannot be."""

from __future__ import annotations

import pytest

from families import LABELLED, PAIRS, SPANS, chat
from tinyforge.dataset.holdout import hold_out, with_known_classes
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.errors import InputError
from tinyforge.records import Example
from tinyforge.train import OBJECTIVES
from tinyforge.train.choose import choose_objective


def few_outputs(rows: int, outputs: int) -> list[Example]:
    return [chat(n, f"row {n}", f"output {n % outputs}") for n in range(rows)]


@pytest.mark.parametrize(
    ("kind", "examples", "model", "expected"),
    [
        ("text", [], "decoder", "pretrain"),
        ("preference", PAIRS, "decoder", "dpo"),
        ("labelled", LABELLED, "decoder", "classify"),
        ("labelled", LABELLED, "encoder", "classify"),
        ("labelled", LABELLED, "encoder-decoder", "classify"),
        ("chat", PAIRS, "decoder", "sft"),
        ("chat", PAIRS, "encoder-decoder", "seq2seq"),
        ("chat", PAIRS, "encoder", "respond"),
        ("chat", PAIRS[:3], "encoder", "respond"),
        ("chat", SPANS, "encoder", "extract"),
        ("chat", [*SPANS, PAIRS[0]], "encoder", "respond"),
        ("chat", few_outputs(10, 2), "encoder", "classify"),
        ("chat", few_outputs(9, 2), "encoder", "respond"),
        ("chat", few_outputs(100, 20), "encoder", "classify"),
        ("chat", few_outputs(105, 21), "encoder", "respond"),
        ("chat", [*few_outputs(99, 2), chat(99, "one more", "once")], "encoder", "respond"),
        ("chat", few_outputs(10, 1), "encoder", "respond"),
        ("chat", [chat(n, "who ?\n\nada", NOT_FOUND) for n in range(3)], "encoder", "respond"),
    ],
)
def test_the_objective_is_chosen_by_the_data(kind: str, examples: list[Example], model: str, expected: str) -> None:
    name, reason = choose_objective(kind, examples, model)
    assert name == expected and reason and "\n" not in reason and name in OBJECTIVES


def test_rows_that_a_family_cannot_learn_from() -> None:
    with pytest.raises(InputError, match="an encoder model cannot learn from plain text"):
        choose_objective("text", [], "encoder")
    with pytest.raises(InputError, match="cannot learn from preference pairs"):
        choose_objective("preference", PAIRS, "encoder-decoder")
    with pytest.raises(InputError, match="unknown kind of rows 'odd'"):
        choose_objective("odd", PAIRS, "decoder")


def test_no_class_is_held_out_whole() -> None:
    rows = [Example(f"r{n}", (), (), text=f"row {n}", label=f"rare{n}" if n < 5 else "ab"[n % 2]) for n in range(60)]
    moved = 0
    for seed in range(20):
        sides = hold_out(rows, 0.2, seed)
        kept = with_known_classes(sides)
        assert {e.label for e in kept.dev} <= {e.label for e in kept.train}
        assert sorted(e.id for e in (*kept.train, *kept.dev)) == sorted(e.id for e in rows)
        moved += len(kept.train) - len(sides.train)
        assert (kept.note != sides.note) == (len(kept.train) > len(sides.train))
    assert moved
