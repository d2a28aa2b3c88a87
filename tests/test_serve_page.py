"""The built-in page in headless Chromium, against a real server with documents that mean harm."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from tinyforge.serve.page import POLICY

PAGE = files("tinyforge.serve").joinpath("page")
ARGUMENTS = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--disable-sync"]
EVIL = (
    "The password of the harbour is kept by <script>window.hurt=1</script> the captain "
    "<img src=http://evil.example/a onerror=window.hurt=2> and ![picture](http://evil.example/b.png) "
    "[link](javascript:window.hurt=3) 🚣 every evening."
)


def test_nothing_in_the_page_makes_markup_of_text_or_asks_elsewhere() -> None:
    script, markup, style = (PAGE.joinpath(name).read_text("utf-8") for name in ("page.js", "index.html", "page.css"))
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"):
        assert word not in script
    assert not re.search(r"https?://|//[a-z]+\.", script + markup + style)
    assert not re.search(r"\son\w+=|<script(?! type=\"module\" src=\"/page/)|style=", markup)
    assert "unsafe" not in POLICY and POLICY.startswith("default-src 'none'")
    assert re.search("inner" + "HTML", "x.innerHTML = 1")  # the control


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    from little import make_lively_base
    from live_server import live, make_build
    from retrieve_sample import handbook
    from tinyforge.config import RetrieveConfig
    from tinyforge.ingest.builder import TextBuilder
    from tinyforge.retrieve.index import Index

    folder = tmp_path_factory.mktemp("served")
    base = make_lively_base(folder / "base")
    build = make_build(base, folder / "build")
    out = TextBuilder()
    out.add("heading", "Harbour <b>Secrets</b>", level=1)
    out.add("paragraph", EVIL)
    document = out.document("<img src=x onerror=window.hurt=4>.md", {})
    shutil.rmtree(build / "index")
    Index.build(build / "index", [*handbook(), document], RetrieveConfig())  # type: ignore[call-arg]
    with live([f"handbook={build}", f"little={base}"]) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    sync = pytest.importorskip("playwright.sync_api")
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    with sync.sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=chromium, args=ARGUMENTS)
        yield running
        running.close()


class Visit:
    """A page with a note of everything that it asked for and complained about."""

    def __init__(self, browser: Any, url: str, **options: Any) -> None:
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.asked: list[str] = []
        self.complaints: list[str] = []
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda told: self.complaints.append(told.text) if told.type == "error" else None)
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.on("dialog", lambda dialog: self.complaints.append("a dialog") or dialog.dismiss())
        self.page.goto(url)
        self.page.wait_for_selector("#model:not([disabled])")

    def ask(self, text: str) -> None:
        self.page.fill("#message", text)
        self.page.keyboard.press("Enter")
        self.page.wait_for_selector("#status:text-is('Answered.')", timeout=120_000)

    def hosts(self) -> set[str]:
        return {urlsplit(url).netloc for url in self.asked if not url.startswith("data:")}


@pytest.mark.browser
def test_a_question_is_answered_and_its_citation_opens(server: Any, browser: Any, tmp_path: Path) -> None:
    visit = Visit(browser, server.url)
    page = visit.page
    visit.ask("What does a membership card cost?")
    assert "A membership card costs 12 euros per year." in page.inner_text("#log .theirs .text")
    assert not page.is_visible("#log details mark")
    page.click("#log sup a")
    page.wait_for_selector("#log details[open] mark")
    assert page.inner_text("#log details mark") == "A membership card costs 12 euros per year."
    assert "Children under 14 join for free." in page.inner_text("#log details .text")
    assert page.evaluate("document.activeElement.tagName") == "SUMMARY"
    visit.ask("And for children?")
    assert page.locator("#log > li").count() == 4
    assert visit.complaints == [] and visit.hosts() == {f"127.0.0.1:{server.port}"}


@pytest.mark.browser
def test_a_hostile_document_triggers_nothing(server: Any, browser: Any) -> None:
    visit = Visit(browser, server.url)
    visit.ask("Who keeps the password of the harbour every evening?")
    page = visit.page
    page.eval_on_selector_all("#log details", "all => all.forEach(one => one.open = true)")
    shown = page.inner_text("#log details")
    assert "<script>window.hurt=1</script>" in shown and "javascript:window.hurt=3" in shown and "🚣" in shown
    assert page.inner_text("#log details mark").startswith("The password of the harbour")
    assert page.evaluate("window.hurt") is None
    assert page.locator("#log img, #log script, #log b, #log a[href^='javascript']").count() == 0
    assert visit.hosts() == {f"127.0.0.1:{server.port}"} and visit.complaints == []
    page.evaluate("() => { const i = new Image(); i.src = 'http://evil.example/c.png'; document.body.append(i); }")
    page.wait_for_timeout(300)
    assert any("Content Security Policy" in told for told in visit.complaints)  # the control: the policy holds


@pytest.mark.browser
def test_a_stream_is_seen_while_it_grows_and_can_be_stopped(server: Any, browser: Any) -> None:
    visit = Visit(browser, server.url)
    page = visit.page
    page.select_option("#model", "little")
    page.fill("#message", "Tell me about loans")
    page.keyboard.press("Enter")
    lengths = set()
    for _ in range(200):
        lengths.add(len(page.inner_text("#log .theirs .text") if page.locator("#log .theirs").count() else ""))
        if len(lengths) > 4:
            break
        page.wait_for_timeout(10)
    assert len(lengths) > 2
    page.keyboard.press("Escape")
    page.wait_for_selector("#send:visible")
    server.until_idle()


@pytest.mark.browser
@pytest.mark.parametrize(("scheme", "width"), [("light", 1200), ("dark", 360)])
def test_it_fits_and_can_be_read(server: Any, browser: Any, scheme: str, width: int, tmp_path: Path) -> None:
    visit = Visit(browser, server.url, color_scheme=scheme, viewport={"width": width, "height": 740})
    page = visit.page
    visit.ask("When does the library open?")
    page.click("#log sup a")
    page.screenshot(path=tmp_path / f"{scheme}.png")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate(_CONTRAST, ["#log .text", "body"]) >= 4.5
    assert page.evaluate(_CONTRAST, ["#status", "body"]) >= 4.5
    for name in ("#message", "#send", "#model"):
        assert page.locator(name).bounding_box()["height"] >= 40  # large enough for a thumb
    names = page.evaluate(
        "[...document.querySelectorAll('button,select,textarea')].map(e => e.labels?.length || e.textContent)"
    )
    assert all(names)


_CONTRAST = """([front, back]) => {
  const light = (colour) => {
    const [r, g, b] = colour.match(/[\\d.]+/g).slice(0, 3).map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  const a = light(getComputedStyle(document.querySelector(front)).color);
  const b = light(getComputedStyle(document.querySelector(back)).backgroundColor);
  return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
}"""
"""WCAG 2.1's contrast ratio between a text's colour and its ground."""
