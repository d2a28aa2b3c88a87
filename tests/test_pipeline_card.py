"""The dataset's card: loadable as the hub loads it, self-contained, with the figures of the rows beside it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tinyforge.dataset.general import general_texts
from tinyforge.evaluate.dataset_page import render
from tinyforge.pipeline.card import card, readme
from tinyforge.pipeline.examples import SPLITS
from tinyforge.records import Document, Example, Message, Span
from tinyforge.run import write_jsonl, write_text

ANSWERS = [f"Tool {n} stands in room {n} of the library." for n in range(12)]
DOCUMENT = Document("d", "\n".join(ANSWERS), (), "tools.md", {"title": "Tools <b>&"})


def rows(part: str, facts: range) -> list[Example]:
    def one(n: int, wording: int) -> Example:
        start = DOCUMENT.text.index(ANSWERS[n])
        return Example(
            f"{n}-{wording}",
            (Message("user", f"Where is tool {n}, in words {wording}?"), Message("assistant", ANSWERS[n])),
            (Span("d", start, start + len(ANSWERS[n])),),
            f"f{n}",
            topic=f"Room {n % 3}",
            rule="definition",
            split=part,  # type: ignore[arg-type]
            metadata={"wording": wording, "source": "tools.md", "section": f"Room {n % 3}"},
        )

    made = [one(n, wording) for n in facts for wording in range(3)]
    if part == "train":  # a row of another form, as reading rows are
        made.append(Example("r", made[0].messages, (), "f0", metadata={"reading": "missing", "question": "Q?"}))
    return made


@pytest.fixture(scope="module")
def made() -> tuple[dict[str, list[Example]], dict[str, Any]]:
    facts = {"train": range(6), "dev": range(6, 8), "wordings": range(8, 10), "documents": range(10, 12)}
    found = {name: rows(name, facts[name]) for name in SPLITS}
    splits = {name: {"facts": len(facts[name]), "examples": 3 * len(facts[name])} for name in SPLITS}
    uncovered = [{"source": "tools.md", "section": "Empty", "reason": "no prose"}]
    examples = {
        "sections": 4, "sections_covered": 3, "sections_covered_by_precise_rules": 2, "uncovered": uncovered,
        "rejected": {"over_budget": 4},
    }  # fmt: skip
    return found, card(found, [DOCUMENT], examples, {"splits": splits, "reading": {"train": 1}})


def test_the_figures_by_hand(made: tuple[dict[str, list[Example]], dict[str, Any]]) -> None:
    quality, said = made[1]["quality"], made[1]
    assert (quality["facts"], quality["rows"], quality["grounding"], quality["completeness"]) == (12, 36, 1.0, 1.0)
    assert quality["topic_entropy"] == pytest.approx(0.7925, abs=1e-4)  # three even topics of four: log 3 / log 4
    assert said["sources"] == [{"source": "tools.md", "sections": 4, "covered": 3, "facts": 12}]
    assert said["title"] == "Tools <b>&" and said["languages"] == {"en": 12}


def test_the_page_loads_nothing_and_escapes_everything(made: tuple[dict[str, list[Example]], dict[str, Any]]) -> None:
    page = render(made[1])
    assert page == render(made[1]) and page.count("<svg") >= 6
    assert "Tools &lt;b&gt;&amp;" in page and "<script" not in page
    assert not re.search(r'(?:src|href)="(?!#)', page) and "prefers-color-scheme: dark" in page


def test_the_folder_is_a_dataset_of_the_hub(
    made: tuple[dict[str, list[Example]], dict[str, Any]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from datasets import load_dataset

    folder = tmp_path / "dataset"
    for name, found in made[0].items():
        write_jsonl(folder / f"{name}.jsonl", (e.to_json() for e in found))
    write_jsonl(folder / "candidates.jsonl", [{"other": 1}])
    write_jsonl(folder / "retention.jsonl", (Example("t", (), text=text).to_json() for text in general_texts()))
    write_text(folder / "README.md", readme(made[1]))
    front = yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])
    assert front["configs"][0]["data_files"][0] == {"split": "train", "path": "train.jsonl"}
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(part) for name, part in loaded.items()} == {"train": 19, "dev": 6, "wordings": 6, "documents": 6}
    first = loaded["train"][0]
    assert first["messages"][1]["content"] == ANSWERS[0] and first["evidence"][0]["end"] == len(ANSWERS[0])
    general = load_dataset(str(folder), "retention", cache_dir=str(tmp_path / "cache"))
    assert len(general["retention"]) == len(general_texts())
