from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from evaluate_sample import document, sample_report
from tinyforge.config import Config
from tinyforge.errors import InputError
from tinyforge.evaluate.accounts import changed_options
from tinyforge.evaluate.answers import changes, mark, worst_first
from tinyforge.evaluate.cells import best_value, duration, number
from tinyforge.evaluate.compare import Answer
from tinyforge.evaluate.markup import Markup, join, tag
from tinyforge.evaluate.report import KEYS, render, write_report
from tinyforge.evaluate.table import terminal_table

ATTACK = "<script>alert(1)</script><img src=http://example.org/x.png onerror=alert(1)> & \"'"


class Page(HTMLParser):
    """Every tag with its attributes, the text, and whether the tags nest."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words: list[str] = []
        self.open: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "br", "img"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join("".join(self.words).split())


@pytest.fixture(scope="module")
def report() -> dict[str, Any]:
    return sample_report()


@pytest.fixture(scope="module")
def html(report: dict[str, Any]) -> str:
    return render(report)


def outside_references(page: Page) -> list[str]:
    """What the page would load: addresses in attributes that load, and tags that run or fetch."""
    loading = {"src", "srcset", "href", "xlink:href", "action", "poster", "data"}
    found = [f"{name}={value}" for tag, given in page.tags for name, value in given.items() if name in loading]
    return [item for item in found if "=#" not in item] + [t for t, _ in page.tags if t in ("script", "link", "iframe")]


def test_the_page_is_well_formed_and_loads_nothing(html: str) -> None:
    page = Page(html)
    assert page.open == []
    assert outside_references(page) == []
    assert "http://" not in html and "https://" not in html
    assert not re.search(r"@import|url\((?!#)", html)
    assert ("meta", "default-src 'none'; style-src 'unsafe-inline'") in [(t, a.get("content")) for t, a in page.tags]
    broken = html.replace("<main>", '<main><img src="http://example.org/x.png">')
    assert outside_references(Page(broken)) == ["src=http://example.org/x.png"]


def test_the_same_report_gives_the_same_bytes(report: dict[str, Any], html: str, tmp_path: Path) -> None:
    assert render(report) == html
    assert render(sample_report()) == html
    write_report(report, tmp_path / "report.html")
    assert (tmp_path / "report.html").read_bytes() == html.encode()
    other = {**report, "seed": report["seed"] + 1}
    assert render(other) != html


def test_what_documents_and_models_say_is_escaped() -> None:
    def spoil(answers: dict[str, list[Answer]]) -> None:
        answers["tuned"][0] = Answer(ATTACK, 1.0, 1)

    spoilt = sample_report(spoil)
    spoilt["questions"][0] |= dict.fromkeys(("question", "reference", "source", "section", "rule"), ATTACK)
    spoilt["questions"][1]["answers"]["base"] |= {"declined": True, "text": ATTACK}
    spoilt["dataset"]["skipped"][0] = {"source": ATTACK, "reason": ATTACK}
    spoilt["command"] = ATTACK
    spoilt["breakdown"]["source"][0]["name"] = ATTACK
    spoilt["leaks"]["documents"]["leaks"][0]["question"] = ATTACK
    spoilt["forgetting"]["questions"]["rows"][0]["after"]["text"] = ATTACK
    spoilt["questions"][2]["evidence"][0]["text"] = ATTACK
    page = Page(render(spoilt))
    assert outside_references(page) == []
    assert not any(name.startswith("on") for _, given in page.tags for name in given)
    assert page.text.count("<script>alert(1)</script>") == 14
    assert tag("p", "<b>", tag("i", "&"), title='"') == '<p title="&quot;">&lt;b&gt;<i>&amp;</i></p>'
    assert join(Markup("<b>"), "<b>") == "<b>&lt;b&gt;"  # the control: what is declared markup is not escaped


def test_every_question_and_answer_is_there_once(report: dict[str, Any], html: str) -> None:
    page = Page(html)
    assert sum(name == "article" for name, _ in page.tags) == len(report["questions"]) == 32
    text = page.text
    for row in report["questions"]:
        assert row["question"] in text
        for answer in row["answers"].values():
            assert " ".join(answer["text"].split()) in text


def test_the_contents_are_there(report: dict[str, Any], html: str) -> None:
    text = Page(html).text
    label, _, rest = report["verdict"].partition(": ")
    assert f"<h1>{label}</h1>" in html
    assert rest.partition("Chat")[2] in text
    for expected in (
        *report["reasons"],
        "The model was trained on these facts",
        "Share of answers that equal the reference",
        "scan-2019.pdf no text layer: the pages are pictures".replace(" no", "no"),
        "answer longer than 320 characters",
        "handbook/benefits-and-perks.md › Pitch",
        "train.epochs",
        report["command"],
        "1 min 44 s",
        "Overlap with training: leaked: 3 of 16 questions have a twin in training.",
        "The few-shot prompt of 2 questions has fewer than 4 examples.",
        "17,650 bytes",
        "+10%",
        "not measured, so nothing is said of it",
        "930 MB",
    ):
        assert expected in text, expected
    assert html.count("<svg") == 11  # two sets, three maps, four curves, two bars


def test_a_metric_of_your_own_stands_in_every_table_and_chart(report: dict[str, Any]) -> None:
    politeness = {"value": 3.5, "low": 2.0, "high": 5.0, "n": 16}
    scores = {s: {v: {**m, "politeness": politeness} for v, m in t.items()} for s, t in report["scores"].items()}
    config = {**report["config"], "evaluate": {**report["config"]["evaluate"], "metrics": ["mine.py:politeness"]}}
    page = render({**report, "scores": scores, "config": config})
    for name in scores:
        assert f'aria-label="politeness of each variant, set {name}"' in page
        assert f'aria-label="Token F1 of each variant, set {name}"' in page
    assert "politeness, with 95% intervals." in page and '<th scope="col">politeness</th>' in page
    assert "politeness of each variant" not in render({**report, "scores": scores})  # a column, but nobody asked for it
    output = StringIO()
    Console(file=output, width=110).print(terminal_table({**report, "scores": scores}))
    assert "politeness" in output.getvalue() and "3.50" in output.getvalue()


def test_charts_follow_the_theme(html: str) -> None:
    drawings = re.findall(r"<svg.*?</svg>", html, re.DOTALL)
    for drawing in drawings:
        assert "currentColor" in drawing and "var(--series-1)" in drawing
        assert "<text" in drawing and "<metadata" not in drawing
        assert set(re.findall(r"#[0-9a-f]{6}\b", drawing)) == set(), "a colour of one theme"
    ids = re.findall(r'<(?:path|clipPath|g|rect)[^>]* id="([^"]+)"', html)
    assert ids and len(ids) == len(set(ids))
    for used in re.findall(r'(?:url\(|href=")#((?:loss|scores|learning|map|bars|gradient|memory)[\w-]*-[^")]+)', html):
        assert used in ids


def test_missing_keys_are_named(report: dict[str, Any]) -> None:
    for key in KEYS:
        with pytest.raises(InputError, match=f"report: {key} missing"):
            render({name: value for name, value in report.items() if name != key})


def test_a_run_without_retrieval_or_measurements_still_renders(report: dict[str, Any]) -> None:
    small = {**report, "recall": {}, "reasons": [], "training": {**report["training"], "curve": [], "best_step": None}}
    for name in ("breakdown", "forgetting", "leaks", "left_out"):
        del small[name]
    small["scores"] = {"wordings": {v: report["scores"]["wordings"][v] for v in ("base", "tuned")}}
    text = Page(render(small)).text
    assert "Was the right passage found?" not in text and "Kept step" not in text
    assert "Topics" not in text and "Overlap with training" not in text


def test_worst_regressions_come_first(report: dict[str, Any]) -> None:
    order = [min(changes(row).values()) for row in worst_first(report["questions"])]
    assert order == sorted(order) and order[0] < 0
    rows = [{"answers": {"base": {"token_f1": a}, "tuned": {"token_f1": b}}} for a, b in ((0.2, 0.9), (0.9, 0.2))]
    assert worst_first(rows) == [rows[1], rows[0]]


def test_differing_words_are_marked() -> None:
    assert mark("Six weeks of leave.", "six WEEKS of pay") == "six WEEKS of <mark>pay</mark>"
    assert mark("a b", "a b") == "a b"
    assert mark("a b", "x y b z") == "<mark>x y</mark> b <mark>z</mark>"
    assert mark("a", "<b>") == "<mark>&lt;b&gt;</mark>"


def test_question_rows_name_file_and_section(report: dict[str, Any]) -> None:
    row = report["questions"][0]
    assert (row["source"], row["section"]) == (document().source, "Paid time off")
    assert set(row) == {
        *("set", "id", "question", "reference", "source", "section", "rule", "answers"),
        *("fact", "topic", "difficulty", "evidence"),
    }
    (piece,) = row["evidence"]
    assert piece["text"] == row["reference"] and piece["before"].strip() == "Paid time off"
    assert piece["before"] + piece["text"] in document().text and piece["after"].endswith(" …")


def test_only_changed_options_are_listed(report: dict[str, Any]) -> None:
    assert changed_options(report["config"]) == [("seed", 7, 42), ("train.epochs", 5.0, 0.0)]
    assert changed_options(Config().model_dump()) == []


def test_how_numbers_are_written() -> None:
    assert [number(x) for x in (0.1234, 9.996, 12.34, 99.96, 1234.5, 123456.0)] == [
        *("0.12", "10.0", "12.3", "100", "1,234", "1.2e+05"),
    ]
    assert [duration(x) for x in (1.24, 59.7, 104.2, 3725)] == ["1.2 s", "1 min 0 s", "1 min 44 s", "1 h 2 min"]
    scores = {"a": {"perplexity": {"value": 3.0}}, "b": {"perplexity": {"value": 2.0}}}
    assert best_value(scores, "perplexity") == 2.0
    assert best_value({"a": scores["a"]}, "perplexity") is None


def test_the_terminal_table_fits_80_columns(report: dict[str, Any]) -> None:
    wide = {"value": 123456789.0, "low": 1.0, "high": 2.0, "n": 16}
    scores = {s: {v: {**m, "perplexity": wide} for v, m in t.items()} for s, t in report["scores"].items()}
    output = StringIO()
    Console(file=output, width=80).print(terminal_table({**report, "scores": scores}))
    lines = output.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and "…" not in output.getvalue()
    f1 = report["scores"]["documents"]["tuned+retrieval"]["token_f1"]
    row = [line for line in lines if line.strip().startswith("tuned+retrieval")][1]
    assert f"{f1['value']:.2f}   {f1['low']:.2f} - {f1['high']:.2f}" in row
    assert sum(line.split()[-1:] == ["-"] for line in lines) == 0
    assert any(line.strip().startswith(f"{report['choice']} *") for line in lines)


@pytest.mark.parametrize("width", [80, 120])
def test_a_narrow_terminal_does_without_columns_and_says_so(report: dict[str, Any], width: int) -> None:
    more = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 16}
    scores = {
        name: {variant: {**row, "written_f1": more, "quoted": more} for variant, row in table.items()}
        for name, table in report["scores"].items()
    }
    output = StringIO()
    Console(file=output, width=width).print(terminal_table({**report, "scores": scores}))
    shown = output.getvalue()
    assert max(map(len, shown.splitlines())) <= width and "…" not in shown
    assert all(f" {variant} " in shown for variant in scores["documents"]) and "95% interval" in shown
    assert ("Not shown here for want of room, but in the report: chrF" in shown) == (width < 120)
    assert ("chrF" in shown.split("Not shown")[0]) == (width == 120)


CHROMIUM = shutil.which("chromium")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]


@dataclass
class Look:
    """What a browser saw of a page: how wide its content is, what it complained of, and what it asked for."""

    width: int
    complaints: list[str]
    requests: list[str]
    background: str


def look(html: str, folder: Path, width: int, theme: str) -> Look:
    from playwright.sync_api import sync_playwright

    folder.joinpath("report.html").write_text(html.replace("<details>", "<details open>"), encoding="utf-8")
    complaints: list[str] = []
    requests: list[str] = []
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        page = browser.new_page(viewport={"width": width, "height": 900}, color_scheme=theme)  # type: ignore[arg-type]
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / "report.html").as_uri())
        wide = page.evaluate("document.documentElement.scrollWidth")
        background = page.evaluate("getComputedStyle(document.body).backgroundColor")
        browser.close()
    return Look(wide, complaints, requests, background)


@pytest.mark.browser
@pytest.mark.skipif(CHROMIUM is None, reason="needs chromium")
def test_a_browser_shows_it_on_phone_and_desktop_in_both_themes(html: str, tmp_path: Path) -> None:
    seen = {(w, theme): look(html, tmp_path, w, theme) for w in (360, 1280) for theme in ("light", "dark")}
    for (width, _), one in seen.items():
        assert one.width == width and one.complaints == []
        assert one.requests == [(tmp_path / "report.html").as_uri()]
    assert seen[360, "light"].background != seen[360, "dark"].background
    wide = '<div style="width:500px">x</div><img src="http://127.0.0.1:9/x.png"><script>1</script>'
    broken = look(html.replace("<main>", f"<main>{wide}"), tmp_path, 360, "light")
    assert broken.width > 360 and len(broken.complaints) >= 2  # the controls: the policy refused picture and script
