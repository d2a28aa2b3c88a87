"""A teacher's examples: what the gates let through, where they go, and that no call is paid twice, whatever happens."""

from __future__ import annotations

import json
import re
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from kill import Call as KillAt
from kill import server as killable
from little import make_base
from synthesize_pages import build
from teacher_server import Teacher, by_rule
from tinyforge.cli import main
from tinyforge.config import SynthesizeConfig
from tinyforge.dataset.prompts import NOT_FOUND
from tinyforge.dataset.split import check_leaks
from tinyforge.errors import InputError
from tinyforge.pipeline.placement import is_own, join
from tinyforge.records import Document, Example, Message, Span
from tinyforge.run import hash_file, read_json
from tinyforge.synthesize import synthesize
from tinyforge.synthesize.focus import weights
from tinyforge.synthesize.grounding import align, covered, foreign, names, numbers, token_f1
from tinyforge.synthesize.places import places
from tinyforge.synthesize.prompts import PROMPTS
from tinyforge.synthesize.teacher import Excerpt, Item, Known, Task, items_of, judge

PAGE = """# Tool library

## Loans

A loan is an agreement to bring a tool back within seven days. The desk sends a reminder on the sixth day of every loan.

## Fees

Members pay 24 euros a year because the tools wear out. The yearly fee is due on 1 March.

## Late fees

A late fee is a charge of 50 cents for each day. Nobody pays a late fee on Sundays.

## Repair evenings

A repair evening is a meeting where members mend broken things. Spare parts are paid by the owner of the broken thing.

## Workshop

The workshop is a room with four benches and a lathe. The workshop closes at 21:00 on weekdays.

## Lathe training

Lathe training is a course of two hours for new turners. Lathe training costs 15 euros for members.

## Guests

A guest is a person who comes along with a member. Guests may use hand tools in the workshop.

## Seed shelf

The seed shelf is a rack of free seeds beside the door. Gardeners bring seeds back in autumn.

## Wardens

A warden is a volunteer who opens the library in the morning. Anna Berg leads the eleven wardens.

## Power tools

A power tool is a machine with a motor or a battery. Power tools are lent for three days only.

## Ladders

A ladder is a frame with rungs that reaches the roof. Ladders longer than 4 metres need two people.

## Deposits

A deposit is a sum of money kept until a tool is back. The deposit for a drill is 30 euros.

## Newsletter

The newsletter is a letter that lists new tools every month. Carl Rask writes the newsletter.

## Paint bank

The paint bank is a cupboard with left over paint. Paint from the bank is free for schools.
"""
SETTINGS = {
    "synthesize.teacher_examples": "150",
    "synthesize.wordings": "12",
    "synthesize.rounds": "3",
    "synthesize.teacher_concurrency": "4",
}


def pairs(**changes: str) -> list[str]:
    settings = {**SETTINGS, **{key.replace("__", "."): value for key, value in changes.items()}}
    return [word for key, value in settings.items() for word in ("--set", f"{key}={value}")]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A page, and a run in which it is read and indexed."""
    folder = tmp_path_factory.mktemp("teacher")
    (folder / "page.md").write_text(PAGE)
    assert main(["synthesize", str(folder / "page.md"), "--out", str(folder / "run"), *pairs()]) == 0
    return folder / "page.md", folder / "run"


@pytest.fixture
def run(prepared: tuple[Path, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(prepared[1], tmp_path / "run"))


def command(page: Path, run: Path, teacher: str, **changes: str) -> list[str]:
    return ["synthesize", str(page), "--out", str(run), "--teacher", teacher, "--yes", *pairs(**changes)]


def rows(run: Path, name: str = "candidates") -> list[Example]:
    lines = (run / "dataset" / f"{name}.jsonl").read_text().splitlines()
    return [Example.from_json(json.loads(line)) for line in lines]


# --- gates, by hand ---------------------------------------------------------------------------------------------------

TEXT = (
    "Members pay 24 euros a year, because “the tools” wear out. The fee is due\non 1 March. Anna Berg keeps the list."
)


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        ("Members pay 24 euros a year", ["Members pay 24 euros a year"]),
        ("the TOOLS wear out", ["the tools” wear out."]),
        ("The fee is due on 1 March.", ["The fee is due\non 1 March."]),
        ("Members pay 24 euros ... The fee is due", ["Members pay 24 euros", "The fee is due"]),
        ("Members pay 25 euros a year", []),
        ("Members pay 24 euros ... the fee is never due", []),
        ("March", []),  # too short to stand in one place only
    ],
)
def test_a_quote_is_found_or_refused(quote: str, found: list[str]) -> None:
    whole = Span("d", 0, len(TEXT))
    assert [TEXT[s.start : s.end] for s in align(quote, TEXT, whole)] == found


def test_a_quote_outside_what_was_shown_is_refused() -> None:
    assert not align("Anna Berg keeps the list", TEXT, Span("d", 0, 60))


@pytest.mark.parametrize(
    ("answer", "strange"),
    [
        ("They pay 24 euros.", ""),
        ("They pay twenty-four or 25 euros.", "25"),
        ("The list is kept by Anna Berg.", ""),
        ("The list is kept by Carl Berg.", "carl"),
        ("It is due on 1 April.", "april"),
        ("The Library says so.", ""),  # named in the heading
    ],
)
def test_numbers_and_names_must_be_in_the_evidence(answer: str, strange: str) -> None:
    assert foreign(answer, [TEXT], "Who pays? Library") == strange


def test_the_measures_by_hand() -> None:
    assert numbers("1,200 tools, two benches and 3.5 hours") == {"1200", "2", "3.5"}
    assert names("It is Anna Berg's. They met in Oslo") == {"anna", "berg", "oslo"}
    assert token_f1("the red tool", "a red hammer") == pytest.approx(2 * 1 / (2 + 2))
    assert token_f1("", "x") == 0
    units = [Span("d", 0, 5), Span("d", 6, 9), Span("e", 0, 4)]
    assert covered(units, [Span("d", 4, 7)]) == {0, 1} and covered(units, [Span("e", 3, 9)]) == {2}
    assert covered(units, [Span("d", 9, 20)]) == set()


def item(kind: str, reply: Any, document: Document) -> Item:
    place = next(places([document]))
    excerpt = Excerpt(place.section.span, place.heading, document.slice(place.section.span))
    about = synthesize([document], SynthesizeConfig(), 1).examples[:1]  # type: ignore[call-arg]
    task = Task(PROMPTS[kind], place, "topic", (excerpt,), about[0] if about else None)
    found = items_of(json.dumps(reply), task)
    assert found is not None
    return found[0]


WHO, STANDS = "Who keeps the list?", ["Anna Berg keeps the list"]


@pytest.mark.parametrize(
    ("kind", "question", "answer", "quotes", "gate"),
    [
        ("implication", WHO, "Anna does.", STANDS, ""),
        ("implication", WHO, "Anna does.", ["Anna keeps it all"], "quote_not_found"),
        ("implication", WHO, "Anna does.", [], "no_quote"),
        ("implication", WHO, "", STANDS, "empty"),
        ("implication", WHO, "Then Carl Rask does, with 7 others.", STANDS, "not_in_evidence"),
        ("implication", "What is said in this excerpt?", "x", [], "question_not_self_contained"),
        ("implication", "Who?", "Anna does.", STANDS, "question_length"),
        ("multi_span", WHO, "Anna does.", STANDS, "one_span"),
        ("multi_turn", WHO, "Anna does.", STANDS, "one_turn"),
    ],
)
def test_each_gate_refuses_what_it_is_for(kind: str, question: str, answer: str, quotes: list[str], gate: str) -> None:
    document = build(("heading1", "Fees"), ("paragraph", TEXT.replace("\n", " ")))
    row = {"question": question, "answer": answer, "quotes": quotes}
    made = item(kind, {"items": [row]}, document)
    (judged,) = judge([made], {document.id: document}, lambda items: [(True, 1.0)] * len(items), Known([]))
    assert judged.gate == gate


def test_a_question_is_asked_once_and_must_be_answered_by_the_reader() -> None:
    document = build(("heading1", "Fees"), ("paragraph", TEXT.replace("\n", " ")))
    row = {"question": "Who keeps the list?", "answer": "Anna does.", "quotes": ["Anna Berg keeps the list"]}
    close = {**row, "question": "Tell me, who keeps the list?"}
    made = [item("implication", {"items": [one]}, document) for one in (row, row, close)]
    judged = judge(made, {document.id: document}, lambda items: [(False, 0.1)] * len(items), Known([]))
    assert [j.gate for j in judged] == ["not_recovered", "duplicate_question", "near_duplicate"]
    assert judged[0].score == 0.1


# --- the whole, with a server -----------------------------------------------------------------------------------------


@dataclass
class Taught:
    page: Path
    run: Path
    server: Teacher


@pytest.fixture(scope="module")
def taught(prepared: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Taught]:
    run = Path(shutil.copytree(prepared[1], tmp_path_factory.mktemp("taught") / "run"))
    with Teacher() as server:
        assert main(command(prepared[0], run, server.url)) == 0
        yield Taught(prepared[0], run, server)


def test_every_kind_is_written_and_every_span_stands(taught: Taught) -> None:
    lines = (taught.run / "documents.jsonl").read_text().splitlines()
    documents = {d.id: d for d in map(Document.from_json, map(json.loads, lines))}
    made = [e for e in rows(taught.run) if "teacher" in e.metadata]
    assert {e.rule for e in made} == {f"teacher_{name}" for name in PROMPTS}
    for example in made:
        assert all(0 <= s.start < s.end <= len(documents[s.document].text) for s in example.evidence)
        assert bool(example.evidence) != (example.answer == NOT_FOUND)
        assert example.metadata["version"] and example.metadata["score"] is not None
    assert not any("977" in e.answer for e in made)  # what the server made up


def test_the_ledger_knows_what_a_teacher_made_up(taught: Taught, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "rejected", str(taught.run), "--gate", "quote_not_found", "--limit", "500", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)["rejected"]
    assert found and all("977" in row["answer"] and row["version"] for row in found)
    accepted = next(e for e in rows(taught.run) if e.rule == "teacher_implication")
    assert main(["data", "why", str(taught.run), accepted.id, "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert entry["rule"] == "teacher_implication" and entry["score"] == accepted.metadata["score"] > 0


def test_a_teachers_rows_are_trained_and_leak_nothing(taught: Taught) -> None:
    parts = {name: rows(taught.run, name) for name in ("train", "dev", "wordings", "documents")}
    assert not check_leaks([e for found in parts.values() for e in found if not e.metadata.get("reading")])
    assert not any(is_own(e) for name in ("dev", "wordings", "documents") for e in parts[name])
    train = parts["train"]
    missing = [e for e in train if e.rule == "teacher_unanswerable"]
    assert missing and all(e.answer == NOT_FOUND and "Question:" in e.question for e in missing)
    assert all("[1]" in e.question for e in train if e.rule == "teacher_distractors")
    conversations = [e for e in rows(taught.run) if e.rule == "teacher_multi_turn"]
    assert conversations and min(len(e.messages) for e in conversations) >= 4


def test_what_is_held_out_is_not_taught() -> None:
    held = Example("1", (Message("user", "q"), Message("assistant", "a")), (Span("d", 5, 9),), "f", split="documents")
    near = Example("2", (Message("user", "r"), Message("assistant", "b")), (Span("d", 8, 12),), "g")
    far = Example("3", (Message("user", "s"), Message("assistant", "c")), (Span("d", 9, 12),), "h")
    kept, reasons = join([near, far], [held])
    assert [e.id for e in kept] == ["3"] and list(reasons.values()) == [1] and kept[0].split == "train"


def test_a_second_run_asks_nothing_and_other_settings_ask_only_what_is_new(taught: Taught, tmp_path: Path) -> None:
    run = Path(shutil.copytree(taught.run, tmp_path / "run"))
    before = sum(taught.server.calls.values())
    (run / "stages" / "examples.json").unlink()
    assert main(command(taught.page, run, taught.server.url)) == 0
    assert sum(taught.server.calls.values()) == before
    assert files(run) == files(taught.run)


def files(run: Path) -> dict[str, str]:
    return {path.name: hash_file(path) for path in sorted((run / "dataset").iterdir())}


def test_a_server_that_fails_in_every_way_changes_nothing(taught: Taught, run: Path) -> None:
    before = dict(taught.server.paid)
    taught.server.faults = ["429", "500", "cut", "nonsense", "429"] * 3
    assert main(command(taught.page, run, taught.server.url)) == 0
    assert files(run) == files(taught.run) and not taught.server.faults
    assert all(taught.server.paid[name] == 2 * count for name, count in before.items())  # this run's and the first's


def test_replies_that_are_no_json_are_asked_for_again_once_and_kept(taught: Taught, run: Path) -> None:
    def stubborn(messages: list[dict[str, str]]) -> str:
        again = messages[-1]["content"].startswith("That was not the JSON")
        silly = "Loans" in messages[1]["content"]
        return "I would rather not." if silly or not again else by_rule(messages)

    with Teacher(stubborn) as server:
        assert main(command(taught.page, run, server.url, synthesize__rounds="1")) == 0
    summary = read_json(run / "stages" / "examples.json")["summary"]["teacher"]
    assert summary["rejected"]["unreadable_reply"] >= 1 and summary["accepted"] > 5
    assert max(server.paid.values()) == 1


def test_a_paid_teacher_wants_consent_and_a_budget_is_kept(
    taught: Taught, run: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import io

    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))  # not a terminal: nobody is asked
    with Teacher() as server:
        words = [word for word in command(taught.page, run, server.url) if word != "--yes"]
        assert main(words) == 2 and "--yes" in capsys.readouterr().err and not server.calls
        assert main(command(taught.page, run, server.url, synthesize__teacher_requests="5")) == 0
        assert sum(server.calls.values()) == 5
    assert read_json(run / "stages/examples.json")["summary"]["teacher"]["stopped"] == "the budget is spent"


def test_the_teacher_can_be_the_reader(taught: Taught, run: Path) -> None:
    with Teacher() as server:
        assert main(command(taught.page, run, server.url, synthesize__reader="teacher", synthesize__rounds="1")) == 0
        assert any("Answer the question" in prompt for prompt in server.prompts)
    assert read_json(run / "stages/examples.json")["summary"]["teacher"]["accepted"] > 0


def test_a_local_model_needs_no_consent(taught: Taught, run: Path, tmp_path: Path) -> None:
    base = make_base(tmp_path / "base")
    words = command(taught.page, run, str(base), synthesize__rounds="1", synthesize__teacher_examples="2")
    assert main([word for word in words if word != "--yes"] + ["--set", "synthesize.teacher_answer_tokens=64"]) == 0
    summary = read_json(run / "stages/examples.json")["summary"]["teacher"]
    assert summary["calls"] >= 1 and set(summary["rejected"]) == {"unreadable_reply"}  # it was never trained


def test_focus_weighs_what_the_report_gets_wrong(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    answers = [("Fees", 0.0), ("Fees", 0.5), ("Loans", 1.0)]
    questions = [{"source": "p.md", "section": s, "answers": {"tuned": {"token_f1": f}}} for s, f in answers]
    path.write_text(json.dumps({"choice": "tuned", "questions": questions}))
    assert weights(str(path)) == {("p.md", "Fees"): pytest.approx(1 + 3 * 0.75), ("p.md", "Loans"): 1.0}
    document = build(("heading1", "Fees"), ("paragraph", "A fee is a sum of money that members pay."), source="p.md")
    plain, focused = (
        synthesize([document], SynthesizeConfig(wordings=8, focus=focus), 1)  # type: ignore[call-arg]
        for focus in ("", str(path))
    )
    assert len(focused.examples) / len(plain.examples) == pytest.approx(14 / 8)  # wrong three times out of four
    path.write_text("{}")
    with pytest.raises(InputError, match="not the report"):
        weights(str(path))


# --- kill -9 ----------------------------------------------------------------------------------------------------------

KEEP, READ = "tinyforge.models.calls.Store.keep", "tinyforge.models.endpoint.Endpoint._read"
POINTS = [
    *(KillAt(KEEP, n) for n in (1, 2, 5, 9, 14)),
    *(KillAt(READ, n) for n in (1, 3, 7, 12)),
    *(KillAt(f"tinyforge.pipeline.rounds.{name}", 1) for name in ("judge", "Rounds._measure")),
    *(KillAt("os.replace", n) for n in range(1, 10)),
    *(KillAt("os.fsync", n) for n in range(1, 14)),
    *(KillAt(KEEP, n) for n in (3, 4, 6, 7, 8, 10, 11, 12, 13)),
    *(KillAt(READ, n) for n in (2, 4, 5, 6, 8, 9, 10, 11)),
]
FEW = (POINTS[2], POINTS[6], POINTS[10], POINTS[15])


def killed_and_finished(taught: Taught, run: Path, folder: Path, points: list[KillAt]) -> None:
    """Kill at each of the points; the same command then gives the same bytes, and pays for no kept answer again."""
    words = command(taught.page, run, taught.server.url)
    with killable(folder, OPENAI_API_KEY="") as started:
        for point in points:
            at = folder / re.sub(r"\W", "_", f"{point.name}{point.number}")
            words[words.index("--out") + 1] = str(shutil.copytree(run, at))
            taught.server.calls.clear()
            assert started.run(words, at=point).code == -9, point
            kept = _kept(at)
            assert kept <= set(taught.server.calls)
            assert started.run(words).code == 0, point
            assert files(at) == files(taught.run), point
            assert all(taught.server.calls[key] == 1 for key in kept), point
            again = sum(taught.server.calls.values()) - len(taught.server.calls)
            assert again <= int(SETTINGS["synthesize.teacher_concurrency"]), point  # only what was under way
            shutil.rmtree(at)


def _kept(run: Path) -> set[str]:
    """The keys of the answers that are on the disk."""
    if not (run / "calls.sqlite").exists():
        return set()
    with closing(sqlite3.connect(run / "calls.sqlite")) as base:
        return {row[0] for row in base.execute("SELECT key FROM calls")}


def test_a_synthesis_killed_anywhere_ends_as_if_it_had_not_been(taught: Taught, run: Path, tmp_path: Path) -> None:
    killed_and_finished(taught, run, tmp_path, list(FEW))


@pytest.mark.slow
def test_a_synthesis_killed_at_fifty_points(taught: Taught, run: Path, tmp_path: Path) -> None:
    assert len(set(POINTS)) == 50
    killed_and_finished(taught, run, tmp_path, POINTS)
